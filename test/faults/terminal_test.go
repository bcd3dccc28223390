package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
)

// typedReady is what a job prints before it prints what is typed.
const typedReady = "ready\n"

// size is that of a terminal.
type size struct{ rows, columns uint16 }

// numbered gives every number a size of its own, and a higher one to a higher number.
func numbered(n int) size { return size{uint16(24 + n/10), uint16(80 + n%10)} }

func (s size) before(other size) bool {
	return s.rows < other.rows || s.rows == other.rows && s.columns < other.columns
}

// terminalSize is the size of this process's terminal.
func terminalSize() (size, error) {
	w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return size{}, err
	}
	return size{w.Row, w.Col}, nil
}

// typedLine is what is typed after the size with that number was set.
func typedLine(n int) string { return fmt.Sprintf("%d %s\n", n, strings.Repeat("x", 1000)) }

// echoTyped prints what is typed, line by line as it comes. It fails if the terminal has not the size of a line, or a
// later one, when the line is read; if the size goes back to an earlier one; or if SIGWINCH does not tell the last.
func echoTyped(lines int) error {
	if _, err := term.MakeRaw(0); err != nil {
		return err
	}
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	seen, err := terminalSize()
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(typedReady); err != nil {
		return err
	}
	echoed := make(chan error, 1)
	go func() { echoed <- echoLines(lines) }()
	for ended := false; !ended || seen != numbered(lines-1); {
		select {
		case <-resized:
			now, err := terminalSize()
			if err != nil {
				return err
			}
			if now.before(seen) {
				return fmt.Errorf("the size is %v after %v", now, seen)
			}
			seen = now
		case err := <-echoed:
			if err != nil {
				return err
			}
			ended = true
		}
	}
	return nil
}

// echoLines prints so many lines of standard input, and compares each with its number and the terminal's size.
func echoLines(lines int) error {
	in := bufio.NewReader(os.Stdin)
	for n := range lines {
		text, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if _, err := os.Stdout.WriteString(text); err != nil {
			return err
		}
		now, err := terminalSize()
		if err != nil {
			return err
		}
		if now.before(numbered(n)) {
			return fmt.Errorf("line %d: the size is %v, %v was set before it was typed", n, now, numbered(n))
		}
	}
	return nil
}

// TestResizeCuts breaks the connection of a job at a terminal 100 times. With each break the size changes and a line
// is typed: the sizes come in order and each before its line, the last one stays, and every line comes once, there
// and back.
func TestResizeCuts(t *testing.T) {
	t.Parallel()
	const cuts = 100
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 8))
	text := pattern{"typed", cuts + 1}
	source, keys := io.Pipe()
	a := newAttempt(t)
	a.terminal = true
	a.input = coordinator.NewInput(source, nil)
	t.Cleanup(func() {
		source.Close()
		a.input.Close()
	})
	resize := func(n int) { a.input.Resize(uint32(numbered(n).rows), uint32(numbered(n).columns)) }
	resize(0)
	f := newFollower()
	l := listen(t)
	s := a.serve(f, l, false)
	p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
		if p.cuts() >= cuts {
			return nil
		}
		// In silence, mostly, so that what is sent gets lost, and not so early that the agent backs off for long.
		silent := []kind{reset, agentGone, serverGone, deaf, mute, blackHole, slow}
		after := 25*time.Millisecond + time.Duration(rnd.Int64N(int64(10*time.Millisecond)))
		hold := 2*time.Millisecond + time.Duration(rnd.Int64N(int64(8*time.Millisecond)))
		return &fault{kind: silent[rnd.IntN(len(silent))], after: after, hold: hold}
	})
	a.server = p.Addr().String()
	a.startAgent()
	a.launch(typed, text)
	began := time.Now()
	a.release(s, f)
	f.until(t, typedReady, func() bool { return f.end > 0 })
	unread := time.AfterFunc(patience, func() { keys.CloseWithError(errors.New("what is typed is not read")) })
	defer unread.Stop()
	late := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := 0; n <= cuts; {
		for ; n <= int(p.cuts()); n++ {
			resize(n)
			if _, err := io.WriteString(keys, typedLine(n)); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("too few cuts: %s", p)
		}
	}
	r := f.exited(t)
	a.ends()
	if r.Code != 0 {
		t.Errorf("exit record %v", r)
	}
	a.passed(f, text)
	t.Logf("%d bytes in %.1fs, attached %d times; %s", r.End, time.Since(began).Seconds(), len(f.attached), p)
}

// TestNoTerminal: where the image has no /dev/ptmx, a job that wants a terminal ends with 126, and one line says why.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	bare := []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"`, "sh"}
	if out, err := exec.Command(bare[0], append(bare[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("no /dev can be mounted here: %v: %s", err, out)
	}
	source, keys := io.Pipe()
	a := newAttempt(t)
	a.terminal, a.inside = true, bare
	a.input = coordinator.NewInput(source, nil)
	t.Cleanup(func() {
		keys.Close()
		a.input.Close()
	})
	a.input.Resize(24, 80)
	f := newFollower()
	a.startAgent()
	a.launch(typed, pattern{"typed", 0})
	s := a.attach(f, false)
	a.release(s, f)
	r := f.exited(t)
	const want = "no terminal can be had in this container: /dev/ptmx: no such file or directory"
	if r.Code != contract.ExitCannotRun || r.Message != want || r.End != 0 {
		t.Errorf("exit record %v, want %d and the message %q", r, contract.ExitCannotRun, want)
	}
	a.agent.exits(t)
	<-a.launcher.ended
	if code := a.launcher.cmd.ProcessState.ExitCode(); code != contract.ExitCannotRun {
		t.Errorf("the launcher has ended with %d", code)
	}
	if said := a.launcher.stderr.String(); strings.Count(said, want) > 1 || strings.Contains(said, "panic") {
		t.Errorf("the launcher says %q", said)
	}
}
