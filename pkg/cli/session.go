package cli

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

// session follows one job.
type session struct {
	*following
	job     place.Job
	signals <-chan os.Signal
	// stopSignals stops listening for signals; may be nil.
	stopSignals func()
	// attached tells that the job was there before us: it is not ours to stop.
	attached bool
	// unmet, if not nil, shows what there is of an attempt that ended before its agent
	// was met.
	unmet func(ctx context.Context, attempt string) error
	// before are the phases of the attempts that were there before us, by their names.
	before map[string][]job.Event

	agents   *follow.Attachment
	store    *place.Store // nil: nothing is stored
	sink     output.Sink  // nil: the output is shown as it is, or as events
	follower *follower
	record   *history.Record
	started  bool             // the command ran, in any attempt
	stopped  bool             // the job was asked to stop
	warned   bool             // the next Ctrl-C leaves, and that was said
	signal   os.Signal        // the last that asked us to end; nil: none did
	giveUp   <-chan time.Time // has a value when a job that was told to stop has been waited for
	last     *job.Outcome     // of an attempt that may be followed by another
	over     *job.Outcome     // known, while there is still output to show
}

// follow serves the job's agents until its outcome is known and its output shown.
// earlier, if not nil, has the display show what there was before.
func (s *session) follow(ctx context.Context, earlier func(*follower)) error {
	s.started = s.attached
	s.follower = newFollower(s.following)
	s.follower.attached = s.attached
	if s.sink != nil {
		s.follower.sink = s.sink
	}
	s.record = s.newRecord()
	if earlier != nil {
		earlier(s.follower)
	}
	recorder := &coordinator.Recorder{JobUID: s.job.UID(), Listener: exported(s.record, s.exporter)}
	if s.store != nil {
		recorder.Store = s.store.Store
		s.store.Tell(s.screen.Note)
	}
	s.agents = &follow.Attachment{
		Job: s.job, Namespace: s.place.Namespace(), Name: s.spec.Name,
		Recorder: recorder, Every: s.metricsInterval(), Unserved: s.fallback, Report: s.report, NeverStarted: s.follower.neverStarted,
		TurnedAway: func(f *coordinator.Fault) { s.follower.say(follow.FaultNote(f)) },
	}
	err := s.agents.Run(ctx, func(meeting context.Context, e *follow.Events) error {
		err := s.await(ctx, meeting, e)
		s.follower.display.Leave() // all is shown, or will not be
		if s.over != nil {
			e.Complete()
		}
		return err
	})
	s.job.Close()
	s.record.Over(s.over)
	if e := recorder.Close(); e != nil && err == nil {
		err = &job.ExitError{Code: job.ExitFailed, Err: e}
	}
	return err
}

// metricsInterval is how often its agents are asked for a sample.
func (s *session) metricsInterval() time.Duration {
	if s.usageInterval > 0 {
		return s.usageInterval
	}
	if s.following.follow {
		return follow.FollowedEvery
	}
	return follow.UnwatchedEvery
}

// attemptSamples returns the samples of o's attempt, from the store where it reaches
// further back.
func (s *session) attemptSamples(o *job.Outcome) []job.Sample {
	samples := s.follower.usage.of(o.Attempt)
	if s.store == nil || !s.attached {
		return samples
	}
	stored, _ := s.store.Find(s.place.Namespace(), s.spec.Name) // what can't be read has no curve
	want := cmp.Or(o.Attempt, s.follower.latest())
	for _, a := range stored {
		if a.Attempt != want {
			continue
		}
		if earlier := storedSamples(s.store, a.Key); len(earlier) > len(samples) {
			samples = earlier
		}
	}
	return samples
}

