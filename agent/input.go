package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// inputAckEvery is the least time between two acks of input. At 4 MiB on the way it allows 400
// MB/s, which is more than a tunnel carries.
const inputAckEvery = 10 * time.Millisecond

// endOfInput is what a person types to end the input of a command at a terminal, Ctrl-D.
const endOfInput = "\x04"

// joinBytes is the most that small pieces are joined to.
const joinBytes = 64 << 10

// input is the command's stdin. One coordinator owns it and sends it; the agent writes each byte
// once, whatever becomes of the connection. A command that does not read holds the coordinator back.
//
// A terminal has one owner after the other, each with offsets from 0 on.
type input struct {
	tty    bool   // the command is at a terminal
	window uint64 // so many bytes may have come that are not written

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

	// Of a terminal: the offset at which the owner's first byte is, whether the end of its input was typed,
	// the size that the owner has told, and the terminal itself while it is there.
	base     uint64
	ownings  uint64 // how many owners have left
	typedEnd bool
	size     *unix.Winsize
	terminal *os.File
}

func newInput(window uint64) *input { return &input{window: window, changed: make(chan struct{})} }

// update changes the input and wakes who waits for it.
func (in *input) update(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	change()
	close(in.changed)
	in.changed = make(chan struct{})
}

// claim makes client the owner of the input and counts its attachment. Otherwise it says why the
// client can't be the owner. The owning is of the attachment until the owner leaves a terminal.
func (in *input) claim(client string) (owning uint64, refused string) {
	if in == nil {
		return 0, "the job was not made to take input"
	}
	in.update(func() {
		switch free := in.owner == "" && !in.tty || in.attached == 0 && (in.end == 0 || in.tty); {
		case client == "" || len(client) > hodeipb.MaxClientBytes:
			refused = "a coordinator without an id can't have the input"
		case in.done: // nobody sends any more
			in.attached++
			owning = in.ownings
		case in.owner != client && !free:
			refused = "another hodei sends the input of this job"
		default:
			if in.tty && in.owner != client {
				in.beginAgain()
			}
			in.owner = client
			in.attached++
			owning = in.ownings
		}
	})
	return owning, refused
}

// beginAgain prepares a terminal for another owner. What the one before has typed last, and what is not
// written yet, is left out, save the piece that may be being written. in.mu is held.
func (in *input) beginAgain() {
	in.queue = in.queue[:min(len(in.queue), 1)]
	in.end = in.taken
	for _, piece := range in.queue {
		in.end += uint64(len(piece))
	}
	in.base, in.complete, in.typedEnd = in.end, false, false
}

// release is the end of an attachment that has claimed the input.
func (in *input) release(owning uint64) {
	in.update(func() {
		if owning == in.ownings {
			in.attached--
			in.left = time.Now()
		}
	})
}

// owns tells whether an attachment is still of the owner. What an owner that has left a terminal has sent before
// that, over another connection, is not the next one's.
func (in *input) owns(owning uint64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return owning == in.ownings
}

// take takes a piece of the input from its owner. An error is a piece that no owner sends.
func (in *input) take(m *hodeipb.Input) (err error) {
	in.update(func() {
		offset := in.base + m.Offset
		switch n := uint64(len(m.Data)); {
		case in.done: // what was on its way when the command stopped reading
		case n > hodeipb.MaxInputBytes:
			err = fmt.Errorf("%d bytes of input at once", n)
		case offset > in.end || offset < in.base:
			err = fmt.Errorf("input from %d, there are %d bytes", m.Offset, in.end-in.base)
		case offset+n > max(in.taken, in.base)+in.window:
			err = fmt.Errorf("input up to %d, of which %d bytes are taken", m.Offset+n, in.acked())
		case offset+n < in.end: // all of it was here before
		default:
			if fresh := m.Data[in.end-offset:]; len(fresh) > 0 {
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

// acked is how much of its input the owner need not send again. in.mu is held.
func (in *input) acked() uint64 { return max(in.taken, in.base) - in.base }

// offset is acked for whoever does not hold in.mu.
func (in *input) offset() uint64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.acked()
}

// resize takes the size of the owner's terminal.
func (in *input) resize(size *hodeipb.TerminalSize) error {
	if !in.tty {
		return errors.New("the size of a terminal, and the command has none")
	}
	const most = 1<<16 - 1
	if size.Rows == 0 || size.Columns == 0 || size.Rows > most || size.Columns > most {
		return fmt.Errorf("a terminal of %d rows and %d columns", size.Rows, size.Columns)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.size = &unix.Winsize{Row: uint16(size.Rows), Col: uint16(size.Columns)}
	in.setSize()
	return nil
}

// show gives the terminal, whose size is then what the owner has told; nil: it is not there any more.
func (in *input) show(terminal *os.File) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.terminal = terminal
	in.setSize()
}

// setSize makes the terminal's size the owner's, which the kernel tells the command by SIGWINCH if it is
// another one. in.mu is held.
func (in *input) setSize() {
	if in.terminal != nil && in.size != nil {
		_ = unix.IoctlSetWinsize(int(in.terminal.Fd()), unix.TIOCSWINSZ, in.size) // fails for nothing but a bad pointer
	}
}

// giveUp notes that the owner sends no more, and why. Where nobody owns the input, any coordinator can
// say that it will not come. An owner leaves a terminal to the next one.
func (in *input) giveUp(client, why string) {
	in.update(func() {
		switch {
		case client != in.owner:
		case in.tty && client != "":
			in.owner, in.attached = "", 0 // its connections may seem to be there for a while
			in.ownings++
		case !in.tty && in.given == "":
			in.given = cmp.Or(why, "its sender has left")
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
	case away && now.Sub(in.left) >= patience && in.tty:
		why = fmt.Sprintf("nobody has come back to its terminal for %s", patience)
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
	return nil, in.complete && !in.typedEnd, in.changed
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
		ack, changed := &hodeipb.InputAck{Offset: in.acked(), Done: in.done}, in.changed
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
// ends. When all is written, f is closed, and complete called.
func (in *input) feed(ctx context.Context, f *os.File, complete func() error) error {
	defer in.finish()
	for {
		piece, over, changed := in.next()
		switch {
		case over && in.tty:
			piece = []byte(endOfInput)
		case over:
			f.Close()
			return complete()
		case piece == nil:
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		n, err := writeSome(f, piece)
		if over {
			in.update(func() { in.typedEnd = true })
		} else {
			in.wrote(n)
		}
		switch {
		case errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.EIO), errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return err
		}
	}
}

// writeSome writes as much of p as there is room for, at least a byte. Where there was less room than that it rests: a
// writer that waits for a full pipe is woken by each read of it, for the few KiB that were read.
func writeSome(f *os.File, p []byte) (n int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, os.ErrClosed
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for {
			if n, failed = unix.Write(int(fd), p); failed != unix.EINTR {
				break
			}
		}
		n = max(n, 0)
		return failed != unix.EAGAIN
	})
	switch {
	case err != nil: // f has no write deadline
		return n, os.ErrClosed
	case failed == nil && n < len(p):
		time.Sleep(maxRest)
	}
	return n, failed
}
