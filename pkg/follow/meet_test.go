package follow

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// What happens while an agent is waited for ends the wait, is told, or neither.
func TestMeet(t *testing.T) {
	type meeting struct {
		came    chan string
		refused chan *job.Failure
		ended   func(*job.Outcome, error)
		fail    context.CancelCauseFunc
	}
	refusal, broken := &job.Failure{Message: "bad certificate"}, errors.New("broken")
	for _, test := range []struct {
		name    string
		endless bool // and refusals are told
		happens func(m meeting)
		want    string
		err     error
		after   time.Duration
		slow    bool
		told    int
	}{
		{"it is there", false, func(m meeting) { m.came <- "x-1" }, "x-1", nil, 0, false, 0},
		{"it is slow", false, func(m meeting) {
			time.Sleep(meetSay + time.Second)
			m.came <- "x-1"
		}, "x-1", nil, meetSay + time.Second, true, 0},
		{"it does not come", false, func(meeting) {}, "", ErrLate, MeetWait, true, 0},
		{"it comes after a long time", true, func(m meeting) {
			time.Sleep(time.Hour)
			m.came <- "x-1"
		}, "x-1", nil, time.Hour, true, 0},
		{"certificates are refused", false, func(m meeting) { m.refused <- refusal }, "", refusal, 0, false, 0},
		{"certificates are refused, and replaced", true, func(m meeting) {
			m.refused <- refusal
			time.Sleep(time.Second)
			m.came <- "x-1"
		}, "x-1", nil, time.Second, false, 1},
		{"the job ends", true, func(m meeting) { m.ended(&job.Outcome{}, nil) }, "", ErrNotMet, 0, false, 0},
		{"the job ends, and it was there", true, func(m meeting) {
			m.came <- "x-1"
			m.ended(&job.Outcome{}, nil)
		}, "x-1", nil, 0, false, 0},
		{"it can't be watched", false, func(m meeting) { m.ended(nil, broken) }, "", broken, 0, false, 0},
		{"it can't be served", false, func(m meeting) { m.fail(broken) }, "", broken, 0, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, fail := context.WithCancelCause(t.Context())
				defer fail(nil)
				over, ended := NewEnd()
				m := meeting{make(chan string, 1), make(chan *job.Failure, 1), ended, fail}
				slow, told := false, 0
				p := Patience{Endless: test.endless, Slow: func() { slow = true }}
				if test.endless {
					p.Refused = func(*job.Failure) { told++ }
				}
				go test.happens(m)
				begun := time.Now()
				got, err := Meet(ctx, &Events{Refused: m.refused, Over: over}, m.came, p)
				if got != test.want || !errors.Is(err, test.err) || test.err == nil && err != nil {
					t.Errorf("got %q, %v, want %q, %v", got, err, test.want, test.err)
				}
				if took := time.Since(begun); took != test.after {
					t.Errorf("after %s, want %s", took, test.after)
				}
				if slow != test.slow || told != test.told {
					t.Errorf("slow: %v, want %v; told %d times, want %d", slow, test.slow, told, test.told)
				}
			})
		})
	}
}
