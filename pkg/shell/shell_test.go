package shell

import (
	"os/exec"
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"certs/ca.crt":   "certs/ca.crt",
		"":               "''",
		"my certs":       "'my certs'",
		"it's":           `'it'\''s'`,
		"$HOME;rm -rf":   "'$HOME;rm -rf'",
		"~/certs":        "'~/certs'",
		"a\nb":           "'a\nb'",
		"a\n":            "'a\n'",
		"\x1b[2J it's\\": `$'\x1b[2J it\'s\\'`,
		"caf\xe9":        `$'caf\xe9'`,
		"\u202eé\u009b":  `$'\xe2\x80\xaeé\xc2\x9b'`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// A shell gives back what was quoted.
func FuzzQuote(f *testing.F) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		f.Skip("no bash")
	}
	for _, s := range []string{"", "a b", "it's", "\x1b]0;x\x07", "caf\xe9", `\x41\'`, "\u202e$HOME", "a\nb\t", "\ufffd\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) || len(s) > 10_000 {
			return
		}
		quoted := Quote(s)
		if strings.ContainsFunc(quoted, func(r rune) bool { return !shown(r) }) {
			t.Errorf("%q is quoted as %q", s, quoted)
		}
		got, err := exec.Command(bash, "-c", "printf %s "+quoted).Output()
		if err != nil || string(got) != s {
			t.Errorf("%q is read as %q, %v", s, got, err)
		}
	})
}
