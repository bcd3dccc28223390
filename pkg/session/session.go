// Package session follows one job to its end, as hodei run and attach do: it meets the job's agents, shows and stores
// their output, acts on signals, and tells the outcome. Start with [Run]. A [Teller] alone tells the outcome of a job
// that has already ended.
//
// Inside, session.next waits for an event, the pure function standing.decide says what follows, and session.take does
// it: steps.go has the steps after which the session goes on, endings.go those that end it.
//
// The package neither makes nor finds jobs, and knows no flags and no environment. It does not ask for signals: it
// acts on those that it is given.
package session

import (
	"cmp"
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// podWait is how long the container's status is awaited after an exit record that can't name the
// cause; the kubelet reports once a second.
const podWait = 10 * time.Second

// leaveWait is how long a display that hangs is given for the last event of a run
// that leaves it.
const leaveWait = time.Second

// Run serves a job's agents until the outcome is known and the output shown, or until a signal or a failure ends the
// session. It tells how the session ended and returns that: nil if the command succeeded; a [job.ExitError] if the
// command failed or the job was left running; a [job.Failure] if the command never started. A job can't be watched
// after the end of ctx, which ends the session as a failure. Run closes c.Job.
func Run(ctx context.Context, c Config) error { return newSession(c).run(ctx) }

// session is a job that is followed.
type session struct {
	Config
	agents   *follow.Attachment
	follower *follower
	record   *history.Record

	started   bool         // the command ran, in any attempt; that of a job that was there before counts
	stopped   bool         // the job was asked to stop
	warned    bool         // the next Ctrl-C leaves, and that was said
	signal    os.Signal    // the last that asked us to end; nil: none did
	last      *job.Outcome // of an attempt that may be followed by another
	inputUsed bool         // the attempt after last can't have the input, which that has read
	over      *job.Outcome // known, while there is still output to show
	wait      waits
}

// waits are what a session still waits for, beside what it always does; nil: not any more, or not yet.
type waits struct {
	running  <-chan struct{}  // the command runs
	lost     <-chan struct{}  // its agents can't be met any more
	ended    <-chan struct{}  // the provider says that the job is over
	patience <-chan time.Time // with the Pod's status, once an exit record is unclear
	shown    <-chan struct{}  // all output is, of a job that is over
	giveUp   <-chan time.Time // a job that was told to stop has been waited for
	keys     <-chan struct{}  // those that leave the terminal were typed
	input    <-chan error     // the rest of the input can't be sent
	unheld   <-chan error     // a job whose start is held may start, or why it can't
}

func newSession(c Config) *session {
	s := &session{Config: c, started: c.Attached}
	s.follower = newFollower(&s.Config)
	s.record = s.newRecord()
	for _, e := range c.Earlier {
		s.follower.showBefore(e.Attempt, e.Show)
	}
	return s
}

func (s *session) run(ctx context.Context) error {
	recorder := &coordinator.Recorder{JobUID: s.Job.UID(), Listener: follow.Exported(s.record, s.Exporter)}
	if s.Store != nil {
		recorder.Store = s.Store.Store
		s.Store.Tell(s.Screen.Note)
	}
	s.agents = &follow.Attachment{
		Job: s.Job, Namespace: s.Place.Namespace(), Name: s.Spec.Name, Recorder: recorder,
		Every: s.metricsInterval(), Unserved: s.Fallback, Input: s.Input, Report: s.report, NeverStarted: s.follower.neverStarted,
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
	s.Job.Close()
	s.record.Over(s.over)
	if e := recorder.Close(); e != nil && err == nil {
		err = &job.ExitError{Code: job.ExitFailed, Err: e}
	}
	return err
}

// metricsInterval is how often the job's agents are asked for a sample.
func (s *session) metricsInterval() time.Duration {
	switch {
	case s.UsageInterval > 0:
		return s.UsageInterval
	case s.Follow:
		return follow.FollowedEvery
	}
	return follow.UnwatchedEvery
}

// report takes a phase from the provider.
func (s *session) report(e job.Event) {
	if s.record != nil {
		s.record.Phase(e)
	}
	switch runs := s.Fallback && e.Phase == job.Running && !e.Waiting; {
	case runs && s.Follow:
		s.follower.followContainer(s.Place.(place.Cluster), e.Detail)
	case runs:
		s.follower.runsUnmet(e.Detail)
	default:
		s.follower.phase(e)
	}
}

// await acts on what happens until all is over. meeting ends when the job's agents can't be met any
// more, ctx when nothing can be done.
func (s *session) await(ctx, meeting context.Context, e *follow.Events) error {
	s.wait.running, s.wait.lost, s.wait.ended = s.follower.running, meeting.Done(), e.Over.Done()
	if s.Input != nil {
		s.wait.input = s.Input.Failed()
	}
	if s.Terminal != nil {
		s.wait.keys = s.Terminal.Detached()
		defer s.restoreTerminal()
	}
	for {
		if done, err := s.take(ctx, s.next(meeting, e)); done {
			return err
		}
	}
}

// next waits for the next event. What happens only once is not waited for again.
func (s *session) next(meeting context.Context, e *follow.Events) event {
	w := &s.wait
	select {
	case <-w.shown:
		return event{what: allShown, outcome: s.over}
	case <-w.running:
		w.running = nil
		return event{what: commandRuns}
	case <-s.follower.held:
		return event{what: startHeld}
	case err := <-w.unheld:
		w.unheld = nil
		return event{what: mayStart, err: err}
	case <-w.keys:
		w.keys = nil
		return event{what: keysTyped}
	case err := <-w.input:
		w.input = nil
		return event{what: inputFailed, err: err}
	case record := <-s.follower.exited:
		return event{what: attemptEnded, outcome: wire.Outcome(record)}
	case <-w.ended:
		w.ended = nil
		outcome := endOfJob(s.last, s.exited(), e.Over.Outcome, s.Spec.Retries, s.follower.latest())
		if s.inputUsed { // what came later never started
			outcome = s.last
		}
		return event{what: jobOver, outcome: outcome, err: context.Cause(e.Over)}
	case <-w.patience:
		return event{what: patienceOver, outcome: s.last}
	case err := <-s.follower.stuck:
		return event{what: storeStuck, err: err}
	case refusal := <-e.Refused:
		return event{what: agentRefused, err: refusal}
	case <-w.lost:
		w.lost = nil
		return event{what: meetingLost, err: context.Cause(meeting)}
	case err := <-s.follower.display.Broken():
		return event{what: displayBroken, err: err}
	case sig := <-s.Signals:
		return event{what: signalCame, signal: sig}
	case <-w.giveUp:
		return event{what: waitOver}
	}
}

// take notes an event and does what follows from it. done is true if the session has ended; err is how.
func (s *session) take(ctx context.Context, e event) (done bool, err error) {
	now := s.standing(ctx)
	switch {
	case e.what == commandRuns, e.what == attemptEnded:
		s.started = true
	case e.what == signalCame && signals.AsksToEnd(e.signal):
		s.signal = e.signal
	}
	then := now.decide(e)
	if end := endings[then]; end != nil {
		s.restoreTerminal()
		return true, end(s, ctx, now, e)
	}
	return s.goOn(ctx, then, now, e)
}

// standing is what the next step depends on.
func (s *session) standing(ctx context.Context) standing {
	runs := s.follower.ran()
	s.started = s.started || runs // a command that has just started is not to be lost without a word
	return standing{
		attached: s.Attached, here: s.here(), terminal: s.Terminal != nil, sends: s.wait.input != nil,
		fallback: s.Fallback, retries: s.Spec.Retries,
		runs: runs || s.started && !s.Attached, started: s.started, over: s.over != nil,
		warned: s.warned, asked: s.signal != nil, terminated: s.signal == syscall.SIGTERM,
		stopped: s.stopped, stopping: s.follower.toldToStop(), cut: ctx.Err() != nil,
	}
}

// exited returns how the last attempt ended according to its agent; nil: the agent has not told yet.
func (s *session) exited() *job.Outcome {
	select {
	case record := <-s.follower.exited:
		return wire.Outcome(record)
	default:
		return nil
	}
}

// samples returns the samples of o's attempt, from the store where it reaches further back.
func (s *session) samples(o *job.Outcome) []job.Sample {
	samples := s.follower.usage.of(o.Attempt)
	if s.Store == nil || !s.Attached {
		return samples
	}
	stored, _ := s.Store.Find(s.Place.Namespace(), s.Spec.Name) // what can't be read has no curve
	want := cmp.Or(o.Attempt, s.follower.latest())
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

// settle ends the display, and reports whether it has ended. With drop, what it has still to show is left out. A
// display that hangs in a write for longer than leaveWait is left behind, and ends with the process.
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

// leaveWith ends a run that does not know its job's outcome, or has not shown all of its output. It tells err and hint.
func (s *session) leaveWith(code int, err error, hint string) error {
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

// deafen stops hearing signals, so that the next one ends the process, whatever hangs.
func (s *session) deafen() {
	if s.StopSignals != nil {
		s.StopSignals()
	}
}
