package session

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
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
		in, term, hup, quit, usr1 step
	}{
		{"before the start", starts, takeBack, takeBack, takeBack, takeBack, sayNotYet},
		{"running", runs, stopJob, stopJob, leaveJob, passOn, passOn},
		{"running, and asked to stop", told(runs), leaveJob, leaveJob, leaveJob, passOn, passOn},
		{"running on this machine", here, stopJob, stopJob, stopJob, passOn, passOn},
		{"the same, and asked to stop", told(here), killHere, killHere, killHere, passOn, passOn},
		{"running without the tunnel", blind, sayNoStop, leaveJob, leaveJob, sayNoTunnel, sayNoTunnel},
		{"the same, and warned", told(blind), leaveJob, leaveJob, leaveJob, sayNoTunnel, sayNoTunnel},
		{"attached", attached, leaveJob, leaveJob, leaveJob, passOn, passOn},
		{"attached before the start", waits, leaveJob, leaveJob, leaveJob, leaveJob, sayNotYet},
		{"over", over, sayOver, sayOver, leaveOutput, sayOver, ignoreIt},
		{"over, and warned", told(over), leaveOutput, leaveOutput, leaveOutput, leaveOutput, ignoreIt},
		{"over, and attached", standing{attached: true, runs: true, over: true}, leaveOutput, leaveOutput, leaveOutput, leaveOutput,
			ignoreIt},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, c := range []struct {
				sig  os.Signal
				want step
			}{{in, test.in}, {term, test.term}, {hup, test.hup}, {quit, test.quit}, {usr1, test.usr1}} {
				if got := test.standing.react(c.sig); got != c.want {
					t.Errorf("%s: %q, want %q", signals.Name(c.sig), got, c.want)
				}
			}
		})
	}
}

// What follows from all that is no signal.
func TestDecide(t *testing.T) {
	failed, unclear := &job.Outcome{Cause: job.Error, Code: 3}, &job.Outcome{Cause: job.Unknown}
	refusal, lost := &job.Failure{Cause: job.ConfigError, Message: "refused"}, errors.New("lost")
	unstarted := &job.Failure{Cause: job.ImagePull, NeverStarted: true}
	gone, full := fmt.Errorf("write: %w", syscall.EPIPE), fmt.Errorf("write: %w", syscall.ENOSPC)
	starts, runs := standing{}, standing{runs: true, started: true}
	over := standing{runs: true, started: true, over: true}
	attached := standing{runs: true, started: true, attached: true}
	blind := standing{runs: true, started: true, fallback: true}
	stopped := standing{runs: true, started: true, stopped: true, warned: true}
	with := func(s standing, change func(*standing)) standing { change(&s); return s }
	for _, test := range []struct {
		name     string
		standing standing
		event    event
		want     step
	}{
		{"all is shown", over, event{what: allShown}, finish},
		{"the command runs", starts, event{what: commandRuns}, ignoreIt},
		{"the agent tells the end", runs, event{what: attemptEnded, outcome: failed}, endRun},
		{"and it is tried again", with(runs, func(s *standing) { s.retries = 1 }), event{what: attemptEnded, outcome: failed}, awaitJob},
		{"but was asked to stop", with(stopped, func(s *standing) { s.retries = 1 }), event{what: attemptEnded, outcome: failed}, endRun},
		{"and does not know why", runs, event{what: attemptEnded, outcome: unclear}, awaitPod},
		{"and the end was known", over, event{what: attemptEnded, outcome: unclear}, ignoreIt},
		{"the job is over", runs, event{what: jobOver, outcome: failed}, endRun},
		{"the watch fails", runs, event{what: jobOver, err: lost}, leaveLost},
		{"the watch fails before the start", starts, event{what: jobOver, err: lost}, removeUnstarted},
		{"what ran was not the command", runs, event{what: jobOver, err: unstarted}, removeUnstarted},
		{"what ran was not the command of one attached", attached, event{what: jobOver, err: unstarted}, leaveLost},
		{"the Pod names no cause in time", runs, event{what: patienceOver, outcome: unclear}, endRun},
		{"the store is full", runs, event{what: storeStuck, err: full}, leaveUnstored},
		{"an agent is refused", runs, event{what: agentRefused, err: refusal}, sayRefused},
		{"an agent is refused when all is over", over, event{what: agentRefused, err: refusal}, ignoreIt},
		{"agents are refused for good", starts, event{what: meetingLost, err: refusal}, leaveRefused},
		{"agents can't be met", runs, event{what: meetingLost, err: lost}, leaveLost},
		{"agents can't be met before the start", starts, event{what: meetingLost, err: lost}, removeUnstarted},
		{"agents can't be met when all is over", over, event{what: meetingLost, err: lost}, ignoreIt},
		{"agents can't be met as we are cut off", with(runs, func(s *standing) { s.cut = true }), event{what: meetingLost, err: lost},
			ignoreIt},
		{"the reader goes", runs, event{what: displayBroken, err: gone}, awaitSignal},
		{"the reader goes when all is over", over, event{what: displayBroken, err: gone}, ignoreIt},
		{"the reader goes after Ctrl-C", stopped, event{what: displayBroken, err: gone}, ignoreIt},
		{"our disk is full", runs, event{what: displayBroken, err: full}, leaveUnshown},
		{"our disk is full when all is over", over, event{what: displayBroken, err: full}, leaveRest},
		{"the reader has gone", runs, event{what: readerGone, err: gone}, stopUnread},
		{"the reader of one attached has gone", attached, event{what: readerGone, err: gone}, leaveUnshown},
		{"the reader has gone without a tunnel", blind, event{what: readerGone, err: gone}, leaveUnshown},
		{"a signal", runs, event{what: signalCame, signal: os.Interrupt}, stopJob},
		{"it does not end", stopped, event{what: waitOver}, leaveUnstopped},
		{"it does not end, though told", with(stopped, func(s *standing) { s.stopping = true }), event{what: waitOver}, leaveStopping},
		{"it does not end here", with(stopped, func(s *standing) { s.here = true }), event{what: waitOver}, killHere},
		{"a person reads on", over, event{what: waitOver}, ignoreIt},
		{"a start is held", with(starts, func(s *standing) { s.sends = true }), event{what: startHeld}, unhold},
		{"a start is held for another's input", attached, event{what: startHeld}, sayHeld},
		{"it may start", starts, event{what: mayStart}, letStart},
		{"it may not start", starts, event{what: mayStart, err: lost}, removeUnstarted},
		{"another sends the input", attached, event{what: inputFailed, err: coordinator.ErrInputRefused}, sayNoInput},
		{"another has the terminal", with(attached, func(s *standing) { s.terminal = true }),
			event{what: inputFailed, err: fmt.Errorf("%w: no", coordinator.ErrInputRefused)}, leaveTaken},
		{"the terminal has gone", with(runs, func(s *standing) { s.terminal = true }), event{what: inputFailed, err: lost}, ignoreIt},
		{"the command has ended, and its input can't be sent", over, event{what: inputFailed, err: lost}, ignoreIt},
		{"the keys that leave are typed", runs, event{what: keysTyped}, leaveTerminal},
		{"the same when it has ended", over, event{what: keysTyped}, ignoreIt},
		{"the input can't be read", runs, event{what: inputFailed, err: lost}, leaveInput},
		{"nobody reads on", with(over, func(s *standing) { s.terminated = true }), event{what: waitOver}, leaveOutput},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.standing.decide(test.event); got != test.want {
				t.Errorf("%s: %q, want %q", test.event.what, got, test.want)
			}
		})
	}
}

