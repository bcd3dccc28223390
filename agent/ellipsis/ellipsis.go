// Package ellipsis shortens text. [Cut] is all of it. It counts bytes, not what a terminal shows.
package ellipsis

import "unicode/utf8"

// Cut returns s of at most n bytes, with dots for what is missing. It cuts no character in two; where
// there is no room for the dots, they are all that it returns.
func Cut(s string, n int) string {
	const dots = "..."
	if len(s) <= n {
		return s
	}
	n = max(n-len(dots), 0)
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + dots
}
