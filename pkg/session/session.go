package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// podWait is how long the container's status is awaited after an exit record that can't name the
// cause; the kubelet reports once a second.
const podWait = 10 * time.Second

// leaveWait is how long a display that hangs is given for the last event of a run
// that leaves it.
const leaveWait = time.Second

// Session follows one job.
type Session struct {
	*Config
	Job     place.Job
	Signals <-chan os.Signal
	// StopSignals stops listening for signals; may be nil.
	StopSignals func()
	// Attached tells that the job was there before us: it is not ours to stop.
	Attached bool
	// unmet, if not nil, shows what there is of an attempt that ended before its agent
	// was met.
	Unmet func(ctx context.Context, attempt string) error
	// Before are the phases of the attempts that were there before us, by their names.
	Before map[string][]job.Event

	agents   *follow.Attachment
	Store    *place.Store // nil: nothing is stored
	Sink     output.Sink  // nil: the output is shown as it is, or as events
	Follower *Follower
	record   *history.Record
	started  bool             // the command ran, in any attempt
	stopped  bool             // the job was asked to stop
	warned   bool             // the next Ctrl-C leaves, and that was said
	signal   os.Signal        // the last that asked us to end; nil: none did
	giveUp   <-chan time.Time // has a value when a job that was told to stop has been waited for
	last     *job.Outcome     // of an attempt that may be followed by another
	over     *job.Outcome     // known, while there is still output to show
}

// Run serves the job's agents until its outcome is known and its output shown.
// earlier, if not nil, has the display show what there was before.
func (s *Session) Run(ctx context.Context, earlier func(*Follower)) error {
	s.started = s.Attached
	s.Follower = newFollower(s.Config)
	s.Follower.attached = s.Attached
	if s.Sink != nil {
		s.Follower.sink = s.Sink
	}
	s.record = s.newRecord()
	if earlier != nil {
		earlier(s.Follower)
	}
	recorder := &coordinator.Recorder{JobUID: s.Job.UID(), Listener: follow.Exported(s.record, s.exporter)}
	if s.Store != nil {
		recorder.Store = s.Store.Store
		s.Store.Tell(s.Screen.Note)
	}
	s.agents = &follow.Attachment{
		Job: s.Job, Namespace: s.Place.Namespace(), Name: s.Spec.Name,
		Recorder: recorder, Every: s.metricsInterval(), Unserved: s.Fallback, Report: s.report, NeverStarted: s.Follower.neverStarted,
		TurnedAway: func(f *coordinator.Fault) { s.Follower.say(follow.FaultNote(f)) },
	}
	err := s.agents.Run(ctx, func(meeting context.Context, e *follow.Events) error {
		err := s.await(ctx, meeting, e)
		s.Follower.display.Leave() // all is shown, or will not be
		if s.over != nil {
			e.Complete()
		}
		return err
	})
	s.Job.Close()
	s.record.Over(s.over)
	if e := recorder.Close(); e != nil && err == nil {
		err = &job.ExitError{Code: job.ExitFailed, Err: e}
	}
	return err
}

// metricsInterval is how often its agents are asked for a sample.
func (s *Session) metricsInterval() time.Duration {
	if s.UsageInterval > 0 {
		return s.UsageInterval
	}
	if s.Config.Follow {
		return follow.FollowedEvery
	}
	return follow.UnwatchedEvery
}

// attemptSamples returns the samples of o's attempt, from the store where it reaches
// further back.
func (s *Session) attemptSamples(o *job.Outcome) []job.Sample {
	samples := s.Follower.usage.of(o.Attempt)
	if s.Store == nil || !s.Attached {
		return samples
	}
	stored, _ := s.Store.Find(s.Place.Namespace(), s.Spec.Name) // what can't be read has no curve
	want := cmp.Or(o.Attempt, s.Follower.latest())
	for _, a := range stored {
		if a.Attempt != want {
			continue
		}
		if earlier := history.StoredSamples(s.Store.Store, a.Key); len(earlier) > len(samples) {
			samples = earlier
		}
	}
	return samples
}

// report takes a phase from the provider.
func (s *Session) report(e job.Event) {
	if s.record != nil {
		s.record.Phase(e)
	}
	switch runs := s.Fallback && e.Phase == job.Running && !e.Waiting; {
	case runs && s.Config.Follow:
		s.Follower.followContainer(s.Place.(place.Cluster), e.Detail)
	case runs:
		s.Follower.runsUnmet(e.Detail)
	default:
		s.Follower.phase(e)
	}
}

