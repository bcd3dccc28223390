package job

import "testing"

func TestWords(t *testing.T) {
	for _, test := range []struct {
		name string
		list []string
		want string
	}{
		{"none", nil, ""},
		{"one", []string{"a"}, "a"},
		{"two", []string{"a", "b"}, "a and b"},
		{"three", []string{"a", "b", "c"}, "a, b and c"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Words(test.list); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
