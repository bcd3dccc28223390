package uitest

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Typist is a person at a terminal in which a command runs.
type Typist struct {
	Cmd    *exec.Cmd
	Master *os.File

	t        testing.TB
	terminal *os.File
	before   *unix.Termios

	mu      sync.Mutex
	seen    []byte        // what has come that nobody has waited for yet
	changed chan struct{} // closed and replaced when something comes
	reading sync.WaitGroup
}

// Sit starts cmd in a terminal of 30 rows and 90 columns. It ends with the test at the latest.
func Sit(t testing.TB, cmd *exec.Cmd) *Typist {
	t.Helper()
	p := &Typist{Cmd: cmd, t: t, changed: make(chan struct{})}
	p.Master, p.terminal = Open(t, 90, 30)
	p.before = p.modes()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.terminal, p.terminal, p.terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.reading.Go(p.read)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if it still runs
		_ = cmd.Wait()
		p.terminal.Close()
		p.reading.Wait()
	})
	return p
}

// read reads what comes until nobody has the terminal open.
func (p *Typist) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := p.Master.Read(buffer)
		p.mu.Lock()
		p.seen = append(p.seen, buffer[:n]...)
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Sees waits until a text comes.
func (p *Typist) Sees(text string) {
	p.t.Helper()
	late := time.After(30 * time.Second)
	for {
		p.mu.Lock()
		_, rest, found := bytes.Cut(p.seen, []byte(text))
		changed, seen := p.changed, string(p.seen)
		if found {
			p.seen = rest
		}
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-late:
			p.t.Fatalf("%q does not come, but %q", text, seen)
		}
	}
}

// Types types keys.
func (p *Typist) Types(keys string) {
	p.t.Helper()
	if _, err := p.Master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Typist) modes() *unix.Termios {
	p.t.Helper()
	modes, err := unix.IoctlGetTermios(int(p.terminal.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return modes
}

// Raw reports whether the terminal is not as it was at first.
func (p *Typist) Raw() bool { return *p.modes() != *p.before }

// Ends waits for the command's end, which leaves the terminal as it was.
func (p *Typist) Ends(code int) {
	p.t.Helper()
	_ = p.Cmd.Wait() // its code tells
	if got := p.Cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d", got, code)
	}
	if after := p.modes(); *after != *p.before {
		p.t.Errorf("the terminal's modes are %+v, want %+v", after, p.before)
	}
}