// waits are what a session still waits for, beside what it always does; nil: not any more, or not yet.
type waits struct {
	running  <-chan struct{}  // the command runs
	lost     <-chan struct{}  // its agents can't be met any more
	ended    <-chan struct{}  // the provider says that the job is over
	patience <-chan time.Time // with the Pod's status, once an exit record is unclear
	shown    <-chan struct{}  // all output is, of a job that is over
}

// await acts on what happens until all is over. meeting ends when the job's agents can't be met any
// more, ctx when nothing can be done.
func (s *Session) await(ctx, meeting context.Context, e *follow.Events) error {
	w := waits{running: s.Follower.running, lost: meeting.Done(), ended: e.Over.Done()}
	for {
		select {
		case <-w.shown:
			return s.finish(s.over)
		case <-w.running:
			s.started, w.running = true, nil
		case record := <-s.Follower.exited:
			s.exit(wire.Outcome(record), &w)
		case <-w.ended:
			if err := s.jobOver(ctx, e, &w); err != nil {
				return err
			}
		case <-w.patience:
			s.end(s.last, &w)
		case err := <-s.Follower.stuck:
			return s.full(err)
		case refusal := <-e.Refused:
			s.refused(refusal)
		case <-w.lost:
			w.lost = nil
			if err := s.unmeetable(ctx, meeting); err != nil {
				return err
			}
		case err := <-s.Follower.display.Broken():
			if done, err := s.broken(ctx, err); done {
				return err
			}
		case sig := <-s.Signals:
			if done, err := s.interrupt(ctx, sig); done {
				return err
			}
		case <-s.giveUp:
			if err := s.waitedEnough(ctx); err != nil {
				return err
			}
		}
	}
}

// exit takes how an attempt has ended by its agent's word.
func (s *Session) exit(o *job.Outcome, w *waits) {
	switch s.attemptEnded(o) {
	case awaitPod:
		w.patience = time.After(podWait)
	case endRun:
		s.end(o, w)
	}
}

// jobOver takes the provider's word that the job is over, or can't be watched any more: its error ends the session.
func (s *Session) jobOver(ctx context.Context, e *follow.Events, w *waits) error {
	w.ended = nil
	outcome := endOfJob(s.last, s.exited(), e.Over.Outcome, s.Spec.Retries, s.Follower.latest())
	if outcome == nil {
		return s.abort(ctx, context.Cause(e.Over))
	}
	s.end(outcome, w)
	return nil
}

// end takes how the run ends: what is left to wait for is its output.
func (s *Session) end(o *job.Outcome, w *waits) {
	if s.Unmet != nil {
		s.Follower.ShowBefore(o.Attempt, func(ctx context.Context) error { return s.Unmet(ctx, o.Attempt) })
	}
	s.over = o
	w.shown, w.ended, w.patience = s.Follower.complete(), nil, nil
}

// attemptEnded takes how an attempt has ended by its agent's word, and returns what follows.
func (s *Session) attemptEnded(o *job.Outcome) afterward {
	s.started = true
	if s.over != nil {
		return nothing
	}
	then := afterExit(o, s.Spec.Retries, s.stopped)
	switch then {
	case awaitJob:
		s.last = o
	case awaitPod:
		o.Attempt = s.Follower.latest()
		s.last = o
	}
	return then
}

// refused says that an agent and we refuse each other's certificates, while that matters.
func (s *Session) refused(refusal *job.Failure) {
	if s.over == nil {
		s.Screen.Note(fmt.Sprintf("%s; trying on for %s", refusal, follow.RefusedWait))
	}
}

// exited is how the last attempt has ended by its agent's own word, nil if that has not come.
func (s *Session) exited() *job.Outcome {
	select {
	case record := <-s.Follower.exited:
		return wire.Outcome(record)
	default:
		return nil
	}
}

// unmeetable ends a run whose agents can't be met: meeting has ended. Where it is for their
// certificates, the command may run, and the job is not ours to remove. A run that is over goes on with
// what is stored, and one whose ctx has ended is ended by the watching of its job: unmeetable returns nil.
func (s *Session) unmeetable(ctx, meeting context.Context) error {
	ends := s.over == nil && ctx.Err() == nil
	if !ends {
		return nil
	}
	err := context.Cause(meeting)
	if refusal, ok := errors.AsType[*job.Failure](err); ok {
		return s.leaveWith(job.ExitFailed, fmt.Errorf("%w; %s", refusal, s.goesOn()), refusal.Hint)
	}
	return s.abort(ctx, err)
}

// full is the end of a run whose output could not be stored.
func (s *Session) full(err error) error {
	hint := "{hodei} attach " + s.Spec.Name
	if s.isMachine() {
		hint = "{hodei} logs " + s.Spec.Name
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = syscall.ENOSPC
		hint = fmt.Sprintf("make room in %s, then: %s", s.Store.Dir, hint)
	}
	return s.leaveWith(job.ExitFailed, fmt.Errorf("store output: %w; %s", err, s.goesOn()), hint)
}

