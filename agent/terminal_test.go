package agent

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// types has the coordinator own the terminal of a command, of 33 rows and 101 columns, and returns what types
// there.
func (w *worker) types() io.Writer {
	r, keys := io.Pipe()
	w.sends(r)
	w.cfg.TTY, w.surroundings.TTY = true, true
	w.server.Input.Resize(33, 101)
	return keys
}

func key(t testing.TB, keys io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(keys, text); err != nil {
		t.Error(err)
	}
}

// TestTerminal: a command has a terminal for all of its streams, which echoes, has a size, and whose keys are
// signals.
func TestTerminal(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	keys := w.types()
	w.run("sh", "-c", `test -t 0 && test -t 1 && test -t 2 && test "$(tty)" != "not a tty" && stty size
		trap 'stty size' WINCH
		read -r x; echo "got $x"
		read -r x; echo "got $x"
		trap 'exit 7' INT
		echo waiting
		while :; do sleep 0.05; done`)
	w.release()
	w.follower.untilPrinted(t, "33 101\r\n")
	key(t, keys, "hello\n")
	w.follower.untilPrinted(t, "hello\r\ngot hello\r\n")
	w.server.Input.Resize(20, 60)
	w.follower.untilPrinted(t, "20 60\r\n")
	key(t, keys, "two\n")
	w.follower.untilPrinted(t, "waiting")
	key(t, keys, "\x03")
	if r := w.ends(7); r.Cause != contract.CauseError || r.StderrEnd != 0 {
		t.Errorf("exit record %v", r)
	}
}

// TestTerminalEnd: the end of input that is not typed is typed by the agent, and all output comes.
func TestTerminalEnd(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.sends(strings.NewReader("one\ntwo\n"))
	w.cfg.TTY, w.surroundings.TTY = true, true
	w.run("sh", "-c", "stty -echo; while read -r x; do echo got $x; done; seq 100000")
	w.release()
	w.ends(0)
	if n := w.follower.end; n < 688894 { // what seq prints, and a carriage return a line
		t.Errorf("%d bytes came", n)
	}
	if !strings.Contains(string(w.follower.head), "got two\r\n1\r\n") {
		t.Errorf("%.80q came", w.follower.head)
	}
}

// TestTerminalHangUp: to stop a command at a terminal is to hang up, for all of its process groups.
func TestTerminalHangUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		act   func(w *worker)
		cause string // "": the agent tells none any more
	}{
		"cancelled":       {func(w *worker) { w.server.Cancel(&hodeipb.Cancel{}) }, contract.CauseCancelled},
		"the agent dies":  {func(w *worker) { w.agent.signal(w.t, unix.SIGKILL) }, ""},
		"the Pod is told": {func(w *worker) { w.launcher.signal(w.t, unix.SIGTERM) }, contract.CauseSignaled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			keys := w.types()
			w.run("sh", "-i") // which ignores SIGTERM
			w.release()
			key(t, keys, "sleep 1000 & kill -STOP $!; echo pid $!. e''nd\n")
			w.follower.untilPrinted(t, ". end\r\n")
			pid := w.printedPID()
			test.act(w)
			if test.cause == "" {
				w.launcher.exits(t, contract.ExitAgentGone)
			} else if r := w.ends(128 + int(unix.SIGHUP)); r.Cause != test.cause {
				t.Errorf("exit record %v", r)
			}
			awaitEnd(t, pid)
		})
	}
}

// printedPID is the number of the process that the command has printed.
func (w *worker) printedPID() string {
	w.follower.mu.Lock()
	defer w.follower.mu.Unlock()
	pids := regexp.MustCompile(`pid (\d+)\.`).FindSubmatch(w.follower.head)
	if pids == nil {
		w.t.Fatalf("no number in %q", w.follower.head)
	}
	return string(pids[1])
}

// awaitEnd waits until a process is gone.
func awaitEnd(t testing.TB, pid string) {
	t.Helper()
	for deadline := time.Now().Add(agenttest.Patience); ; time.Sleep(5 * time.Millisecond) { // nothing tells
		if _, err := os.Stat("/proc/" + pid); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s does not end", pid)
		}
	}
}

// TestTerminalKilled: what takes no notice of being hung up is killed after the grace, in all process groups.
func TestTerminalKilled(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.Grace = 300 * time.Millisecond
	w.types()
	w.run("sh", "-c", `set -m; trap "" TERM HUP; sleep 1000 & echo "pid $!."; while :; do sleep 0.05; done`)
	w.release()
	w.follower.untilPrinted(t, ".")
	pid := w.printedPID()
	w.server.Cancel(&hodeipb.Cancel{})
	w.ends(128 + int(unix.SIGKILL))
	awaitEnd(t, pid)
}

