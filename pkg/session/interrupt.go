package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
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

// reaction is what a session does about a signal.
type reaction string

const (
	passOn      reaction = "pass it on to the command"
	sayNoTunnel reaction = "say that it can't be passed on"
	sayNotYet   reaction = "say that there is no command yet to pass it on to"
	ignoreIt    reaction = "ignore it"
	takeBack    reaction = "take the job back"
	stopJob     reaction = "ask the job to stop"
	sayNoStop   reaction = "say that it can't be asked to stop"
	leaveJob    reaction = "leave the job"
	sayOver     reaction = "say that it is over"
	leaveOutput reaction = "leave the rest of the output"
)

// standing is what a reaction depends on.
type standing struct {
	attached bool // the job was there before us: it is not ours to stop
	here     bool // it is of this machine, and can't go on without us
	fallback bool // there is no tunnel
	runs     bool // the command does, or did
	over     bool // and has ended: there is still output to show
	warned   bool // the next one leaves, and that was said
}

// react decides about a signal. SIGQUIT and SIGABRT are for the command; without one they
// are like Ctrl-C.
func (s standing) react(sig os.Signal) reaction {
	_, forCommand := signals.PassedOn[sig]
	switch {
	case forCommand && !s.over && (s.runs || !signals.AsksToEnd(sig)):
		return s.passing()
	case !signals.AsksToEnd(sig):
		return ignoreIt
	case s.over:
		return s.reactOver(sig)
	case s.attached:
		return leaveJob
	case !s.runs:
		return takeBack
	case s.warned || sig == syscall.SIGHUP && !s.here:
		return leaveJob
	case s.fallback && sig == syscall.SIGTERM: // no second one comes
		return leaveJob
	case s.fallback:
		return sayNoStop
	}
	return stopJob
}

// passing decides about a signal that is for the command.
func (s standing) passing() reaction {
	switch {
	case s.fallback:
		return sayNoTunnel
	case !s.runs: // the agent would drop it, and tell nobody
		return sayNotYet
	}
	return passOn
}

// reactOver decides about a signal that asks us to end, while there is still output to show.
func (s standing) reactOver(sig os.Signal) reaction {
	if s.warned || s.attached || sig == syscall.SIGHUP {
		return leaveOutput
	}
	return sayOver
}

func (s *Session) standing() standing {
	select { // a command that has just started is not to be lost without a word
	case <-s.Follower.running:
		s.started = true
	default:
	}
	return standing{
		attached: s.Attached, here: s.isMachine(), fallback: s.Fallback, over: s.over != nil, warned: s.warned,
		runs: s.Follower.ran() || s.started && !s.Attached,
	}
}

// interrupt acts on a signal.
func (s *Session) interrupt(ctx context.Context, sig os.Signal) (done bool, err error) {
	first := s.signal == nil
	if signals.AsksToEnd(sig) {
		s.signal = sig
	}
	name, now := s.Spec.Name, s.standing()
	switch now.react(sig) {
	case passOn:
		if !s.agents.Signal(signals.PassedOn[sig]) {
			s.Screen.Note(fmt.Sprintf("%s was not passed on: the agent of %s is not connected", signals.Name(sig), name))
		}
	case sayNotYet:
		s.Screen.Note(fmt.Sprintf("%s was not passed on: the command has not started", signals.Name(sig)))
	case sayNoTunnel:
		s.Screen.Note(fmt.Sprintf("%s can't be passed on without the tunnel", signals.Name(sig)))
	case takeBack:
		s.Follower.hush()
		s.agents.Cancel(&hodeipb.Cancel{}) // the agent, if it is there, lets no launcher in
		s.remove(ctx)
		s.settle(false)
		return true, s.TakenBack("it is being removed")
	case stopJob:
		note := "stopping " + name
		switch {
		case sig == syscall.SIGTERM: // whoever sends it sends no second
		case now.here:
			note += "; Ctrl-C again kills it"
		default:
			note += "; Ctrl-C again leaves it to itself"
		}
		s.Screen.Note(note)
		s.stop(ctx)
	case sayNoStop:
		s.warned = true
		s.Screen.Note(fmt.Sprintf("job %[1]s can't be asked to stop without the tunnel; Ctrl-C again leaves it to itself; to delete it: kubectl delete job -n %[2]s %[1]s", name, s.Place.Namespace()))
	case sayOver:
		s.warned = true
		s.Screen.Note(fmt.Sprintf("%s has ended; Ctrl-C again leaves the rest of its output", name))
		if sig == syscall.SIGTERM {
			s.giveUp = time.After(stopMargin)
		}
	case leaveOutput:
		return true, s.leaveOutput(signals.ExitCode(sig))
	case leaveJob:
		return true, s.leaveJob(ctx, sig, first)
	case ignoreIt:
	}
	return false, nil
}

