package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// typist is a person at a terminal in which hodei runs.
type typist struct {
	t        *testing.T
	hodei    *exec.Cmd
	master   *os.File
	terminal *os.File
	before   *unix.Termios

	mu      sync.Mutex
	seen    []byte        // what has come that nobody has waited for yet
	changed chan struct{} // closed and replaced when something comes
	reading sync.WaitGroup
}

// atTerminal starts hodei, with its files in home, in a terminal of 30 rows and 90 columns.
func atTerminal(t *testing.T, home string, args ...string) *typist {
	t.Helper()
	bin := buildWorker(t)
	p := &typist{t: t, changed: make(chan struct{})}
	p.master, p.terminal = uitest.Open(t, 90, 30)
	p.before = p.modes()
	p.hodei = exec.Command("hodei", args...)
	p.hodei.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+filepath.Join(home, "state"),
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"), "TERM=vt220", "PS1=ready> ", "ENV=")
	p.hodei.Stdin, p.hodei.Stdout, p.hodei.Stderr = p.terminal, p.terminal, p.terminal
	p.hodei.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.hodei.Start(); err != nil {
		t.Fatal(err)
	}
	p.reading.Go(p.read)
	t.Cleanup(func() {
		_ = p.hodei.Process.Kill() // if it still runs
		_ = p.hodei.Wait()
		p.terminal.Close()
		p.reading.Wait()
	})
	return p
}

// read reads what comes until nobody has the terminal open.
func (p *typist) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := p.master.Read(buffer)
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

// sees waits until a text comes.
func (p *typist) sees(text string) {
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

func (p *typist) types(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

func (p *typist) modes() *unix.Termios {
	p.t.Helper()
	modes, err := unix.IoctlGetTermios(int(p.terminal.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return modes
}

// ends waits for hodei's end, which leaves the terminal as it was.
func (p *typist) ends(code int) {
	p.t.Helper()
	_ = p.hodei.Wait() // its code tells
	if got := p.hodei.ProcessState.ExitCode(); got != code {
		p.t.Errorf("exit code %d, want %d", got, code)
	}
	if after := p.modes(); *after != *p.before {
		p.t.Errorf("the terminal's modes are %+v, want %+v", after, p.before)
	}
}

// TestInteractiveShell: a shell under hodei run -it is as a shell here.
func TestInteractiveShell(t *testing.T) {
	p := atTerminal(t, t.TempDir(), "run", "-it", "--provider", "local", "--", "sh", "-i")
	p.sees("running")
	p.sees("ready> ")
	p.types("stty size; echo $TERM\r")
	p.sees("\r\n30 90\r\nvt220\r\n")
	p.sees("ready> ")
	if err := uitest.SetSize(p.master, 60, 20); err != nil {
		t.Fatal(err)
	}
	p.types("until stty size | grep 60; do :; done\r") // the change is on its way
	p.sees("\r\n20 60\r\n")
	p.sees("ready> ")
	p.types("echo wait''ing; sleep 100\r")
	p.sees("waiting")
	p.types("\x03") // Ctrl-C
	p.sees("ready> ")
	p.types("echo $?\r")
	p.sees("130")
	p.sees("ready> ")
	p.types("echo wait''ing; sleep 100\r")
	p.sees("waiting")
	p.types("\x1a") // Ctrl-Z
	p.sees("ready> ")
	p.types("fg; echo back $?\r")
	p.sees("fg; echo")
	p.sees("sleep 100")
	p.types("\x03")
	p.sees("ready> ")
	p.types("exit 7\r")
	p.sees("exit 7 in ")
	p.ends(7)
}

// TestInteractiveLogs: what a program has asked its terminal is not asked again by hodei logs, except for bytes.
func TestInteractiveLogs(t *testing.T) {
	home := t.TempDir()
	p := atTerminal(t, home, "run", "-q", "-it", "--provider", "local", "--name", "seen", "--", "printf", `a \033[6n\033]0;title\007b\n`)
	p.sees("a \x1b[6n\x1b]0;title\x07b\r\n")
	p.ends(0)
	p = atTerminal(t, home, "logs", "--provider", "local", "seen")
	p.sees("a b")
	p.ends(0)
	p = atTerminal(t, home, "logs", "--provider", "local", "-o", "raw", "seen")
	p.sees("a \x1b[6n\x1b]0;title\x07b")
	p.ends(0)
}

// TestInteractiveEnds: however hodei run -it ends, the terminal is as it was.
func TestInteractiveEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		act  func(p *typist)
		code int
	}{
		{"SIGTERM", func(p *typist) { _ = p.hodei.Process.Signal(unix.SIGTERM) }, 130},
		{"two signals", func(p *typist) {
			_ = p.hodei.Process.Signal(unix.SIGTERM)
			_ = p.hodei.Process.Signal(unix.SIGINT)
		}, 130},
		{"the end of input", func(p *typist) { p.types("\x04") }, 0},
		{"the agent's death", func(p *typist) {
			out, err := exec.Command("pgrep", "-P", strconv.Itoa(p.hodei.Process.Pid), "-f", "hodei-worker agent").Output()
			if err != nil {
				p.t.Fatal(err)
			}
			if err := exec.Command("kill", "-9", strings.TrimSpace(string(out))).Run(); err != nil {
				p.t.Fatal(err)
			}
		}, 125},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := atTerminal(t, t.TempDir(), "run", "-it", "--provider", "local", "--", "sh", "-i")
			p.sees("ready> ")
			if *p.modes() == *p.before {
				t.Error("the keys are not the command's")
			}
			test.act(p)
			p.ends(test.code)
		})
	}
}
