package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// TestPatiently: what is to be followed is asked for again while the cluster does not
// answer, and no longer.
func TestPatiently(t *testing.T) {
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
		{name: "away", patient: true, took: kubernetes.FirstWait, notes: note, err: away, answer: func(time.Duration) error { return away }},
		{name: "a look at what is", answer: func(time.Duration) error { return away }, err: away},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, notes := time.Now(), []string(nil)
				_, err := asking(t.Context(), test.patient, func(s string) { notes = append(notes, s) },
					func(context.Context) (int, error) { return 0, test.answer(time.Since(began)) })
				if took := time.Since(began); !errors.Is(err, test.err) || took != test.took || !slices.Equal(notes, test.notes) {
					t.Errorf("got %v after %s, said %q", err, took, notes)
				}
			})
		})
	}
}

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
