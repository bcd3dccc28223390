// Package document prints data as JSON or YAML in which nothing commands a terminal, whatever the
// texts in it are: the names, commands and messages of jobs are chosen by strangers. Start with
// [JSON] and [YAML] for values of hodei's own, [Printer] for Kubernetes objects, [LinePrinter] for
// their names, and [Escape] for a document that is there already.
//
// It chooses no format, and knows no stream but the io.Writer that an object is printed to. Text for
// people is made printable by pkg/ui.
package document

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// JSON returns v as JSON with a newline at its end and with no character that commands a terminal;
// see [Escape]. indent indents each level; empty: all is one line.
func JSON(v any, indent string) ([]byte, error) {
	b, err := marshalJSON(v, indent)
	if err != nil {
		return nil, err
	}
	return Escape(append(b, '\n')), nil
}

// YAML returns v as YAML without characters that command a terminal. The YAML library refuses such
// characters, or writes them as they are: where v holds some, the result is JSON with indent, which
// is YAML too.
func YAML(v any, indent string) ([]byte, error) {
	b, err := marshalJSON(v, indent)
	if err != nil {
		return nil, err
	}
	if Plain(b) {
		return yaml.Marshal(v)
	}
	return Escape(append(b, '\n')), nil
}

func marshalJSON(v any, indent string) ([]byte, error) {
	if indent == "" {
		return json.Marshal(v)
	}
	return json.MarshalIndent(v, "", indent)
}

// Escape returns JSON in which each character that could command a terminal, or turn the order of a
// line around, is written as \u and four digits; JSON itself escapes nothing above the ASCII controls.
// The document means the same as before. It returns b itself if there is nothing to escape.
func Escape(b []byte) []byte {
	if Plain(b) {
		return b
	}
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if isTerminalControl(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// Plain reports whether there is nothing to escape in b.
func Plain(b []byte) bool { return bytes.IndexFunc(b, isTerminalControl) < 0 }

// isTerminalControl reports whether r is an ASCII control but tab and newline, DEL, a C1 control, a
// Unicode format character (a bidi override is one) or one of the two noncharacters that YAML's
// readers refuse. No format character above U+FFFF does anything to a terminal.
func isTerminalControl(r rune) bool {
	switch {
	case r == '\t', r == '\n', r > 0xffff:
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf) || r >= 0xfffe
}
