package launcher

import "testing"

func TestParseStat(t *testing.T) {
	for text, want := range map[string]stat{
		"12 (sh) S 1 12 11 34816 12 4194304": {'S', 1, 11},
		"12 (a) S 1 (b) 3) Z 7 12 11 0":      {'Z', 7, 11},
		"12 (sh) S 1 12":                     {},
		"":                                   {},
	} {
		if got := parseStat([]byte(text)); got != want {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}
