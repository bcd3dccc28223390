package command

import (
	"strings"
	"testing"
)

// TestHabits: each word has one hint, the first, so it stands in a table but once.
func TestHabits(t *testing.T) {
	for name, table := range map[string]map[string][]habit{"commands": commandHabits, "flags": flagHabits} {
		for command, habits := range table {
			seen := map[string]bool{}
			for _, h := range habits {
				for _, word := range strings.Fields(h.words) {
					if seen[word] {
						t.Errorf("%s of %s: %s is there twice", name, command, word)
					}
					seen[word] = true
					if got := hintFor(habits, word); got != h.hint {
						t.Errorf("%s of %s, %s: got %q, want %q", name, command, word, got, h.hint)
					}
				}
			}
		}
	}
	if got := hintFor(flagHabits["run"], "nope"); got != "" {
		t.Errorf("got %q for a word that nobody types", got)
	}
}
