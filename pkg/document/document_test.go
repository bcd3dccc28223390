package document

import (
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"
)

// Nothing in data commands a terminal, and all of it is still there.
func TestHostile(t *testing.T) {
	type data struct {
		Text string `json:"text"`
	}
	for _, text := range []string{"plain", "a\x1b\x7f\u009b2J\u202eb\u2066ü✓", "\uffff", "<&>\r"} {
		for name, marshal := range map[string]func(any, string) ([]byte, error){"json": JSON, "yaml": YAML} {
			for _, indent := range []string{"", "    "} {
				b, err := marshal(data{text}, indent)
				if err != nil || strings.ContainsFunc(string(b), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
					t.Errorf("%s: %q, %v", name, b, err)
				}
				var v data
				if err := yaml.Unmarshal(b, &v); err != nil || v.Text != text {
					t.Errorf("%s: %q read back as %q, %v", name, text, v.Text, err)
				}
			}
		}
	}
}

func TestEscape(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"plain", "-\ta: ü✓\n", "-\ta: ü✓\n"},
		{"ASCII", "a\x1b[2J\r\x00", `a\u001b[2J\u000d\u0000`},
		{"above", "\x7f\u009b\u202e\uffff", `\u007f\u009b\u202e\uffff`},
		{"no text", "\xff\u009b", "\xff" + `\u009b`},
		{"emoji", "\U0001f600", "\U0001f600"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := string(Escape([]byte(test.text))); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
