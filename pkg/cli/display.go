package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sink is where output is shown.
type sink interface {
	// record takes the bytes of one record, which lie at offset of the attempt's output.
	record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error
	// gap takes that some of it is missing.
	gap(g gap) error
	// flush takes that an attempt's output has ended.
	flush() error
}

// gap is output of an attempt that is missing.
type gap struct {
	attempt string
	offset  uint64
	bytes   uint64 // 0: nobody knows how many
	damage  error  // of what is stored, which is why; nil: it was dropped, or never came
	// log tells that it is of a container's log, whose bytes have no offsets; of is how
	// many it should have, 0: nobody knows.
	log bool
	of  uint64
}

func (g gap) String() string {
	amount := "an unknown number of"
	if g.bytes > 0 {
		amount = fmt.Sprint(g.bytes)
	}
	if g.of > 0 && g.bytes > 0 {
		amount += fmt.Sprintf(" of %d", g.of)
	}
	if g.log {
		return fmt.Sprintf("%s bytes of %s are missing from its container's log", amount, g.attempt)
	}
	text := fmt.Sprintf("%s bytes of %s are missing from offset %d on", amount, g.attempt, g.offset)
	if g.damage != nil {
		text += ": " + g.damage.Error()
	}
	return text
}

// rawSink passes the output on byte for byte.
type rawSink struct{ to *lineWriter }

func (s rawSink) record(_ string, _ uint64, r *hodeipb.Record, data []byte) error {
	_, err := s.to.writer(r.Stream).Write(data)
	s.to.wrote(r.Stream, data)
	return err
}

func (rawSink) gap(gap) error { return nil }
func (rawSink) flush() error  { return nil }

// streamSink passes one stream on.
type streamSink struct {
	sink
	stream hodeipb.Stream
}

func (s streamSink) record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if r.Stream != s.stream {
		return nil
	}
	return s.sink.record(attempt, offset, r, data)
}

// display shows what happens to a job, step by step, at the pace of whoever
// reads it: it has a goroutine of its own, so that neither the job nor the
// storing of its output waits for a terminal.
type display struct {
	ctx  context.Context // ends what waits for output, not a write
	stop context.CancelCauseFunc

	mu     sync.Mutex
	steps  []func(context.Context) error
	wake   chan struct{} // has room for one
	closed bool
	err    error

	// saying is held by what is said beside the steps.
	saying chan struct{}

	// broken carries the first error, after which nothing is shown; done is closed
	// when all is shown.
	broken chan error
	done   chan struct{}
}

func newDisplay() *display {
	ctx, stop := context.WithCancelCause(context.Background())
	d := &display{ctx: ctx, stop: stop, wake: make(chan struct{}, 1), saying: make(chan struct{}, 1), broken: make(chan error, 1), done: make(chan struct{})}
	go d.run()
	return d
}

// errLeft ends a display that nobody waits for any more.
var errLeft = errors.New("the display was left")

// errUnreadable tells an error of the log from one of who reads our output.
var errUnreadable = errors.New("stored output can't be shown")

// run makes the steps, one after the other. After an error the context that each
// is called with has ended: it shows nothing, and lets go of what it holds.
func (d *display) run() {
	defer close(d.done)
	defer func() { d.saying <- struct{}{} }() // the last to hold it
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
			if err := step(d.ctx); err != nil {
				d.fail(err)
			}
		case closed:
			return
		default:
			<-d.wake
		}
	}
}

// do queues a step.
func (d *display) do(step func(context.Context) error) {
	d.mu.Lock()
	d.steps = append(d.steps, step)
	d.mu.Unlock()
	d.awake()
}

// say queues a step that only says something, and is left out after an error.
func (d *display) say(step func() error) {
	d.do(func(ctx context.Context) error {
		if ctx.Err() == nil {
			return step()
		}
		return nil
	})
}

// aside says something at once, before what is still to be shown. It is left out
// while the one before hangs in its terminal.
func (d *display) aside(say func()) {
	select {
	case d.saying <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-d.saying }()
		say()
	}()
}

// awaitAside waits until what is being said beside the steps has been, or ctx ends.
func (d *display) awaitAside(ctx context.Context) {
	select {
	case d.saying <- struct{}{}:
		<-d.saying
	case <-ctx.Done():
	}
}

// finish lets the display end once it has shown all.
func (d *display) finish() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.awake()
}

func (d *display) awake() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *display) fail(err error) {
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

// failed is the first error.
func (d *display) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// leave ends the display without showing the rest.
func (d *display) leave() {
	d.fail(errLeft)
	d.finish()
}

// passage is a stretch of a log that is to be shown.
type passage struct {
	attempt string
	log     *logstore.Log
	from    uint64
	// to is where it ends; math.MaxUint64: where the log does.
	to uint64
	// growing ends, by end, when the log will not grow any more.
	growing context.Context
	end     context.CancelFunc

	mu    sync.Mutex
	shown uint64 // up to here
	tail  error  // what is damaged behind that; nil: nothing
}

// newPassage keeps the log from offset from on until it has been shown.
func newPassage(attempt string, log *logstore.Log, from uint64) *passage {
	log.Hold(from)
	p := &passage{attempt: attempt, log: log, from: from, to: math.MaxUint64, shown: from}
	p.growing, p.end = context.WithCancel(context.Background())
	return p
}

// offset is where the next byte to be shown lies.
func (p *passage) offset() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown
}

// damage is of what is stored behind offset; nil: nothing is, or it can be read.
func (p *passage) damage() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail
}

// show reads the log up to its end, or to where all that follows is damaged, or until ctx
// ends, and writes it to s.
func (p *passage) show(ctx context.Context, s sink) error {
	defer p.log.Hold(math.MaxUint64)
	defer p.end()
	growing, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.growing, cancel)()
	for reader := p.log.Reader(p.from); p.offset() < p.to; {
		ended := p.growing.Err() != nil
		wait := growing
		if _, end := p.log.Extent(); p.offset() < end {
			wait = ctx // what is there is shown
		} else if ended {
			break
		}
		b, err := reader.Next(wait)
		damage, damaged := errors.AsType[*logstore.DamageError](err)
		switch {
		case errors.Is(err, io.EOF):
			return s.flush()
		case damaged:
			p.mu.Lock()
			p.tail = damage
			p.mu.Unlock()
			return s.flush()
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			continue // it was said to have ended while we waited for more
		case err != nil:
			return fmt.Errorf("%w: %w", errUnreadable, err)
		}
		if err := p.write(s, b, reader.Damage()); err != nil {
			return err
		}
	}
	return s.flush()
}

// write shows a batch, as far as it is wanted. damage is why it is a gap, if that is why.
func (p *passage) write(s sink, b *hodeipb.Batch, damage *logstore.DamageError) error {
	data, offset := b.Data, b.Offset
	for _, r := range b.Records {
		if offset >= p.to {
			return nil
		}
		n := uint64(r.Length) + r.Lost
		var err error
		if r.Lost > 0 {
			g := gap{attempt: p.attempt, offset: offset, bytes: r.Lost}
			if damage != nil {
				g.damage = damage
			}
			err = s.gap(g)
		} else {
			bytes := data[:r.Length]
			if offset+n > p.to {
				bytes = bytes[:p.to-offset]
			}
			err = s.record(p.attempt, offset, r, bytes)
			data = data[r.Length:]
		}
		if err != nil {
			return err
		}
		offset += n
		p.mu.Lock()
		p.shown = offset
		p.mu.Unlock()
	}
	p.log.Hold(offset)
	return nil
}
