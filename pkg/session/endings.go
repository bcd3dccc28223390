package session

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// endings are the steps that end a session. Each tells how the run ends, and returns that.
var endings = map[step]func(*session, context.Context, standing, event) error{
	finish:          (*session).finish,
	takeBack:        (*session).takeBack,
	removeUnstarted: (*session).removeUnstarted,
	killHere:        (*session).killHere,
	leaveJob:        (*session).leaveJob,
	leaveOutput:     (*session).leaveOutput,
	leaveUnstored:   (*session).leaveUnstored,
	leaveRefused:    (*session).leaveRefused,
	leaveLost:       (*session).leaveLost,
	leaveUnshown:    (*session).leaveUnshown,
	leaveRest:       (*session).leaveRest,
	leaveStopping:   (*session).leaveStopping,
	leaveUnstopped:  (*session).leaveUnstopped,
	leaveTerminal:   (*session).leaveTerminal,
	leaveTaken:      (*session).leaveTaken,
}

// finish shows the outcome, and makes it the exit code. All output has been shown.
func (s *session) finish(ctx context.Context, _ standing, e event) error {
	o := e.outcome
	if s.follower.closed() {
		return s.unread(o)
	}
	s.deafen()
	lost, hint, err := s.follower.missing(o)
	if err != nil {
		return err
	}
	if refused := s.agents.Refused(); refused.Overlaps+refused.Holes > 0 {
		s.Screen.Note(fmt.Sprintf("the agent sent %d batches again and %d too early: they were refused, and asked for anew",
			refused.Overlaps, refused.Holes))
	}
	samples := s.samples(o)
	switch {
	case s.Remove && lost == "":
		s.remove(ctx)
	case s.Remove:
		err = s.Note("job " + s.Spec.Name + " is not removed: part of its output is not here")
	default:
		err = s.Note(s.Job.Keeps())
	}
	if err != nil {
		return err
	}
	return s.Conclude(o, samples, Missing{Output: lost, Hint: hint})
}

// unread is the end of a job whose output's reader has gone.
func (s *session) unread(o *job.Outcome) error {
	if s.signal == nil {
		s.signal = s.soon()
	}
	s.deafen()
	said := commandEnded(o)
	switch {
	case s.signal != nil && o.Cause == job.Cancelled:
		s.Screen.Summary(o, s.samples(o))
		s.Screen.Stop()
		return &job.ExitError{Code: job.ExitCancelled}
	case s.signal != nil:
		return s.leaveRestOf(signals.ExitCode(s.signal))
	case s.stopped:
		said = "the job was told to stop"
	}
	s.Screen.Stop()
	return &job.ExitError{Code: job.ExitFailed, Err: &job.Hinted{
		Err:  fmt.Errorf("write output: %w; %s", syscall.EPIPE, said),
		Hint: "{hodei} logs " + s.Spec.Name,
	}}
}

// takeBack ends a run before its command has started, and removes its job.
func (s *session) takeBack(ctx context.Context, _ standing, _ event) error {
	s.follower.hush()
	s.agents.Cancel(&hodeipb.Cancel{}) // the agent, if it is there, lets no launcher in
	s.remove(ctx)
	s.settle(false)
	return s.TakenBack("it is being removed")
}

// removeUnstarted is the end of a run whose command has not started and will not.
func (s *session) removeUnstarted(ctx context.Context, _ standing, e event) error {
	s.remove(ctx)
	s.settle(false)
	return s.Failed(e.err)
}

// remove deletes a job that has not started, or has ended, once it is said how the run has ended. A
// Ctrl-C in between would leave the job behind: the next one waits for the deletion.
func (s *session) remove(ctx context.Context) {
	remove := func() {
		if err := s.Job.Delete(ctx); err != nil {
			s.note(err)
		}
	}
	if s.here() || s.Afterwards == nil { // the processes of a job here would be waited for
		remove()
		return
	}
	s.Afterwards(remove)
}

// killHere kills a job of this machine, which nobody would end after us.
func (s *session) killHere(ctx context.Context, _ standing, _ event) error {
	s.deafen()
	if err := s.Job.Delete(ctx); err != nil {
		s.note(err)
	}
	if !s.settle(true) {
		return &job.ExitError{Code: job.ExitCancelled}
	}
	return s.cancelled("its processes were killed")
}

