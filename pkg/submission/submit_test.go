package submission

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

// What follows from a result or a signal while a job is being made.
func TestDecide(t *testing.T) {
	refused := errors.New("refused")
	result := func(err error) event { return event{made: &made{err: err}} }
	for _, test := range []struct {
		name        string
		interrupted bool
		event       event
		want        step
	}{
		{"made", false, result(nil), followJob},
		{"refused", false, result(refused), tellFailure},
		{"cancelled from above", false, result(context.Canceled), tellFailure},
		{"interrupted too late", true, result(nil), removeJob},
		{"interrupted", true, result(context.Canceled), tellNothingLeft},
		{"interrupted, and refused", true, result(refused), tellFailure},
		{"interrupted, and more went wrong", true, result(fmt.Errorf("delete: %w", context.Canceled)), tellFailure},
		{"Ctrl-C", false, event{signal: os.Interrupt}, cancelMaking},
		{"SIGHUP", false, event{signal: syscall.SIGHUP}, cancelMaking},
		{"Ctrl-C again", true, event{signal: os.Interrupt}, leaveUnanswered},
		{"for the command", false, event{signal: syscall.SIGUSR1}, sayNotYet},
		{"for the command, after Ctrl-C", true, event{signal: syscall.SIGUSR1}, sayNotYet},
		{"no answer after Ctrl-C", true, event{}, leaveUnanswered},
	} {
		if got := decide(test.interrupted, test.event); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
