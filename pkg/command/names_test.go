package command

import (
	"testing"

	"github.com/spf13/cobra"
)

func TestNames(t *testing.T) {
	for _, test := range []struct {
		least, most int
		args        []string
		want        string
	}{
		{0, 1, nil, ""}, {1, 1, []string{"a"}, ""}, {0, 2, []string{"a", "b"}, ""},
		{1, 1, nil, "no name is given"},
		{0, 1, []string{"a", "b", "c"}, `one name is taken, and "b" is one more`},
		{0, 2, []string{"a", "b", "c"}, `two names are taken, and "c" is one more`},
	} {
		err := Names(test.least, test.most)(&cobra.Command{Use: "x"}, test.args)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%d to %d of %q: %q, want %q", test.least, test.most, test.args, got, test.want)
		}
	}
}
