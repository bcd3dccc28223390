package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// inputAckEvery is the least time between two acks of input. At 4 MiB on the way it allows 400
// MB/s, which is more than a tunnel carries.
const inputAckEvery = 10 * time.Millisecond

// joinBytes is the most that small pieces are joined to.
const joinBytes = 64 << 10

// input is the command's stdin. One coordinator owns it and sends it; the agent writes each byte
// once, whatever becomes of the connection. A command that does not read holds the coordinator back.
type input struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes

	// owner is the Welcome.client that sends the input; empty: nobody does yet. attached counts its
	// attachments, and left is when the last of them ended.
	owner    string
	attached int
	left     time.Time
	// given is why the owner sends no more; empty: it has not said so.
	given string

	// queue holds the input from taken, which is written, to end, which has come.
	queue      [][]byte
	taken, end uint64
	complete   bool // nothing comes behind end
	done       bool // nothing more is wanted
}

func newInput() *input { return &input{changed: make(chan struct{})} }

// update changes the input and wakes who waits for it.
func (in *input) update(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
	close(in.changed)
	in.changed = make(chan struct{})
}

// claim makes client the owner of the input and counts its attachment. Otherwise it says why the
// client can't be the owner.
func (in *input) claim(client string) (refused string) {
	if in == nil {
		return "the job was not made to take input"
	}
	in.update(func() {
		switch free := in.owner == "" || in.attached == 0 && in.end == 0; {
		case client == "" || len(client) > hodeipb.MaxClientBytes:
			refused = "a coordinator without an id can't have the input"
		case in.owner != client && !free:
			refused = "another hodei sends the input of this job"
		default:
			in.owner = client
			in.attached++
		}
	})
	return refused
}

// release is the end of an attachment that has claimed the input.
func (in *input) release() {
	in.update(func() {
		in.attached--
		in.left = time.Now()
	})
}

// take takes a piece of the input from its owner. An error is a piece that no owner sends.
func (in *input) take(m *hodeipb.Input) (err error) {
	in.update(func() {
		switch n := uint64(len(m.Data)); {
		case in.done: // what was on its way when the command stopped reading
		case n > hodeipb.MaxInputBytes:
			err = fmt.Errorf("%d bytes of input at once", n)
		case m.Offset > in.end:
			err = fmt.Errorf("input from %d, there are %d bytes", m.Offset, in.end)
		case m.Offset+n > in.taken+hodeipb.InputWindow:
			err = fmt.Errorf("input up to %d, of which %d bytes are taken", m.Offset+n, in.taken)
		case m.Offset+n < in.end: // all of it was here before
		default:
			if fresh := m.Data[in.end-m.Offset:]; len(fresh) > 0 {
				if in.complete {
					err = errors.New("input behind its end")
					return
				}
				in.enqueue(fresh)
				in.end += uint64(len(fresh))
			}
			in.complete = in.complete || m.Complete
		}
	})
	return err
}

// enqueue adds to the queue. Small pieces become one, so that input that comes byte by byte takes no
// more memory than it has bytes; the first piece may be being written. in.mu is held.
func (in *input) enqueue(fresh []byte) {
	if last := len(in.queue) - 1; last > 0 && len(in.queue[last])+len(fresh) <= joinBytes {
		in.queue[last] = append(in.queue[last], fresh...)
		return
	}
	in.queue = append(in.queue, fresh)
}

// giveUp notes that the owner sends no more, and why. Where nobody owns the input, any coordinator can
// say that it will not come.
func (in *input) giveUp(client, why string) {
	in.update(func() {
		if client == in.owner && in.given == "" {
			in.given = why
			if why == "" {
				in.given = "its sender has left"
			}
		}
	})
}

// lost says why the rest of the input will not come, if the owner may be away for patience. Without
// a reason it returns when to ask again; zero: when something has changed.
func (in *input) lost(patience time.Duration, now time.Time) (why string, ask time.Time, changed <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	away := in.owner != "" && in.attached == 0
	switch {
	case in.complete || in.done:
	case in.given != "":
		why = in.given
	case away && now.Sub(in.left) >= patience:
		why = fmt.Sprintf("its sender has not come back for %s", patience)
	case away:
		ask = in.left.Add(patience)
	}
	return why, ask, in.changed
}

// awaitLoss returns why the rest of the input will not come; empty: ctx has ended before that.
func (in *input) awaitLoss(ctx context.Context, patience time.Duration) string {
	for {
		why, ask, changed := in.lost(patience, time.Now())
		if why != "" {
			return why
		}
		late := time.NewTimer(time.Until(ask))
		if ask.IsZero() {
			late.Stop()
		}
		select {
		case <-changed:
		case <-late.C:
		case <-ctx.Done():
			late.Stop()
			return ""
		}
		late.Stop()
	}
}

// next returns the next piece to write. It returns nil when there is none, and whether there will be
// none any more.
func (in *input) next() (piece []byte, over bool, changed <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.queue) > 0 {
		return in.queue[0], false, nil
	}
	return nil, in.complete, in.changed
}

// wrote notes that n bytes of the first piece are written.
func (in *input) wrote(n int) {
	in.update(func() {
		in.taken += uint64(n)
		if in.queue[0] = in.queue[0][n:]; len(in.queue[0]) == 0 {
			in.queue[0] = nil
			in.queue = in.queue[1:]
		}
	})
}

// finish notes that no more input is wanted.
func (in *input) finish() {
	in.update(func() { in.done, in.queue = true, nil })
}

// sendAcks says what the command has taken, in the words of send, until ctx ends or no more input is
// wanted. The first ack goes at once.
func (in *input) sendAcks(ctx context.Context, send func(*hodeipb.InputAck) error) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for first, last := true, uint64(0); ; first = false {
		in.mu.Lock()
		ack, changed := &hodeipb.InputAck{Offset: in.taken, Done: in.done}, in.changed
		in.mu.Unlock()
		if first || ack.Done || ack.Offset > last {
			if err := send(ack); err != nil || ack.Done {
				return err
			}
			last = ack.Offset
			pause.Reset(inputAckEvery)
			select {
			case <-pause.C:
			case <-ctx.Done():
				return nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// feed writes the input to the command, until that reads no more, all is written, f is closed, or ctx
// ends.
func (a *agent) feed(ctx context.Context, f *os.File, conn *net.UnixConn) {
	defer a.input.finish()
	for {
		piece, over, changed := a.input.next()
		switch {
		case over:
			f.Close()
			if err := handover.Send(conn, handover.FromAgent{InputComplete: true}); err != nil {
				a.Log.Warn("launcher not told that the input is complete", "error", err)
			}
			return
		case piece == nil:
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
			continue
		}
		n, err := f.Write(piece)
		a.input.wrote(n)
		if err != nil {
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, os.ErrClosed) {
				a.Log.Warn("input not written", "error", err)
			}
			return
		}
	}
}