// leave is the end of a run whose job goes on without it.
func (s *session) leave(code int, err error) error { return s.leaveWith(code, err, s.comeBack()) }

func (s *session) leaveJob(_ context.Context, now standing, e event) error {
	code, text := now.parting(e.signal, s.Spec.Name, s.goesOn())
	return s.leave(code, errors.New(text))
}

// leaveOutput is the end of a run whose job is over, with output still to show: at a signal, or when it has been
// waited for long enough.
func (s *session) leaveOutput(_ context.Context, _ standing, e event) error {
	if e.signal == nil {
		return s.leaveRestOf(job.ExitFailed)
	}
	return s.leaveRestOf(signals.ExitCode(e.signal))
}

func (s *session) leaveRestOf(code int) error {
	return s.leaveWith(code, fmt.Errorf("the rest of the output was not shown; %s", commandEnded(s.over)), "{hodei} logs "+s.Spec.Name)
}

// leaveUnstored is the end of a run whose output could not be stored.
func (s *session) leaveUnstored(_ context.Context, _ standing, e event) error {
	err, hint := e.err, s.comeBack()
	if errors.Is(err, syscall.ENOSPC) {
		err = syscall.ENOSPC
		hint = fmt.Sprintf("make room in %s, then: %s", s.Store.Dir, hint)
	}
	return s.leaveWith(job.ExitFailed, fmt.Errorf("store output: %w; %s", err, s.goesOn()), hint)
}

func (s *session) leaveRefused(_ context.Context, _ standing, e event) error {
	refusal, _ := errors.AsType[*job.Failure](e.err)
	return s.leaveWith(job.ExitFailed, fmt.Errorf("%w; %s", refusal, s.goesOn()), refusal.Hint)
}

// leaveLost is the end of a run whose job has started, and can't be followed any more.
func (s *session) leaveLost(_ context.Context, now standing, e event) error {
	s.Screen.Stop()
	left := s.goesOn()
	if now.attached && !now.runs {
		left = fmt.Sprintf("job %s is left as it is", s.Spec.Name)
	}
	err := fmt.Errorf("%w; %s", e.err, left)
	return s.leaveWith(job.ExitFailed, err, s.lostHint(err, now.attached))
}

// lostHint is what helps where a job can't be followed any more, for err.
func (s *session) lostHint(err error, attached bool) string {
	if hint := kubernetes.ClockHint(err.Error(), s.Place.Namespace(), s.Spec.Name); hint != "" {
		return hint
	}
	if errors.Is(err, kubernetes.ErrLost) {
		return kubernetes.ComeBack(err, "{hodei} attach "+s.Spec.Name)
	}
	if f, ok := errors.AsType[*job.Failure](err); ok && attached && f.Hint != "" {
		return f.Hint
	}
	return s.comeBack()
}

func (s *session) leaveUnshown(_ context.Context, _ standing, e event) error {
	return s.leave(job.ExitFailed, fmt.Errorf("%w; %s", unwritten(e.err), s.goesOn()))
}

func (s *session) leaveRest(_ context.Context, _ standing, e event) error {
	return s.leaveWith(job.ExitFailed, fmt.Errorf("%w; %s", unwritten(e.err), commandEnded(s.over)), "{hodei} logs "+s.Spec.Name)
}

// unwritten says of an error of the display whether it was reading or writing.
func unwritten(err error) error {
	if errors.Is(err, output.ErrUnreadable) {
		return err
	}
	return fmt.Errorf("write output: %w", err)
}

func (s *session) leaveStopping(context.Context, standing, event) error {
	return s.leave(job.ExitFailed, fmt.Errorf("job %s was asked to stop %s ago and still runs", s.Spec.Name, s.Spec.Grace+stopMargin))
}

func (s *session) leaveUnstopped(context.Context, standing, event) error {
	return s.leave(job.ExitFailed, fmt.Errorf("job %s could not be asked to stop: its agent was not reached within %s",
		s.Spec.Name, s.Spec.Grace+stopMargin))
}

// commandEnded says how the command of a job that is over has ended.
func commandEnded(o *job.Outcome) string { return "the command: " + ui.Printable(o.Summary()) }