// report takes a phase from the provider.
func (s *session) report(e job.Event) {
	if s.record != nil {
		s.record.Phase(e)
	}
	switch runs := s.fallback && e.Phase == job.Running && !e.Waiting; {
	case runs && s.following.follow:
		s.follower.followContainer(s.place.(place.Cluster), e.Detail)
	case runs:
		s.follower.runsUnmet(e.Detail)
	default:
		s.follower.phase(e)
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
func (s *session) await(ctx, meeting context.Context, e *follow.Events) error {
	w := waits{running: s.follower.running, lost: meeting.Done(), ended: e.Over.Done()}
	for {
		select {
		case <-w.shown:
			return s.finish(s.over)
		case <-w.running:
			s.started, w.running = true, nil
		case record := <-s.follower.exited:
			s.exit(wire.Outcome(record), &w)
		case <-w.ended:
			if err := s.jobOver(ctx, e, &w); err != nil {
				return err
			}
		case <-w.patience:
			s.end(s.last, &w)
		case err := <-s.follower.stuck:
			return s.full(err)
		case refusal := <-e.Refused:
			s.refused(refusal)
		case <-w.lost:
			w.lost = nil
			if err := s.unmeetable(ctx, meeting); err != nil {
				return err
			}
		case err := <-s.follower.display.Broken():
			if done, err := s.broken(ctx, err); done {
				return err
			}
		case sig := <-s.signals:
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
func (s *session) exit(o *job.Outcome, w *waits) {
	switch s.attemptEnded(o) {
	case awaitPod:
		w.patience = time.After(podWait)
	case endRun:
		s.end(o, w)
	}
}

// jobOver takes the provider's word that the job is over, or can't be watched any more: its error ends the session.
func (s *session) jobOver(ctx context.Context, e *follow.Events, w *waits) error {
	w.ended = nil
	outcome := endOfJob(s.last, s.exited(), e.Over.Outcome, s.spec.Retries, s.follower.latest())
	if outcome == nil {
		return s.abort(ctx, context.Cause(e.Over))
	}
	s.end(outcome, w)
	return nil
}

// end takes how the run ends: what is left to wait for is its output.
func (s *session) end(o *job.Outcome, w *waits) {
	if s.unmet != nil {
		s.follower.showBefore(o.Attempt, func(ctx context.Context) error { return s.unmet(ctx, o.Attempt) })
	}
	s.over = o
	w.shown, w.ended, w.patience = s.follower.complete(), nil, nil
}

// attemptEnded takes how an attempt has ended by its agent's word, and returns what follows.
func (s *session) attemptEnded(o *job.Outcome) afterward {
	s.started = true
	if s.over != nil {
		return nothing
	}
	then := afterExit(o, s.spec.Retries, s.stopped)
	switch then {
	case awaitJob:
		s.last = o
	case awaitPod:
		o.Attempt = s.follower.latest()
		s.last = o
	}
	return then
}

// refused says that an agent and we refuse each other's certificates, while that matters.
func (s *session) refused(refusal *job.Failure) {
	if s.over == nil {
		s.screen.Note(fmt.Sprintf("%s; trying on for %s", refusal, follow.RefusedWait))
	}
}

// exited is how the last attempt has ended by its agent's own word, nil if that has not come.
func (s *session) exited() *job.Outcome {
	select {
	case record := <-s.follower.exited:
		return wire.Outcome(record)
	default:
		return nil
	}
}

// unmeetable ends a run whose agents can't be met: meeting has ended. Where it is for their
// certificates, the command may run, and the job is not ours to remove. A run that is over goes on with
// what is stored, and one whose ctx has ended is ended by the watching of its job: unmeetable returns nil.
func (s *session) unmeetable(ctx, meeting context.Context) error {
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
func (s *session) full(err error) error {
	hint := "{hodei} attach " + s.spec.Name
	if s.isMachine() {
		hint = "{hodei} logs " + s.spec.Name
	}
	if errors.Is(err, syscall.ENOSPC) {
		err = syscall.ENOSPC
		hint = fmt.Sprintf("make room in %s, then: %s", s.store.Dir, hint)
	}
	return s.leaveWith(job.ExitFailed, fmt.Errorf("store output: %w; %s", err, s.goesOn()), hint)
}

// tell shows an error that ends nothing.
func (s *session) tell(err error) {
	s.screen.Note(err.Error())
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Hint != "" {
		s.screen.Note("hint: " + s.named(f.Hint))
	}
}

func (s *session) isMachine() bool {
	_, here := s.place.(place.Machine)
	return here
}

// goesOn says what becomes of the job when we go.
func (s *session) goesOn() string {
	if s.isMachine() {
		return fmt.Sprintf("job %s ends with us", s.spec.Name)
	}
	return fmt.Sprintf("job %s goes on", s.spec.Name)
}

// settle ends the display, and tells whether it could. What it has still to show
// is shown, or dropped. One that hangs in a write is left behind: it ends with the
// process.
func (s *session) settle(drop bool) bool {
	display := s.follower.display
	if drop {
		display.Leave()
	} else {
		s.follower.complete()
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
func (s *session) leave(code int, err error) error {
	hint := "{hodei} attach " + s.spec.Name
	if s.isMachine() {
		hint = "{hodei} logs " + s.spec.Name
	}
	return s.leaveWith(code, err, hint)
}

func (s *session) leaveWith(code int, err error, hint string) error {
	outcome := &job.Outcome{Cause: job.Unknown, Code: code, Message: err.Error()}
	if s.stopped && s.over == nil && code == job.ExitCancelled {
		outcome.Cause = job.Cancelled
	}
	if s.settle(true) {
		if e := s.events.Exit(outcome, s.named(hint)); e != nil {
			err = errors.Join(err, e)
		}
	}
	s.screen.Stop()
	return &job.ExitError{Code: code, Err: &job.Hinted{Err: err, Hint: hint}}
}

// abort ends a run that failed for a reason other than its command. A job that
// has not started is removed.
func (s *session) abort(ctx context.Context, err error) error {
	if f, ok := errors.AsType[*job.Failure](err); ok && f.NeverStarted && !s.attached {
		s.started = false // what was seen to run was not the command
	}
	if s.started {
		s.screen.Stop()
		left := s.goesOn()
		if s.attached && !s.follower.ran() {
			left = fmt.Sprintf("job %s is left as it is", s.spec.Name)
		}
		err = fmt.Errorf("%w; %s", err, left)
		if hint := kubernetes.ClockHint(err.Error(), s.place.Namespace(), s.spec.Name); hint != "" {
			return s.leaveWith(job.ExitFailed, err, hint)
		}
		if errors.Is(err, kubernetes.ErrLost) {
			return s.leaveWith(job.ExitFailed, err, kubernetes.ComeBack(err, "{hodei} attach "+s.spec.Name))
		}
		if f, ok := errors.AsType[*job.Failure](err); ok && s.attached && f.Hint != "" {
			return s.leaveWith(job.ExitFailed, err, f.Hint)
		}
		return s.leave(job.ExitFailed, err)
	}
	s.remove(ctx)
	s.settle(false)
	return s.failed(err)
}

// remove deletes a job that has not started, once it is said how the run has ended. A
// Ctrl-C in between would leave the job behind: the next one waits for the deletion.
func (s *session) remove(ctx context.Context) {
	remove := func() {
		if err := s.job.Delete(ctx); err != nil {
			s.tell(err)
		}
	}
	if s.isMachine() { // its processes would be waited for
		remove()
		return
	}
	_, unhold := s.hear(signals.Ending...)
	s.afterwards(func() {
		defer unhold()
		remove()
	})
}

// finish shows the outcome, and makes it the exit code. All output has been shown.
func (s *session) finish(o *job.Outcome) error {
	if s.follower.closed() {
		return s.unread(o)
	}
	s.deafen()
	missing, remedy, err := s.follower.missing(o)
	if err != nil {
		return err
	}
	if refused := s.agents.Refused(); refused.Overlaps+refused.Holes > 0 {
		s.screen.Note(fmt.Sprintf("the agent sent %d batches again and %d too early: they were refused, and asked for anew",
			refused.Overlaps, refused.Holes))
	}
	s.samples = s.attemptSamples(o)
	if err := s.told(s.job.Keeps()); err != nil {
		return err
	}
	return s.concludeWith(o, missing, remedy)
}
