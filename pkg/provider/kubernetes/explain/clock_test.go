package explain

import (
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/certs"
)

func TestClockHint(t *testing.T) {
	for _, tt := range []struct{ message, want string }{
		{"client.crt: " + certs.ErrNotYetValid.Error() + ": it begins", "compare the clocks"},
		{"client.crt: " + certs.ErrExpired.Error() + ": it ended",
			"of a job that takes longer they have to be renewed before their end: {hodei} certs rotate --job x -n ns; if it has not come " +
				"yet, compare"},
		{"no space left", ""},
	} {
		if got := ClockHint(tt.message, "ns", "x"); !strings.HasPrefix(got, tt.want) || tt.want == "" && got != "" {
			t.Errorf("%s: %q, want %q", tt.message, got, tt.want)
		}
	}
}
