package kubernetes

import (
	"context"
	"errors"
	"net"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// TestAsk: what is to be followed is asked for again while the cluster does not
// answer, and no longer.
func TestAsk(t *testing.T) {
	away := &url.Error{Op: "Get", URL: "https://api/", Err: &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}}
	no := &job.Failure{Cause: job.Forbidden, Message: "no"}
	note := []string{`Kubernetes cluster not available: Get "https://api/": dial tcp: connection refused; waiting for up to 2m0s`}
	for _, test := range []struct {
		name    string
		patient bool
		answer  func(after time.Duration) error
		took    time.Duration
		err     error
		notes   []string
	}{
		{name: "an answer", patient: true, answer: func(time.Duration) error { return nil }},
		{name: "a refusal", patient: true, answer: func(time.Duration) error { return no }, err: no},
		{name: "away, and back", patient: true, took: 20 * time.Second, notes: note, answer: func(after time.Duration) error {
			if after < 20*time.Second {
				return away
			}
			return nil
		}},
		{name: "away", patient: true, took: FirstWait, notes: note, err: away, answer: func(time.Duration) error { return away }},
		{name: "a look at what is", answer: func(time.Duration) error { return away }, err: away},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, notes := time.Now(), []string(nil)
				_, err := Ask(t.Context(), test.patient, func(s string) { notes = append(notes, s) },
					func(context.Context) (int, error) { return 0, test.answer(time.Since(began)) })
				if took := time.Since(began); !errors.Is(err, test.err) || took != test.took || !slices.Equal(notes, test.notes) {
					t.Errorf("got %v after %s, said %q", err, took, notes)
				}
			})
		})
	}
}
