package kubernetes

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/clock"
)

// roundTripper is an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// clockOff is a clock that is ahead of ours by so much.
func clockOff(ahead time.Duration) *clock.Clock {
	c := &clock.Clock{}
	answer := c.Wrap(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{Header: http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}}, nil
	}))
	_, _ = answer.RoundTrip(nil) //nolint:bodyclose // it has none, and no error
	return c
}

func TestClockNote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for ahead, want := range map[time.Duration]bool{0: false, 4 * time.Minute: false, -4 * time.Minute: false, 5 * time.Minute: true,
			-time.Hour: true} {
			note := (&Run{provider: &Provider{clock: clockOff(ahead)}}).clockNote()
			if (note != "") != want {
				t.Errorf("%s ahead: %q", ahead, note)
			}
			if want && (!strings.Contains(note, stamp(time.Now())) || !strings.Contains(note, stamp(time.Now().Add(ahead)))) {
				t.Errorf("%s ahead: %q does not say both clocks", ahead, note)
			}
		}
	})
}
