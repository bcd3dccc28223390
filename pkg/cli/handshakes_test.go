package cli

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestHandshakes(t *testing.T) {
	refusal := errors.New("remote error: tls: bad certificate")
	told := func(c <-chan error) bool {
		select {
		case err := <-c:
			return errors.Is(err, refusal)
		default:
			return false
		}
	}
	tests := []struct {
		name           string
		took           func(h *handshakes)
		refused, given bool
	}{
		{"none", func(*handshakes) {}, false, false},
		{"one amid a replacement", func(h *handshakes) { h.took(refusal); h.took(nil) }, false, false},
		{"three", func(h *handshakes) {
			for range 3 {
				h.took(refusal)
			}
		}, true, false},
		{"in vain", func(h *handshakes) {
			for range 10 {
				h.took(refusal)
				time.Sleep(15 * time.Second)
			}
		}, true, true},
		{"until the kubelet has brought the new ones", func(h *handshakes) {
			for range 6 {
				h.took(refusal)
				time.Sleep(15 * time.Second)
			}
			h.took(nil)
			for range 2 {
				time.Sleep(10 * time.Minute)
				h.took(refusal)
			}
		}, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHandshakes()
				tt.took(h) // nobody listens: it must not wait
				if refused := told(h.refused); refused != tt.refused {
					t.Errorf("said that there are refusals: %v, want %v", refused, tt.refused)
				}
				if given := told(h.given); given != tt.given {
					t.Errorf("given up: %v, want %v", given, tt.given)
				}
			})
		})
	}
}

// refusing is a job whose agents and we refuse each other.
type refusing struct{ *fakeJob }

func (refusing) Refused(err error) *job.Failure {
	return &job.Failure{Cause: job.ConfigError, Message: "refused: " + err.Error(), Hint: "compare the clocks"}
}

// A session whose handshakes are refused for good ends, and the job goes on.
func TestSessionRefused(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "json")
	o := &runOptions{app: &app{name: "hodei"}, spec: &job.Spec{Name: "x"}, place: nowhere{}, screen: f.screen, events: f.events}
	j := refusing{newFakeJob()}
	s := &session{runOptions: o, job: j, follower: f}
	h := newHandshakes()
	h.refused <- errors.New("bad certificate")
	h.given <- errors.New("bad certificate")
	err := s.await(t.Context(), nil, nil, h)
	exit, ok := errors.AsType[*exitError](err)
	tip, _ := errors.AsType[*hinted](err)
	if !ok || exit.code != 125 || err.Error() != "refused: bad certificate; job x goes on" || tip == nil || tip.hint != "compare the clocks" {
		t.Errorf("got %v", err)
	}
	if j.deleted.Load() {
		t.Error("the job was deleted")
	}
}
