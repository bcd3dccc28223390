package output

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

// ErrUnreadable tells an error of the log from one of the writer behind a sink.
var ErrUnreadable = errors.New("stored output can't be shown")

// Passage is a stretch of an attempt's log that is to be shown. Make one with [NewPassage]; Show is
// called once, and always: it lets go of the log. All other methods may be called meanwhile.
type Passage struct {
	// Attempt is the name of the attempt.
	Attempt string
	// To is the offset where it ends; math.MaxUint64, as at first: where the log ends. It is set
	// before Show.
	To uint64

	log  *logstore.Log
	from uint64

	mu     sync.Mutex
	ended  bool               // the log does not grow any more
	ending context.CancelFunc // ends a wait for more of the log; nil: Show was not called
	shown  uint64             // up to here
	tail   error              // what is damaged from shown on; nil: nothing
}

// NewPassage returns a passage from offset from on, and has the log keep it until it was shown.
func NewPassage(attempt string, log *logstore.Log, from uint64) *Passage {
	log.Hold(from)
	return &Passage{Attempt: attempt, To: math.MaxUint64, log: log, from: from, shown: from}
}

// Offset returns where the next byte to be shown lies.
func (p *Passage) Offset() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown
}

// Damage returns why nothing from Offset on can be read; nil: it can, or there is nothing.
func (p *Passage) Damage() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail
}

// End tells that the log does not grow any more: Show returns once it has shown what is there.
func (p *Passage) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.ending != nil {
		p.ending()
	}
}

// whileGrowing returns a context that ends with ctx, by End, or by the function.
func (p *Passage) whileGrowing(ctx context.Context) (context.Context, context.CancelFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	growing, cancel := context.WithCancel(ctx)
	p.ending = cancel
	if p.ended {
		cancel()
	}
	return growing, cancel
}

// hasEnded reports whether End was called.
func (p *Passage) hasEnded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

// Show writes the log to s as it grows, until To, or until End was called and all is written, or
// until all that follows is damaged. It returns an error that wraps [ErrUnreadable] if the log
// can't be read, also because ctx has ended, and else the error of s.
func (p *Passage) Show(ctx context.Context, s Sink) error {
	defer p.log.Hold(math.MaxUint64)
	growing, cancel := p.whileGrowing(ctx)
	defer cancel()
	for reader := p.log.Reader(p.from); p.Offset() < p.To; {
		ended := p.hasEnded()
		wait := growing
		if _, end := p.log.Extent(); p.Offset() < end {
			wait = ctx // what is there is shown
		} else if ended {
			break
		}
		b, err := reader.Next(wait)
		damage, damaged := errors.AsType[*logstore.DamageError](err)
		switch {
		case errors.Is(err, io.EOF):
			return s.Flush()
		case damaged:
			p.mu.Lock()
			p.tail = damage
			p.mu.Unlock()
			return s.Flush()
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			continue // it was said to have ended while we waited for more
		case err != nil:
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		if err := p.write(s, b, reader.Damage()); err != nil {
			return err
		}
	}
	return s.Flush()
}

// write shows a batch up to To. damage is why the batch is a gap; nil: the gap has another reason,
// or there is none.
func (p *Passage) write(s Sink, b *hodeipb.Batch, damage *logstore.DamageError) error {
	data, offset := b.Data, b.Offset
	for _, r := range b.Records {
		if offset >= p.To {
			return nil
		}
		n := uint64(r.Length) + r.Lost
		var err error
		if r.Lost > 0 {
			g := Gap{Attempt: p.Attempt, Offset: offset, Bytes: r.Lost}
			if damage != nil {
				g.Damage = damage
			}
			err = s.Gap(g)
		} else {
			bytes := data[:r.Length]
			if offset+n > p.To {
				bytes = bytes[:p.To-offset]
			}
			err = s.Record(p.Attempt, offset, r, bytes)
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
