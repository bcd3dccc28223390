package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// TestOutOfReach: who has lost the cluster is told that the job goes on, and how to come
// back.
func TestOutOfReach(t *testing.T) {
	lost := func(cause job.Cause) error {
		return &job.Failure{Cause: cause, Message: "gone", Hint: "kubectl", Err: fmt.Errorf("%w: x", kubernetes.ErrLost)}
	}
	for _, test := range []struct {
		name      string
		err       error
		want, tip string
	}{
		{"nothing", nil, "", ""},
		{"another error", errors.New("no"), "no", ""},
		{"the login", lost(job.Forbidden), "gone; job x goes on", "log in anew, or get the right back, then: {hodei} logs -f x"},
		{"the cluster", lost(job.ConfigError), "gone; job x goes on", "{hodei} logs -f x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := outOfReach(test.err, "x", "{hodei} logs -f x")
			text, tip := "", ""
			if err != nil {
				text = err.Error()
			}
			if h, ok := errors.AsType[*job.Hinted](err); ok {
				tip = h.Hint
			}
			if text != test.want || tip != test.tip {
				t.Errorf("got %q, hint %q", text, tip)
			}
		})
	}
}