// tell shows an error that ends nothing.
func (s *Session) tell(err error) {
	s.Screen.Note(err.Error())
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Hint != "" {
		s.Screen.Note("hint: " + s.Named(f.Hint))
	}
}

func (s *Session) isMachine() bool {
	_, here := s.Place.(place.Machine)
	return here
}

// goesOn says what becomes of the job when we go.
func (s *Session) goesOn() string {
	if s.isMachine() {
		return fmt.Sprintf("job %s ends with us", s.Spec.Name)
	}
	return fmt.Sprintf("job %s goes on", s.Spec.Name)
}

// settle ends the display, and tells whether it could. What it has still to show
// is shown, or dropped. One that hangs in a write is left behind: it ends with the
// process.
func (s *Session) settle(drop bool) bool {
	display := s.Follower.display
	if drop {
		display.Leave()
	} else {
		s.Follower.complete()
		display.Finish()
	}
	select {
	case <-display.Done():
		return true
	case <-time.After(leaveWait):
		return false
	}
}

// leave is the end of a run whose job goes on without it.
func (s *Session) leave(code int, err error) error {
	hint := "{hodei} attach " + s.Spec.Name
	if s.isMachine() {
		hint = "{hodei} logs " + s.Spec.Name
	}
	return s.leaveWith(code, err, hint)
}

func (s *Session) leaveWith(code int, err error, hint string) error {
	outcome := &job.Outcome{Cause: job.Unknown, Code: code, Message: err.Error()}
	if s.stopped && s.over == nil && code == job.ExitCancelled {
		outcome.Cause = job.Cancelled
	}
	if s.settle(true) {
		if e := s.Events.Exit(outcome, s.Named(hint)); e != nil {
			err = errors.Join(err, e)
		}
	}
	s.Screen.Stop()
	return &job.ExitError{Code: code, Err: &job.Hinted{Err: err, Hint: hint}}
}

// abort ends a run that failed for a reason other than its command. A job that
// has not started is removed.
func (s *Session) abort(ctx context.Context, err error) error {
	if f, ok := errors.AsType[*job.Failure](err); ok && f.NeverStarted && !s.Attached {
		s.started = false // what was seen to run was not the command
	}
	if s.started {
		s.Screen.Stop()
		left := s.goesOn()
		if s.Attached && !s.Follower.ran() {
			left = fmt.Sprintf("job %s is left as it is", s.Spec.Name)
		}
		err = fmt.Errorf("%w; %s", err, left)
		if hint := kubernetes.ClockHint(err.Error(), s.Place.Namespace(), s.Spec.Name); hint != "" {
			return s.leaveWith(job.ExitFailed, err, hint)
		}
		if errors.Is(err, kubernetes.ErrLost) {
			return s.leaveWith(job.ExitFailed, err, kubernetes.ComeBack(err, "{hodei} attach "+s.Spec.Name))
		}
		if f, ok := errors.AsType[*job.Failure](err); ok && s.Attached && f.Hint != "" {
			return s.leaveWith(job.ExitFailed, err, f.Hint)
		}
		return s.leave(job.ExitFailed, err)
	}
	s.remove(ctx)
	s.settle(false)
	return s.Failed(err)
}

// remove deletes a job that has not started, once it is said how the run has ended. A
// Ctrl-C in between would leave the job behind: the next one waits for the deletion.
func (s *Session) remove(ctx context.Context) {
	remove := func() {
		if err := s.Job.Delete(ctx); err != nil {
			s.tell(err)
		}
	}
	if s.isMachine() { // its processes would be waited for
		remove()
		return
	}
	_, unhold := s.Hear(signals.Ending...)
	s.Afterwards(func() {
		defer unhold()
		remove()
	})
}

// finish shows the outcome, and makes it the exit code. All output has been shown.
func (s *Session) finish(o *job.Outcome) error {
	if s.Follower.closed() {
		return s.unread(o)
	}
	s.deafen()
	missing, remedy, err := s.Follower.missing(o)
	if err != nil {
		return err
	}
	if refused := s.agents.Refused(); refused.Overlaps+refused.Holes > 0 {
		s.Screen.Note(fmt.Sprintf("the agent sent %d batches again and %d too early: they were refused, and asked for anew",
			refused.Overlaps, refused.Holes))
	}
	s.Samples = s.attemptSamples(o)
	if err := s.Told(s.Job.Keeps()); err != nil {
		return err
	}
	return s.ConcludeWith(o, missing, remedy)
}
