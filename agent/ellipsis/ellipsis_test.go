package ellipsis

import "testing"

func TestCut(t *testing.T) {
	tests := []struct {
		name string
		s    string
		n    int
		want string
	}{
		{"fits", "hello", 5, "hello"},
		{"too long", "hello, world", 8, "hello..."},
		{"within a character", "aüüü", 6, "aü..."},
		{"at a character", "aüüü", 5, "a..."},
		{"no room", "hello", 2, "..."},
		{"nothing", "", 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Cut(test.s, test.n); got != test.want {
				t.Errorf("Cut(%q, %d) = %q, want %q", test.s, test.n, got, test.want)
			}
		})
	}
}
