package output

import (
	"context"
	"errors"
	"sync"
)

// Display shows what happens to a job, step by step, at the pace of whoever reads it: it has a
// goroutine of its own, so that neither the job nor the storing of its output waits for a terminal.
// All methods may be called at once. Make one with [NewDisplay]; after [Display.Finish] or
// [Display.Leave], wait for [Display.Done].
type Display struct {
	stop context.CancelCauseFunc // ends the context of the steps

	mu     sync.Mutex
	steps  []func(context.Context) error
	wake   chan struct{} // has room for one
	closed bool
	err    error

	// aside is held by what is shown beside the steps.
	aside chan struct{}

	broken chan error
	done   chan struct{}
}

// NewDisplay starts a display that has nothing to show yet.
func NewDisplay() *Display {
	ctx, stop := context.WithCancelCause(context.Background())
	d := &Display{
		stop: stop, wake: make(chan struct{}, 1), aside: make(chan struct{}, 1),
		broken: make(chan error, 1), done: make(chan struct{}),
	}
	go d.run(ctx)
	return d
}

// errLeft is the error of a display that nobody waits for any more.
var errLeft = errors.New("the display was left")

// run makes the steps, one after the other. It ends ctx, with the error, after the first that fails.
func (d *Display) run(ctx context.Context) {
	defer close(d.done)
	defer func() { d.aside <- struct{}{} }() // waits for the last Aside, and lets no other begin
	for {
		d.mu.Lock()
		var step func(context.Context) error
		if len(d.steps) > 0 {
			step, d.steps = d.steps[0], d.steps[1:]
		}
		closed := d.closed
		d.mu.Unlock()
		switch {
		case step != nil:
			if err := step(ctx); err != nil {
				d.Fail(err)
			}
		case closed:
			return
		default:
			<-d.wake
		}
	}
}

// Do queues a step. The step's context ends, with the first error of the display as its cause, once
// nothing is to be shown any more: the step then shows nothing, and lets go of what it holds. A
// write that hangs is not interrupted.
func (d *Display) Do(step func(context.Context) error) {
	d.mu.Lock()
	d.steps = append(d.steps, step)
	d.mu.Unlock()
	d.awake()
}

// Say queues a step that only shows something. It is left out after an error.
func (d *Display) Say(step func() error) {
	d.Do(func(ctx context.Context) error {
		if ctx.Err() == nil {
			return step()
		}
		return nil
	})
}

// Aside shows something at once, in a goroutine of its own that Done waits for, before what is still
// queued. It is left out while the Aside before it hangs in its terminal, and after the end.
func (d *Display) Aside(say func()) {
	select {
	case d.aside <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-d.aside }()
		say()
	}()
}

// AwaitAside waits until the running Aside has ended, or ctx ends. It is for steps.
func (d *Display) AwaitAside(ctx context.Context) {
	select {
	case d.aside <- struct{}{}:
		<-d.aside
	case <-ctx.Done():
	}
}

// Finish lets the display end once all steps have run. No step is queued after it.
func (d *Display) Finish() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.awake()
}

func (d *Display) awake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Fail ends the showing: err becomes the first error, unless there is one.
func (d *Display) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		d.stop(err)
		if !errors.Is(err, errLeft) {
			d.broken <- err
		}
	}
}

// Err returns the first error; nil: there is none. Leave is an error too.
func (d *Display) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Leave ends the display without showing the rest.
func (d *Display) Leave() {
	d.Fail(errLeft)
	d.Finish()
}

// Broken returns a channel that carries the first error, but not that of Leave. It is never closed.
func (d *Display) Broken() <-chan error { return d.broken }

// Done returns a channel that is closed when the display has ended: nothing that it started still runs.
func (d *Display) Done() <-chan struct{} { return d.done }
