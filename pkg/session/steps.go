package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

const (
	// stopMargin is how much longer than its grace a job that was told to stop is waited
	// for: the agent kills it at the grace, and its last output has to come. Who sends
	// SIGTERM, as timeout(1) does, sends no second.
	stopMargin = 5 * time.Second
	// readerWait is how long hodei waits, once stdout is closed, for a Ctrl-C: the one that
	// ended stdout's reader may still be on its way.
	readerWait = 200 * time.Millisecond
)

// goOn takes a step after which the session goes on, unless that step leads to its end.
func (s *session) goOn(ctx context.Context, then step, now standing, e event) (done bool, err error) {
	switch then {
	case awaitJob, awaitPod:
		s.last = e.outcome
		s.last.Attempt = s.follower.latest()
		if then == awaitPod {
			s.wait.patience = time.After(podWait)
		}
	case endRun:
		s.end(e.outcome)
	case sayRefused:
		s.Screen.Note(fmt.Sprintf("%s; trying on for %s", e.err, follow.RefusedWait))
	case awaitSignal:
		if sig := s.soon(); sig != nil {
			return s.take(ctx, event{what: signalCame, signal: sig})
		}
		return s.take(ctx, event{what: readerGone, err: e.err})
	case passOn:
		if !s.agents.Signal(signals.PassedOn[e.signal]) {
			s.notPassed(e.signal, fmt.Sprintf("was not passed on: the agent of %s is not connected", s.Spec.Name))
		}
	case sayNotYet:
		s.notPassed(e.signal, "was not passed on: the command has not started")
	case sayNoTunnel:
		s.notPassed(e.signal, "can't be passed on without the tunnel")
	case stopJob:
		s.sayStopping(now, e.signal)
		s.stop(ctx)
	case stopUnread:
		s.stop(ctx)
	case sayNoStop:
		s.warned = true
		s.Screen.Note(fmt.Sprintf("job %[1]s can't be asked to stop without the tunnel; Ctrl-C again leaves it to itself; "+
			"to delete it: {hodei} cancel -n %[2]s %[1]s", s.Spec.Name, s.Place.Namespace()))
	case sayOver:
		s.warned = true
		s.Screen.Note(fmt.Sprintf("%s has ended; Ctrl-C again leaves the rest of its output", s.Spec.Name))
		if e.signal == syscall.SIGTERM {
			s.wait.giveUp = time.After(stopMargin)
		}
	default:
		s.handleInput(ctx, then, e)
	}
	return false, nil
}

// handleInput takes a step that is about the command's input.
func (s *session) handleInput(ctx context.Context, then step, e event) {
	switch then {
	case unhold:
		s.wait.unheld = s.Job.Unhold(ctx)
	case letStart:
		s.agents.Release()
	case sayHeld:
		if s.inputUsed { // that was said
			break
		}
		s.Screen.Note("the command starts once its input can come: " + "{hodei} attach " + s.inputFlags() + " " + s.Spec.Name)
	case sayNoInput:
		s.note(e.err)
	case leaveInput:
		if s.inputUsed = s.last != nil && errors.Is(e.err, coordinator.ErrInputRead); s.inputUsed {
			s.Screen.Note("it is not tried again: " + e.err.Error())
		} else {
			s.note(e.err)
		}
		s.agents.LeaveInput(e.err.Error())
	}
}

// end takes how the run ends: what is left to wait for is its output.
func (s *session) end(o *job.Outcome) {
	if s.ShowUnmet != nil {
		s.follower.showBefore(o.Attempt, func(ctx context.Context) error {
			missing, err := s.ShowUnmet(ctx, o.Attempt)
			s.follower.misses(missing)
			return err
		})
	}
	s.over = o
	s.wait.shown, s.wait.ended, s.wait.patience = s.follower.complete(), nil, nil
}

func (s *session) notPassed(sig os.Signal, why string) {
	s.Screen.Note(signals.Name(sig) + " " + why)
}

// sayStopping says that the job is asked to stop, and what the next Ctrl-C does.
func (s *session) sayStopping(now standing, sig os.Signal) {
	note := "stopping " + s.Spec.Name
	switch {
	case sig == syscall.SIGTERM: // whoever sends it sends no second
	case now.here:
		note += "; Ctrl-C again kills it"
	default:
		note += "; Ctrl-C again leaves it to itself"
	}
	s.Screen.Note(note)
}

// stop asks the job to.
func (s *session) stop(ctx context.Context) {
	s.stopped, s.warned = true, true
	s.wait.giveUp = time.After(s.Spec.Grace + stopMargin)
	s.agents.Cancel(&hodeipb.Cancel{})
	if err := s.Job.StopRetrying(ctx); err != nil {
		s.note(err)
	}
}

// soon returns the signal that has come or comes within readerWait, nil without one.
func (s *session) soon() os.Signal {
	late := time.NewTimer(readerWait)
	defer late.Stop()
	for {
		select {
		case sig := <-s.Signals:
			if signals.AsksToEnd(sig) {
				return sig
			}
		case <-late.C:
			return nil
		}
	}
}
