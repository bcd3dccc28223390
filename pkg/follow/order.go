package follow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

const (
	// confirmWait is how long an agent is given to say that it has passed a signal on. It does so within
	// 0.1 s; through a connection that breaks, and is made anew, within some seconds.
	confirmWait = 10 * time.Second
	// unconfirmedWait is how long an agent is waited for that can't say so, because it is of an older
	// version: the order has reached it by then.
	unconfirmedWait = time.Second
)

var (
	// ErrNoCommand is that the agent was met, and the command has not started.
	ErrNoCommand = errors.New("the command has not started")
	// ErrEnded is that the command has ended.
	ErrEnded = errors.New("the command has ended")
	// ErrRuns is that the command still runs after the time in which it should have ended.
	ErrRuns = errors.New("the command still runs")
)

// Order tells the agent of an attempt that runs to do something: it attaches in silence, as one that
// stores nothing, and leaves when the agent has done it. It requires Job, Namespace, Name and
// AttemptUID, and is used for one call of one method.
type Order struct {
	Job Job
	// Namespace, Name and JobUID are the job's, AttemptUID is the attempt's.
	Namespace, Name, JobUID string
	AttemptUID              string
	// Wait is how long the agent is waited for; 0: [MeetWait].
	Wait time.Duration
	// Slow, if not nil, is called when the agent is not there after [MeetSay].
	Slow func()
	// TurnedAway is the Attachment's.
	TurnedAway func(*coordinator.Fault)
}

// Cancel has the command end as order says, waits for that, and returns how it ended: with the cause
// Cancelled, unless it ended by itself just before. The error is [ErrNoCommand] if there is nothing to
// end, [ErrRuns] if the command has not ended within wait, or an error of [Meet].
func (o *Order) Cancel(ctx context.Context, order *hodeipb.Cancel, wait time.Duration) (*job.Outcome, error) {
	var outcome *job.Outcome
	err := o.run(ctx, func(ctx context.Context, a *Attachment, e *Events, l *obedience, state *hodeipb.State) (err error) {
		if err := noCommand(state); errors.Is(err, ErrNoCommand) { // one that has ended says how
			return err
		}
		a.Cancel(order)
		outcome, err = l.ends(ctx, e, wait)
		return err
	})
	return outcome, err
}

// Signal sends a signal, by its number on Linux, to the command's process group. confirmed tells that
// the agent says that it has passed it on; an agent of an older version does not. The error is
// [ErrNoCommand] or [ErrEnded] if there is no command, or an error of [Meet].
func (o *Order) Signal(ctx context.Context, number int32) (confirmed bool, err error) {
	err = o.run(ctx, func(ctx context.Context, a *Attachment, e *Events, l *obedience, state *hodeipb.State) (err error) {
		if err := noCommand(state); err != nil {
			return err
		}
		if !a.Signal(number) {
			return errors.New("the agent's connection broke before the signal could be sent")
		}
		confirmed, err = l.confirms(ctx, e, state)
		return err
	})
	return confirmed, err
}

// noCommand says why an agent in this state has no command that runs; nil: it has one.
func noCommand(state *hodeipb.State) error {
	switch {
	case state.Phase < hodeipb.Phase_RUNNING:
		return ErrNoCommand
	case state.Phase >= hodeipb.Phase_ENDED:
		return ErrEnded
	}
	return nil
}

// run meets the agent and has act tell it; state is the agent's when it was met.
func (o *Order) run(
	ctx context.Context, act func(context.Context, *Attachment, *Events, *obedience, *hodeipb.State) error,
) error {
	l := newObedience(o.AttemptUID)
	a := &Attachment{
		Job: o.Job, Namespace: o.Namespace, Name: o.Name,
		Recorder: &coordinator.Recorder{JobUID: o.JobUID, Listener: l}, TurnedAway: o.TurnedAway,
	}
	return a.Run(ctx, func(ctx context.Context, e *Events) error {
		meeting, cancel := ctx, func() {}
		if o.Wait > 0 {
			meeting, cancel = context.WithTimeoutCause(ctx, o.Wait, errWaited(o.Wait))
		}
		state, err := Meet(meeting, e, l.attached, Patience{Slow: o.Slow})
		cancel()
		if err != nil {
			return err
		}
		return act(ctx, a, e, l, state)
	})
}

