package session

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

func TestReact(t *testing.T) {
	const in, term, hup, quit, usr1 = syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1
	starts, runs := standing{}, standing{runs: true}
	attached, waits := standing{attached: true, runs: true}, standing{attached: true}
	blind := standing{runs: true, fallback: true}
	over := standing{runs: true, over: true}
	here := standing{runs: true, here: true}
	told := func(s standing) standing { s.warned = true; return s }
	for _, test := range []struct {
		name                      string
		standing                  standing
		in, term, hup, quit, usr1 reaction
	}{
		{"before the start", starts, takeBack, takeBack, takeBack, takeBack, sayNotYet},
		{"running", runs, stopJob, stopJob, leaveJob, passOn, passOn},
		{"running, and asked to stop", told(runs), leaveJob, leaveJob, leaveJob, passOn, passOn},
		{"running on this machine", here, stopJob, stopJob, stopJob, passOn, passOn},
		{"the same, and asked to stop", told(here), leaveJob, leaveJob, leaveJob, passOn, passOn},
		{"running without the tunnel", blind, sayNoStop, leaveJob, leaveJob, sayNoTunnel, sayNoTunnel},
		{"the same, and warned", told(blind), leaveJob, leaveJob, leaveJob, sayNoTunnel, sayNoTunnel},
		{"attached", attached, leaveJob, leaveJob, leaveJob, passOn, passOn},
		{"attached before the start", waits, leaveJob, leaveJob, leaveJob, leaveJob, sayNotYet},
		{"over", over, sayOver, sayOver, leaveOutput, sayOver, ignoreIt},
		{"over, and warned", told(over), leaveOutput, leaveOutput, leaveOutput, leaveOutput, ignoreIt},
		{"over, and attached", standing{attached: true, runs: true, over: true}, leaveOutput, leaveOutput, leaveOutput, leaveOutput, ignoreIt},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []struct {
				sig  os.Signal
				want reaction
			}{{in, test.in}, {term, test.term}, {hup, test.hup}, {quit, test.quit}, {usr1, test.usr1}} {
				if got := test.standing.react(c.sig); got != c.want {
					t.Errorf("%s: %q, want %q", signals.Name(c.sig), got, c.want)
				}
			}
		})
	}
}

// Who sends SIGTERM sends no second: a run whose job does not end is left in bounded time.
func TestWaitedEnough(t *testing.T) {
	for _, test := range []struct {
		name    string
		signal  os.Signal
		phase   hodeipb.Phase
		over    *job.Outcome
		message string // empty: it waits on
	}{
		{"the agent was told", syscall.SIGTERM, hodeipb.Phase_STOPPING, nil, "job x was asked to stop 15s ago and still runs"},
		{"the agent was not reached", syscall.SIGTERM, hodeipb.Phase_RUNNING, nil, "job x could not be asked to stop: its agent was not reached within 15s"},
		{"Ctrl-C the same", os.Interrupt, hodeipb.Phase_RUNNING, nil, "job x could not be asked to stop: its agent was not reached within 15s"},
		{"its output is not read", syscall.SIGTERM, hodeipb.Phase_STOPPING, &job.Outcome{Cause: job.Cancelled}, "the rest of the output was not shown; the command: Cancelled (exit 130)"},
		{"a person reads its output", os.Interrupt, hodeipb.Phase_STOPPING, &job.Outcome{Cause: job.Cancelled}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := testFollower(t, io.Discard, io.Discard, "")
				f.State("x-1", &hodeipb.State{Phase: test.phase})
				a := newBeside(io.Discard, io.Discard)
				s := &Session{
					Config: a.followed(Config{Spec: &job.Spec{Name: "x", Grace: 10 * time.Second}, Place: nowhere{}, Screen: f.screen}),
					Job:    followtest.NewJob(), Follower: f, agents: &follow.Attachment{}, over: test.over,
				}
				began := time.Now()
				s.stop(t.Context())
				s.signal = test.signal
				<-s.giveUp
				if waited := time.Since(began); waited != 15*time.Second {
					t.Errorf("waited %s", waited)
				}
				err := s.waitedEnough(t.Context())
				if test.message == "" {
					if err != nil {
						t.Errorf("got %v", err)
					}
					f.display.Leave()
					return
				}
				if exit, ok := errors.AsType[*job.ExitError](err); !ok || exit.Code != job.ExitFailed || exit.Error() != test.message {
					t.Errorf("got %v, want %q", err, test.message)
				}
			})
		})
	}
}
