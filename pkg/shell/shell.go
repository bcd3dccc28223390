// Package shell knows the words of a command line as sh(1) takes them: how to write one down so that
// it can be typed ([Quote], [Line]), and what only a shell can run ([Needs], [Text], [Inline]). It runs nothing.
package shell

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var safe = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// Quote returns s as a shell takes it for one word. What could command a terminal is
// escaped, as bash, zsh and ksh take it: it is shown, and it is typed.
func Quote(s string) string {
	switch {
	case safe.MatchString(s):
		return s
	case strings.ContainsFunc(s, func(r rune) bool { return !shown(r) }):
		return "$'" + escapeWord(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// shown tells what can be written as it is within a word. A line's end is a script's.
func shown(r rune) bool {
	return r == '\n' || r == '\t' || unicode.IsPrint(r) && r != utf8.RuneError
}

// escapeWord writes s for between $' and ': all bytes of a rune that is not shown as \xHH.
func escapeWord(s string) string {
	var b strings.Builder
	for i, r := range s {
		_, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case shown(r):
			b.WriteRune(r)
		default:
			for _, c := range []byte(s[i : i+size]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
	}
	return b.String()
}

// Line returns a command as a shell takes it.
func Line(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = Quote(word)
	}
	return strings.Join(words, " ")
}