// stop asks the job to.
func (s *Session) stop(ctx context.Context) {
	s.stopped, s.warned = true, true
	s.giveUp = time.After(s.Spec.Grace + stopMargin)
	s.agents.Cancel(&hodeipb.Cancel{})
	if err := s.Job.StopRetrying(ctx); err != nil {
		s.tell(err)
	}
}

// leaveJob is the end of a run whose job goes on, at the first signal or a later one.
func (s *Session) leaveJob(ctx context.Context, sig os.Signal, first bool) error {
	name := s.Spec.Name
	switch {
	case s.Attached:
		return s.leave(signals.ExitCode(sig), errors.New(s.goesOn()))
	case s.isMachine():
		return s.endHere(ctx)
	case s.stopped:
		return s.leave(job.ExitCancelled, fmt.Errorf("job %s has been asked to stop and still runs", name))
	case sig == syscall.SIGHUP:
		return s.leave(signals.ExitCode(sig), fmt.Errorf("hung up; %s", s.goesOn()))
	case first:
		return s.leave(job.ExitFailed, fmt.Errorf("without the tunnel it can't be asked to stop; %s", s.goesOn()))
	}
	return s.leave(job.ExitCancelled, errors.New(s.goesOn()))
}

// deafen has the next signal end us, whatever hangs.
func (s *Session) deafen() {
	if s.StopSignals != nil {
		s.StopSignals()
	}
}

// endHere kills a job of this machine, which nobody would end after us.
func (s *Session) endHere(ctx context.Context) error {
	s.deafen()
	if err := s.Job.Delete(ctx); err != nil {
		s.tell(err)
	}
	if !s.settle(true) {
		return &job.ExitError{Code: job.ExitCancelled}
	}
	return s.cancelled("its processes were killed")
}

// waitedEnough ends a run that was told to end and has waited long enough for its job; nil: its
// output is still being read.
func (s *Session) waitedEnough(ctx context.Context) error {
	waited := s.Spec.Grace + stopMargin
	switch {
	case s.over != nil && s.signal == syscall.SIGTERM:
		return s.leaveOutput(job.ExitFailed)
	case s.over != nil:
		return nil
	case s.isMachine():
		return s.endHere(ctx)
	case s.Follower.toldToStop():
		return s.leave(job.ExitFailed, fmt.Errorf("job %s was asked to stop %s ago and still runs", s.Spec.Name, waited))
	}
	return s.leave(job.ExitFailed, fmt.Errorf("job %s could not be asked to stop: its agent was not reached within %s", s.Spec.Name, waited))
}

// leaveOutput is the end of a run whose job is over, with output still to show.
func (s *Session) leaveOutput(code int) error {
	return s.leaveWith(code, fmt.Errorf("the rest of the output was not shown; the command: %s", ui.Printable(s.over.Summary())), "{hodei} logs "+s.Spec.Name)
}

// soon returns the signal that has come or comes within readerWait, nil without one.
func (s *Session) soon() os.Signal {
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

// broken acts on output that can't be shown.
func (s *Session) broken(ctx context.Context, err error) (done bool, _ error) {
	gone := errors.Is(err, syscall.EPIPE)
	if !errors.Is(err, output.ErrUnreadable) {
		err = fmt.Errorf("write output: %w", err)
	}
	switch {
	case gone && (s.over != nil || s.stopped):
		return false, nil // what remains is not wanted
	case s.over != nil:
		return true, s.leaveWith(job.ExitFailed, fmt.Errorf("%w; the command: %s", err, ui.Printable(s.over.Summary())), "{hodei} logs "+s.Spec.Name)
	case !gone:
		return true, s.leave(job.ExitFailed, fmt.Errorf("%w; %s", err, s.goesOn()))
	}
	// A terminal's Ctrl-C goes to the reader as well, and it may be the first to end.
	if sig := s.soon(); sig != nil {
		return s.interrupt(ctx, sig)
	}
	if s.Attached || s.Fallback {
		return true, s.leave(job.ExitFailed, fmt.Errorf("%w; %s", err, s.goesOn()))
	}
	s.stop(ctx) // nobody reads on: the command is told, as it would be by SIGPIPE
	return false, nil
}

// unread is the end of a job whose output's reader has gone.
func (s *Session) unread(o *job.Outcome) error {
	if s.signal == nil {
		s.signal = s.soon()
	}
	s.deafen()
	s.Samples = s.attemptSamples(o)
	said := "the command: " + ui.Printable(o.Summary())
	switch {
	case s.signal != nil && o.Cause == job.Cancelled:
		s.Screen.Summary(o, s.Samples)
		s.Screen.Stop()
		return &job.ExitError{Code: job.ExitCancelled}
	case s.signal != nil:
		return s.leaveOutput(signals.ExitCode(s.signal))
	case s.stopped:
		said = "the job was told to stop"
	}
	s.Screen.Stop()
	return &job.ExitError{Code: job.ExitFailed, Err: &job.Hinted{
		Err:  fmt.Errorf("write output: %w; %s", syscall.EPIPE, said),
		Hint: "{hodei} logs " + s.Spec.Name,
	}}
}
