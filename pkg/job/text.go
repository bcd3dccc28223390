package job

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// notInYAML matches what no YAML document may hold, escaped or not, for the readers
// that Kubernetes' tools use: DEL, the C1 controls, and two code points that are no
// characters. The other controls can be escaped.
var notInYAML = regexp.MustCompile(`[\x7f-\x{9f}\x{fffe}\x{ffff}]`)

// FitsYAML tells whether a text, which is UTF-8, can be read back from YAML.
func FitsYAML[T string | []byte](text T) bool { return !notInYAML.Match([]byte(text)) }

// CheckText refuses a text that Kubernetes can't carry. Its API knows UTF-8 alone, a
// process can be given no NUL, and one Job with a character that YAML does not know
// makes kubectl get jobs -o yaml fail for all jobs of the namespace. The error says
// what the text holds, as the end of a sentence.
func CheckText(s string) error {
	for i, r := range s {
		if _, size := utf8.DecodeRuneInString(s[i:]); r == utf8.RuneError && size == 1 {
			return fmt.Errorf("the byte 0x%02x, which is not UTF-8", s[i])
		}
	}
	if strings.ContainsRune(s, 0) {
		return errors.New("a NUL byte")
	}
	if c := notInYAML.FindString(s); c != "" {
		r, _ := utf8.DecodeRuneInString(c)
		return fmt.Errorf("the character %U, which YAML can't carry", r)
	}
	return nil
}

// checkText is CheckText of a field of a Spec. Its hint makes the same text in the container.
func checkText(path, text string) error {
	err := CheckText(text)
	if err == nil {
		return nil
	}
	e := WrongField(path, "holds %v", err)
	if strings.ContainsRune(text, 0) { // which no program takes, from whomever
		return e
	}
	return e.WithHint("have a shell in the container write it: {hodei} run -- sh -c 'printf " + octal(text) + "'")
}

// octal writes a text as printf of a shell takes it, in double quotes: what is not
// plain ASCII as \ooo. What is long is cut.
func octal(s string) string {
	const most = 40 // bytes: it is an example
	var b strings.Builder
	for i := range min(len(s), most) {
		switch c := s[i]; {
		case c <= ' ' && c != ' ', c >= 0x7f, strings.IndexByte("\"\\$`'%!", c) >= 0:
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return `"` + b.String() + `"`
}

// Words joins a list as a sentence does: a, b and c. An empty list is "".
func Words(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return fmt.Sprintf("%s and %s", strings.Join(list[:len(list)-1], ", "), list[len(list)-1])
}
