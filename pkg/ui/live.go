package ui

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Sequences of ECMA-48 and xterm that every terminal of today knows.
const (
	noWrap     = "\x1b[?7l" // what does not fit on a line is left out
	wrap       = "\x1b[?7h"
	enterLive  = "\x1b[?1049h\x1b[?25l" + noWrap // the alternate screen, without a cursor
	leaveLive  = wrap + "\x1b[?25h\x1b[?1049l"
	home       = "\x1b[H"
	eraseLine  = "\x1b[2K" // before the line: behind one as wide as the terminal it would take the last sign
	eraseBelow = "\x1b[J"
)

// Live is a terminal that is drawn on again and again, and given back as it was, as
// top(1) and less(1) do. Use [OpenLive], and Close it.
type Live struct {
	out     *os.File
	resized chan os.Signal
	quit    chan struct{}

	in      *os.File // nil: it is no terminal, and nobody types
	before  *term.State
	wake    [2]*os.File // a pipe that ends the reading of keys; no process that is started has it
	reading sync.WaitGroup
	close   sync.Once
}

// OpenLive takes the terminal out, and the keys of in if it is one too. An error is of
// an out that is no terminal, or of one that can't be set.
func OpenLive(in io.Reader, out io.Writer) (*Live, error) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, errors.New("not a terminal")
	}
	l := &Live{out: f, resized: make(chan os.Signal, 1), quit: make(chan struct{})}
	if keys, ok := in.(*os.File); ok && term.IsTerminal(int(keys.Fd())) {
		if err := l.takeKeys(keys); err != nil {
			return nil, fmt.Errorf("set terminal: %w", err)
		}
	}
	signal.Notify(l.resized, syscall.SIGWINCH)
	_, err := io.WriteString(f, enterLive)
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// takeKeys reads keys as they are typed.
func (l *Live) takeKeys(in *os.File) error {
	var err error
	if l.wake[0], l.wake[1], err = os.Pipe(); err != nil {
		return err
	}
	if max(in.Fd(), l.wake[0].Fd()) > maxAwaited {
		l.closeWake()
		return unix.EMFILE
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		l.closeWake()
		return err
	}
	l.in, l.before = in, before
	l.reading.Go(l.readKeys)
	return nil
}

// readKeys ends with q, Ctrl-C, Ctrl-D, Escape that begins no other key, the end of the terminal, or Close.
func (l *Live) readKeys() {
	key := make([]byte, 64)
	in, wake := int(l.in.Fd()), int(l.wake[0].Fd())
	for {
		// A read that nobody types for could not be ended.
		if woken, err := awaitInput(in, wake); woken || err != nil {
			return
		}
		n, err := unix.Read(in, key)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		text := string(key[:max(n, 0)])
		if n <= 0 || strings.ContainsAny(text, "qQ\x03\x04") || strings.HasSuffix(text, "\x1b") {
			close(l.quit)
			return
		}
	}
}

// Quit is closed when the person wants to leave: by q, Escape, Ctrl-C or Ctrl-D, or by
// closing the terminal.
func (l *Live) Quit() <-chan struct{} { return l.quit }

// Resized tells that the terminal has another size.
func (l *Live) Resized() <-chan os.Signal { return l.resized }

// Size is how many columns and lines there are; 80 and 24 of a terminal that does not
// say.
func (l *Live) Size() (width, height int) {
	if width, height = size(l.out); width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// Draw shows lines in place of those before, as many as there is room for. They must
// be printable, and not wider than the terminal.
func (l *Live) Draw(lines []string) error {
	_, height := l.Size()
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(eraseLine + line)
	}
	b.WriteString(eraseBelow)
	_, err := io.WriteString(l.out, b.String())
	return err
}

// Close gives the terminal back. It may be called again.
func (l *Live) Close() {
	l.close.Do(func() {
		signal.Stop(l.resized)
		_, _ = io.WriteString(l.out, leaveLive) // to one that is gone it does not matter
		if l.in == nil {
			return
		}
		_, _ = l.wake[1].Write([]byte{0})
		l.reading.Wait()
		_ = term.Restore(int(l.in.Fd()), l.before)
		l.closeWake()
	})
}

func (l *Live) closeWake() {
	for _, end := range l.wake {
		end.Close() // nothing was written that could be lost
	}
}
