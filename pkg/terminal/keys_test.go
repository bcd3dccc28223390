package terminal

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseKeys(t *testing.T) {
	for _, test := range []struct {
		text string
		want string
		err  string
	}{
		{"", "", ""},
		{DefaultDetachKeys, "\x1dd", ""},
		{"ctrl-p,ctrl-q", "\x10\x11", ""},
		{"ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", "\x00\x1b\x1c\x1d\x1e\x1f", ""},
		{"ctrl-a", "\x01", ""},
		{"~,.", "~.", ""},
		{"-,c", "-c", ""},
		{"x", "", "one character alone"},
		{"ctrl-A", "", `key "ctrl-A"`},
		{"ctrl-", "", `key "ctrl-"`},
		{"ctrl-ab", "", `key "ctrl-ab"`},
		{"ctrl-1", "", `key "ctrl-1"`},
		{"a,,b", "", `key ""`},
		{"a, b", "", `key " b"`},
		{"ä,b", "", `key "ä"`},
		{strings.Repeat("a,", 16) + "a", "", "17 keys"},
	} {
		got, err := ParseKeys(test.text)
		if string(got) != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("ParseKeys(%q) = %q, %v", test.text, got, err)
		}
	}
}

// FuzzMatcher compares what goes to the command with a search through all that is typed.
func FuzzMatcher(f *testing.F) {
	f.Add([]byte("\x1dd"), []byte("ls\r\x1d\x1dd"), uint8(1))
	f.Add([]byte("aab"), []byte("aaaab"), uint8(2))
	f.Add([]byte("abab"), []byte("abaabab"), uint8(3))
	f.Add([]byte(""), []byte("abc"), uint8(0))
	f.Fuzz(func(t *testing.T, keys, typed []byte, step uint8) {
		if len(keys) > maxKeys {
			t.Skip("no such sequence")
		}
		m := &matcher{keys: keys}
		var got []byte
		matched := false
		for rest := typed; len(rest) > 0 && !matched; {
			n := min(len(rest), int(step)+1)
			got, matched = m.take(got, rest[:n])
			rest = rest[n:]
		}
		want, at := typed, -1
		if len(keys) > 0 {
			at = bytes.Index(typed, keys)
		}
		if at >= 0 {
			want = typed[:at]
		} else {
			for n := min(len(keys)-1, len(typed)); n > 0; n-- {
				if bytes.HasSuffix(typed, keys[:n]) {
					want = typed[:len(typed)-n]
					break
				}
			}
		}
		if matched != (at >= 0) || !bytes.Equal(got, want) {
			t.Errorf("%q of %q with %q, matched %t; want %q, %t", got, typed, keys, matched, want, at >= 0)
		}
	})
}