// errWaited is an ErrLate of another time than MeetWait.
type errWaited time.Duration

func (e errWaited) Error() string        { return "not within " + time.Duration(e).String() }
func (e errWaited) Is(target error) bool { return target == ErrLate }

// obedience is the Listener that hears what comes of an order to an attempt.
type obedience struct {
	uid      string
	attached chan *hodeipb.State // gets that of the first hello
	states   chan *hodeipb.State // has the latest
	exited   chan *hodeipb.ExitRecord

	mu      sync.Mutex
	attempt string // empty: it has not attached
}

func newObedience(uid string) *obedience {
	return &obedience{
		uid: uid, attached: make(chan *hodeipb.State, 1), states: make(chan *hodeipb.State, 1), exited: make(chan *hodeipb.ExitRecord, 1),
	}
}

// Attached takes the attempt that is wanted.
func (l *obedience) Attached(a coordinator.Attachment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a.Hello.AttemptUid == l.uid && l.attempt == "" {
		l.attempt = a.Hello.Attempt
		l.attached <- a.Hello.State
	}
}

// State keeps the latest.
func (l *obedience) State(attempt string, state *hodeipb.State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if attempt != l.attempt {
		return
	}
	select {
	case <-l.states:
	default:
	}
	l.states <- state
}

// Exited tells that the command has ended.
func (l *obedience) Exited(attempt string, record *hodeipb.ExitRecord) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if attempt != l.attempt {
		return
	}
	select {
	case l.exited <- record:
	default: // it was told
	}
}

// Metrics are of no interest here.
func (l *obedience) Metrics(string, *hodeipb.Metrics) {}

// Failed does not happen: nothing is stored.
func (l *obedience) Failed(string, error) {}

// ends waits for the command's end, for as long as wait.
func (l *obedience) ends(ctx context.Context, e *Events, wait time.Duration) (*job.Outcome, error) {
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case record := <-l.exited:
		e.Complete() // the agent hears that we have it
		return wire.Outcome(record), nil
	case <-e.Over.Done():
		select {
		case record := <-l.exited: // before that
			return wire.Outcome(record), nil
		default:
		}
		if e.Over.Outcome == nil {
			return nil, context.Cause(e.Over)
		}
		return e.Over.Outcome, nil
	case <-late.C:
		return nil, ErrRuns
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// confirms waits until the agent says that it has passed on one signal more than in state before.
func (l *obedience) confirms(ctx context.Context, e *Events, before *hodeipb.State) (bool, error) {
	wait := confirmWait
	if before.Signals == nil {
		wait = unconfirmedWait
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	for {
		select {
		case state := <-l.states:
			if before.Signals != nil && state.GetSignals() > before.GetSignals() {
				return true, nil
			}
		case <-l.exited:
			e.Complete() // the agent hears that we have it
			return l.last(before)
		case <-e.Over.Done():
			return l.last(before)
		case <-late.C:
			if before.Signals == nil {
				return false, nil
			}
			return false, fmt.Errorf("the agent has not said within %s that it passed the signal on", confirmWait)
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// last decides about a signal whose command has ended: by the agent's last state it came first, or it did not. Of an
// agent that can't tell, the signal is taken for what ended it.
func (l *obedience) last(before *hodeipb.State) (bool, error) {
	if before.Signals == nil {
		return false, nil
	}
	select {
	case state := <-l.states:
		if state.GetSignals() > before.GetSignals() {
			return true, nil
		}
	default:
	}
	return false, ErrEnded
}
