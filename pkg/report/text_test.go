package report

import (
	"slices"
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	long := strings.Repeat("x", 40)
	for _, test := range []struct {
		name, text string
		want       []string
	}{
		{"empty", "", []string{""}},
		{"one line", "no thread waited", []string{"no thread waited"}},
		{"two lines", "no thread waited for a CPU", []string{"no thread waited for", "a CPU"}},
		{"a long word", "a " + long + " b", []string{"a", fit("note", long, 120), "b"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := wrap("note", test.text, 120)
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			for _, line := range got {
				if width := textWidth("note", line); width > 120 {
					t.Errorf("%q is %v wide", line, width)
				}
			}
		})
	}
}

func TestTextWidth(t *testing.T) {
	for _, test := range []struct {
		size, text string
		want       float64
	}{
		{"note", "", 0},
		{"note", "0.5 s", 29.7}, // ceil(12 × (569+278+569+249+515)/1000) × 1.1, in pixels
		{"note", "µ", 8.8},
		{"note", "世界", 26.4},
		{"code", "世a", 16.12},
	} {
		if got := textWidth(test.size, test.text); got < test.want-0.01 || got > test.want+0.01 {
			t.Errorf("%s %q: %v, want %v", test.size, test.text, got, test.want)
		}
	}
}
