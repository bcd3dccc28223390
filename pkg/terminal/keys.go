package terminal

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// DefaultDetachKeys are a key that nobody types into a shell, and a letter, so that no key of a program is
// held back.
const DefaultDetachKeys = "ctrl-],d"

// maxKeys is more keys than anybody types to leave.
const maxKeys = 16

// Keys is a sequence of keys, as the bytes that a terminal sends for them. None: there is no such sequence.
type Keys []byte

// ParseKeys parses keys as docker writes them: single characters and ctrl-X, with commas in between. X is a
// letter or one of @ [ \ ] ^ _. The empty text is no sequence.
func ParseKeys(text string) (Keys, error) {
	if text == "" {
		return nil, nil
	}
	var keys Keys
	for name := range strings.SplitSeq(text, ",") {
		control, isControl := strings.CutPrefix(name, "ctrl-")
		switch {
		case isControl && len(control) == 1 && (control[0] >= 'a' && control[0] <= 'z' || strings.Contains(`@[\]^_`, control)):
			keys = append(keys, control[0]&0x1f)
		case len(name) == 1 && name[0] > ' ' && name[0] < 0x7f:
			keys = append(keys, name[0])
		default:
			return nil, fmt.Errorf("key %q: want a character, or ctrl- and a letter or one of @ [ \\ ] ^ _", name)
		}
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, at most %d can be a sequence", len(keys), maxKeys)
	}
	if len(keys) == 1 && keys[0] >= ' ' {
		return nil, errors.New("one character alone would leave as soon as it is typed: add another key")
	}
	return keys, nil
}

// matcher looks for keys in what is typed.
type matcher struct {
	keys Keys
	n    int // so many of them were typed last, and are held back
}

// take appends to out what of typed goes to the command, and tells whether the keys were typed: what comes
// after them goes nowhere. What may be the beginning of the keys is held back until the next key.
func (m *matcher) take(out, typed []byte) (_ []byte, matched bool) {
	if len(m.keys) == 0 {
		return append(out, typed...), false
	}
	for _, b := range typed {
		held := append(bytes.Clone(m.keys[:m.n]), b)
		// What is held back from now on is the longest end of it with which the keys begin.
		from := 0
		for !bytes.HasPrefix(m.keys, held[from:]) {
			from++
		}
		out = append(out, held[:from]...)
		if m.n = len(held) - from; m.n == len(m.keys) {
			return out, true
		}
	}
	return out, false
}