// TestTerminalOwners: an owner that leaves is told that it may, the command goes on, and the next one has the
// terminal from there on. One that vanishes has its time to come back.
func TestTerminalOwners(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.StartTimeout, w.cfg.Linger = 2*time.Second, 300*time.Millisecond
	w.listenHere()
	keys := w.types()
	w.startAgent()
	w.launch("sh", "-c", `stty size; while read -r x; do echo "got $x"; stty size; done`)
	w.tunnel()
	w.release()
	w.follower.untilPrinted(t, "33 101")
	key(t, keys, "first\n")
	w.follower.untilPrinted(t, "got first")

	r, second := io.Pipe()
	other := coordinator.NewInput(r, nil)
	defer other.Close()
	defer r.Close()
	other.Resize(24, 80)
	serve := func() (*follower, *coordinator.Server) {
		f := newFollower()
		s := &coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job, Follower: f, Input: other}
		w.tunnelTo(s)
		return f, s
	}
	w.server.LeaveInput("")
	select {
	case <-w.server.Input.Over():
	case <-time.After(agenttest.Patience):
		t.Fatal("nobody answers who leaves")
	}
	w.server.Close()
	f, s := serve()
	key(t, second, "second\n")
	f.untilPrinted(t, "got second\r\n24 80")
	s.Close() // and does not leave
	record := w.termination
	w.agent.exits(t, contract.ExitOK)
	want := "nobody has come back to its terminal for 2s"
	if got := record(); got.Cause != contract.CauseInputLost || !strings.Contains(got.Message, want) {
		t.Errorf("exit record %v", got)
	}
}

func TestTerminalInput(t *testing.T) {
	in := newInput(hodeipb.InputWindow)
	in.tty = true
	take := func(offset uint64, text string, complete bool) {
		t.Helper()
		if err := in.take(&hodeipb.Input{Offset: offset, Data: []byte(text), Complete: complete}); err != nil {
			t.Fatal(err)
		}
	}
	if refused := claim(in, "a"); refused != "" {
		t.Fatal(refused)
	}
	take(0, "abc", false)
	in.wrote(2)
	if refused := claim(in, "b"); refused == "" {
		t.Error("another owner while the first is there")
	}
	in.giveUp("a", "")
	if why, _, _ := in.lost(0, time.Now()); why != "" {
		t.Errorf("lost: %s", why)
	}
	if refused := claim(in, "b"); refused != "" { // though the first's connection still seems to be there
		t.Fatal(refused)
	}
	in.release(0) // that connection
	if in.owns(0) || !in.owns(1) || in.attached != 1 {
		t.Errorf("%d connections of the second owner", in.attached)
	}
	if got := in.offset(); got != 0 {
		t.Errorf("the second owner has sent %d bytes", got)
	}
	take(0, "xy", false)
	take(1, "yz", true)
	if err := in.take(&hodeipb.Input{Offset: 4}); err == nil {
		t.Error("a hole was taken")
	}
	var got []byte
	for {
		data, over, _ := in.next()
		if data == nil {
			if !over {
				t.Error("the end was not told")
			}
			break
		}
		got = append(got, data...)
		in.wrote(len(data))
	}
	if string(got) != "cxyz" { // what may be being written of the first, and all of the second
		t.Errorf("%q", got)
	}
	if got := in.offset(); got != 3 {
		t.Errorf("%d bytes are acknowledged", got)
	}
}

// claim is input.claim for who is not interested in the owning.
func claim(in *input, client string) string {
	_, refused := in.claim(client)
	return refused
}

func TestTerminalSize(t *testing.T) {
	in := newInput(hodeipb.InputWindow)
	if in.resize(&hodeipb.TerminalSize{Rows: 1, Columns: 1}) == nil {
		t.Error("a size for a command without a terminal")
	}
	in.tty = true
	for _, test := range []struct {
		rows, columns uint32
		ok            bool
	}{{1, 1, true}, {65535, 65535, true}, {0, 80, false}, {24, 0, false}, {65536, 80, false}, {24, 1 << 31, false}} {
		if err := in.resize(&hodeipb.TerminalSize{Rows: test.rows, Columns: test.columns}); (err == nil) != test.ok {
			t.Errorf("%d, %d: %v", test.rows, test.columns, err)
		}
	}
}