// What a run says that leaves its job at a signal.
func TestParting(t *testing.T) {
	for _, test := range []struct {
		name     string
		standing standing
		signal   os.Signal
		code     int
		text     string
	}{
		{"attached", standing{attached: true}, syscall.SIGTERM, 143, "it goes on"},
		{"asked to stop", standing{asked: true, stopped: true}, syscall.SIGHUP, 130, "job x has been asked to stop and still runs"},
		{"hung up", standing{}, syscall.SIGHUP, 129, "hung up; it goes on"},
		{"no tunnel", standing{fallback: true}, syscall.SIGTERM, 125, "without the tunnel it can't be asked to stop; it goes on"},
		{"no tunnel, and warned", standing{fallback: true, asked: true}, syscall.SIGINT, 130, "it goes on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if code, text := test.standing.parting(test.signal, "x", "it goes on"); code != test.code || text != test.text {
				t.Errorf("got %d, %q", code, text)
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
		{"the agent was not reached", syscall.SIGTERM, hodeipb.Phase_RUNNING, nil,
			"job x could not be asked to stop: its agent was not reached within 15s"},
		{"Ctrl-C the same", os.Interrupt, hodeipb.Phase_RUNNING, nil,
			"job x could not be asked to stop: its agent was not reached within 15s"},
		{"its output is not read", syscall.SIGTERM, hodeipb.Phase_STOPPING, &job.Outcome{Cause: job.Cancelled},
			"the rest of the output was not shown; the command: Cancelled (exit 130)"},
		{"a person reads its output", os.Interrupt, hodeipb.Phase_STOPPING, &job.Outcome{Cause: job.Cancelled}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := testFollower(t, io.Discard, io.Discard, "")
				f.State("x-1", &hodeipb.State{Phase: test.phase})
				a := newBeside(io.Discard, io.Discard)
				c := a.followed(Config{Teller: Teller{Spec: &job.Spec{Name: "x", Grace: 10 * time.Second}, Place: nowhere{},
					Screen: f.screen}})
				c.Job = followtest.NewJob()
				s := &session{Config: c, follower: f, agents: &follow.Attachment{}, over: test.over}
				began := time.Now()
				s.stop(t.Context())
				s.signal = test.signal
				<-s.wait.giveUp
				if waited := time.Since(began); waited != 15*time.Second {
					t.Errorf("waited %s", waited)
				}
				done, err := s.take(t.Context(), event{what: waitOver})
				if test.message == "" {
					if done || err != nil {
						t.Errorf("it ends: %v", err)
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
