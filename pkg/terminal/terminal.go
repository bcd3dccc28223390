package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// ErrGone means that the terminal has hung up.
var ErrGone = errors.New("the terminal is gone")

// Terminal is the terminal of this process, whose keys go to a command elsewhere and which shows what comes
// back. Start with [Open]. Whoever opens it defers Close, so that the terminal is as it was before whatever happens.
//
// [Terminal.Read] is for one goroutine; all other methods may be called at any time.
type Terminal struct {
	input    *Input
	in, out  *os.File
	raw      chan struct{} // closed by Enter
	detached chan struct{} // closed once the keys were typed
	closed   chan struct{}
	once     sync.Once

	mu      sync.Mutex
	before  *term.State // as the terminal was; nil: it is that way now
	entered bool

	// Of Read: what was typed for the command and is not yet returned, and whether the keys were typed behind it.
	matcher matcher
	pending []byte
	left    bool
	typed   [256]byte
}

// Is reports whether a stream is a terminal.
func Is(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// Missing says why in and out can't be a command's terminal; empty: they can.
func Missing(in io.Reader, out io.Writer) string {
	for _, stream := range []struct {
		name string
		file any
	}{{"stdin", in}, {"stdout", out}} {
		if !Is(stream.file) {
			return stream.name + " is not a terminal"
		}
	}
	return ""
}

// Open returns the terminal that in and out are, as it is. Both stay open when the Terminal is closed. detach are
// the keys that leave the command; none: no keys do.
func Open(in io.Reader, out io.Writer, detach Keys) (*Terminal, error) {
	if why := Missing(in, out); why != "" {
		return nil, errors.New(why)
	}
	input, err := NewInput(in)
	if err != nil {
		return nil, err
	}
	return &Terminal{
		input: input, in: in.(*os.File), out: out.(*os.File), matcher: matcher{keys: detach},
		raw: make(chan struct{}), detached: make(chan struct{}), closed: make(chan struct{}),
	}, nil
}

// Size returns the terminal's size, each from 1 to 65535. One that says nothing of it has 24 rows and 80 columns.
func (t *Terminal) Size() (rows, columns uint32) {
	width, height, err := term.GetSize(int(t.out.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 24, 80
	}
	return uint32(height), uint32(width)
}

// Enter has each key go to the command as it is typed, and all that is shown come from there. It does nothing the
// second time, nor after Restore: ours is false then.
func (t *Terminal) Enter() (ours bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entered {
		return t.before != nil, nil
	}
	t.entered = true
	before, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return false, fmt.Errorf("take the terminal: %w", err)
	}
	t.before = before
	close(t.raw)
	return true, nil
}

// Restore makes the terminal what it was before Enter, for good.
func (t *Terminal) Restore() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entered = true
	if t.before != nil {
		_ = term.Restore(int(t.in.Fd()), t.before) // it fails if the terminal has gone
		t.before = nil
	}
}

// Detached is closed when the keys were typed, and what was typed before them was read.
func (t *Terminal) Detached() <-chan struct{} { return t.detached }

// Read returns what is typed for the command, from Enter on. Once the keys were typed it waits for Close, and
// returns os.ErrClosed. A terminal has no end: one that hangs up is ErrGone.
func (t *Terminal) Read(p []byte) (int, error) {
	select {
	case <-t.raw:
	case <-t.closed:
		return 0, os.ErrClosed
	}
	for len(t.pending) == 0 {
		if t.left {
			close(t.detached)
			<-t.closed
			return 0, os.ErrClosed
		}
		n, err := t.input.Read(t.typed[:])
		switch {
		case errors.Is(err, os.ErrClosed):
			return 0, err
		case err != nil, n == 0:
			return 0, ErrGone
		}
		t.pending, t.left = t.matcher.take(t.pending[:0], t.typed[:n])
	}
	n := copy(p, t.pending)
	t.pending = t.pending[n:]
	return n, nil
}

// Close restores the terminal and ends a Read that waits.
func (t *Terminal) Close() {
	t.Restore()
	t.once.Do(func() { close(t.closed) })
	t.input.Close()
}
