package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// beside is a command that runs beside the job's.
type beside struct {
	*coordinator.Execution
	t        testing.TB
	out, err agenttest.Buffer
	server   *coordinator.Server
}

// runsBeside runs a job that allows other commands, and returns when its command runs, which ends with w.stdin.
func (w *worker) runsBeside(script string) {
	w.t.Helper()
	w.cfg.Exec, w.cfg.ExecSocket = true, filepath.Join(w.dir, "x")
	w.run("sh", "-c", script)
	w.follower.untilRunning(w.t)
}

// exec has a command run beside the job's.
func (w *worker) exec(spec *hodeipb.ExecStart, input *coordinator.Input, command ...string) *beside {
	w.t.Helper()
	b := &beside{t: w.t}
	for _, word := range command {
		spec.Command = append(spec.Command, []byte(word))
	}
	b.Execution = coordinator.NewExecution(spec, input, &b.out, &b.err)
	if input != nil {
		w.t.Cleanup(input.Close)
	}
	b.server = &coordinator.Server{TLS: w.execTLS(), Namespace: testID.Namespace, Job: testID.Job, Exec: b.Execution}
	w.tunnelFrom(b.server)
	return b
}

// execTLS is the side of a coordinator that may have commands run.
func (w *worker) execTLS() *tls.Config {
	w.t.Helper()
	a, err := testAuthority()
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := a.IssueExec(testID)
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := c.ServerConfig()
	if err != nil {
		w.t.Fatal(err)
	}
	return config
}

// tunnelFrom serves a coordinator on a connection to the agent's socket.
func (w *worker) tunnelFrom(s *coordinator.Server) {
	w.t.Helper()
	tunnel := tunnel.New()
	serveAt(w.t, s, tunnel)
	conn, err := net.Dial("unix", w.cfg.ExecSocket)
	if err != nil {
		w.t.Fatal(err)
	}
	var delivery sync.WaitGroup
	delivery.Go(func() { tunnel.Deliver(context.Background(), conn) })
	w.t.Cleanup(func() { s.Close(); delivery.Wait() })
}

// ends waits for the end of the command, and compares its code and what it printed.
func (b *beside) ends(code int, out, errOut string) *hodeipb.ExecExit {
	b.t.Helper()
	select {
	case <-b.Ended():
	case <-time.After(agenttest.Patience):
		b.t.Fatal("the command does not end")
	}
	end, err := b.End()
	if err != nil {
		b.t.Fatalf("the command was lost: %v", err)
	}
	if int(end.Code) != code || b.out.String() != out || b.err.String() != errOut {
		b.t.Errorf("end %v, stdout %.200q, stderr %.200q; want code %d, %.200q and %.200q", end, b.out.String(), b.err.String(),
			code, out, errOut)
	}
	return end
}

// untilPrints waits for text on the command's stdout.
func (b *beside) untilPrints(text string) {
	b.t.Helper()
	if !b.out.Await(text) {
		b.t.Fatalf("waited for %q, got %q", text, b.out.String())
	}
}

// TestExec: a command beside the job's finds what that finds, has its own streams and end, and is no part of the output.
func TestExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho script $1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	w := newWorker(t)
	w.env, w.surroundings.Workdir = []string{"COLOUR=red", "SIZE=large"}, dir
	w.runsBeside("echo job; read x; exit 5")
	var executions []*beside
	for _, test := range []struct {
		name, directory string
		env             []string
		command         []string
		code            int
		out, err        string
	}{
		{name: "streams and end", command: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}, code: 3, out: "out\n", err: "err\n"},
		{name: "killed", command: []string{"sh", "-c", "kill -USR1 $$"}, code: 128 + int(unix.SIGUSR1)},
		{name: "surroundings", command: []string{"sh", "-c", "echo $COLOUR $SIZE; pwd; wc -c"}, out: "red large\n" + dir + "\n0\n"},
		{name: "variables", env: []string{"COLOUR=blue", "X=a=b"}, command: []string{"sh", "-c", "echo $COLOUR $SIZE $X"},
			out: "blue large a=b\n"},
		{name: "any bytes", env: []string{"X=\xff\n"}, command: []string{"sh", "-c", `printf %s "$X$1"`, "sh", "\xfe"}, out: "\xff\n\xfe"},
		{name: "directory", directory: "below", command: []string{"sh", "-c", "pwd; echo $PWD"}, out: strings.Repeat(dir+"/below\n", 2)},
		{name: "no directory", directory: "nowhere", command: []string{"pwd"}, code: contract.ExitCannotRun},
		{name: "a long one", directory: strings.Repeat("\x01", 5000), command: []string{"pwd"}, code: contract.ExitCannotRun},
		{name: "a file for a directory", directory: "script", command: []string{"pwd"}, code: contract.ExitCannotRun},
		{name: "a path from there", directory: "below", command: []string{"../script", "1"}, out: "script 1\n"},
		{name: "PATH", env: []string{"PATH=" + dir}, command: []string{"script", "2"}, out: "script 2\n"},
		{name: "not found", command: []string{"no-such-program"}, code: contract.ExitNotFound},
		{name: "no such path", command: []string{"./no-such-program"}, code: contract.ExitNotFound},
		{name: "not executable", command: []string{"/etc/passwd"}, code: contract.ExitCannotRun},
		{name: "a directory", command: []string{"/etc"}, code: contract.ExitCannotRun},
		{name: "no variable", env: []string{"=x"}, command: []string{"true"}, code: contract.ExitCannotRun},
	} {
		spec := &hodeipb.ExecStart{Directory: []byte(test.directory)}
		for _, v := range test.env {
			spec.Environment = append(spec.Environment, []byte(v))
		}
		b := w.exec(spec, nil, test.command...)
		executions = append(executions, b)
		end := b.ends(test.code, test.out, test.err)
		notStarted := test.code == contract.ExitCannotRun || test.code == contract.ExitNotFound
		if end.NotStarted != notStarted || (end.Error != "") != notStarted {
			t.Errorf("%s: end %v", test.name, end)
		}
	}
	started := uint32(0)
	for _, b := range executions {
		if end, _ := b.End(); !end.NotStarted {
			started++
		}
	}
	w.stdin.Close()
	if r := w.ends(5); r.Execs != started || r.Cause != contract.CauseError {
		t.Errorf("exit record %v, want %d execs", r, started)
	}
	if got := string(w.follower.head); got != "job\n" {
		t.Errorf("the job's output is %q", got)
	}
}

// TestExecInput: input of any size comes whole, with its end, also where the command is slow.
func TestExecInput(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.runsBeside("read x")
	data := agenttest.RandomBytes(rand.New(rand.NewPCG(1, 2)), 5<<20+3)
	b := w.exec(&hodeipb.ExecStart{}, coordinator.NewInput(bytes.NewReader(data), nil), "sh", "-c", "sleep 0.2; cat")
	b.ends(0, string(data), "")
	b = w.exec(&hodeipb.ExecStart{}, coordinator.NewInput(&endless{}, nil), "head", "-c", "3")
	b.ends(0, "\x00\x00\x00", "")
	b = w.exec(&hodeipb.ExecStart{}, coordinator.NewInput(strings.NewReader(""), nil), "wc", "-c")
	b.ends(0, "0\n", "")
	w.stdin.Close()
	w.ends(1)
}

// TestExecTerminal: a command beside the job's has a terminal of its own, with a size and keys that are signals.
func TestExecTerminal(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.runsBeside("read x")
	r, keys := io.Pipe()
	input := coordinator.NewInput(r, nil)
	input.Resize(33, 101)
	b := w.exec(&hodeipb.ExecStart{Tty: true}, input, "sh", "-c", `stty size; trap 'stty size' WINCH; trap 'exit 7' INT
		echo waiting; while :; do sleep 0.05; done`)
	t.Cleanup(func() { keys.Close() })
	b.untilPrints("33 101\r\nwaiting")
	input.Resize(20, 60)
	b.untilPrints("20 60\r\n")
	key(t, keys, "\x03")
	b.ends(7, "33 101\r\nwaiting\r\n20 60\r\n^C", "")
	w.stdin.Close()
	w.ends(1)
}

// TestExecSignal: a signal reaches the command's process group, and not the job's.
func TestExecSignal(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.runsBeside("trap 'echo job' USR1; read x")
	b := w.exec(&hodeipb.ExecStart{}, nil, "sh", "-c",
		"exec 2>/dev/null; trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.05; done")
	b.untilPrints("ready")
	b.Signal(int32(unix.SIGUSR1))
	b.ends(4, "ready\ngot\n", "")
	w.stdin.Close()
	w.ends(1)
	if len(w.follower.head) > 0 {
		t.Errorf("the job printed %q", w.follower.head)
	}
}

// TestExecLost: a command whose coordinator goes is hung up, with what it has started, and killed if it does not end.
// Its input does not end before that.
func TestExecLost(t *testing.T) {
	t.Parallel()
	for name, traps := range map[string]struct{ command, child string }{
		"it ends":                      {"trap 'exit 0' HUP", ":"},
		"it does not":                  {"trap '' HUP TERM", ":"},
		"what it has started does not": {"trap 'exit 0' HUP", "trap '' HUP TERM"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorker(t)
			w.runsBeside("read x")
			ended := filepath.Join(w.dir, "ended")
			r, keys := io.Pipe()
			// The lock is free once all have ended that have inherited it.
			b := w.exec(&hodeipb.ExecStart{}, coordinator.NewInput(r, nil), "sh", "-c",
				fmt.Sprintf("exec 9>%[1]s.lock; flock 9; exec 3<&0; (%[3]s; cat <&3 && touch %[1]s) & %[2]s; "+
					"echo ready; while :; do sleep 0.05; done", ended, traps.command, traps.child))
			t.Cleanup(func() { keys.Close() })
			b.untilPrints("ready")
			b.server.Close()
			lock, err := os.OpenFile(ended+".lock", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(ended); err == nil {
				t.Error("the command read an end of its input")
			}
			w.stdin.Close()
			w.ends(1)
		})
	}
}

// gated is an io.Writer that takes its first piece when it is let go.
type gated struct {
	agenttest.Buffer
	gate chan struct{}
}

func (l *gated) Write(p []byte) (int, error) {
	<-l.gate
	return l.Buffer.Write(p)
}

// TestExecSlow: whoever reads the output of a command that has ended may take his time, and gets all of it and the end.
func TestExecSlow(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.runsBeside("read x")
	ended := filepath.Join(w.dir, "ended")
	const printed = 4<<20 + 256<<10 // the coordinator's window, and half a pipe
	if err := unix.Mkfifo(ended, 0o600); err != nil {
		t.Fatal(err)
	}
	slow := &gated{gate: make(chan struct{})}
	b := &beside{t: t}
	b.Execution = coordinator.NewExecution(&hodeipb.ExecStart{Command: [][]byte{
		[]byte("sh"), []byte("-c"), fmt.Appendf(nil, "head -c %d /dev/zero; echo >%s; exit 3", printed, ended),
	}}, nil, slow, slow)
	b.server = &coordinator.Server{TLS: w.execTLS(), Namespace: testID.Namespace, Job: testID.Job, Exec: b.Execution}
	w.tunnelFrom(b.server)
	if _, err := os.ReadFile(ended); err != nil { // until the command has printed all
		t.Fatal(err)
	}
	<-time.After(pipeHold + closeWait + time.Second) // longer than the agent waits for anything else at an end
	close(slow.gate)
	b.ends(3, "", "")
	if n := len(slow.String()); n != printed {
		t.Errorf("%d bytes came of %d", n, printed)
	}
	w.stdin.Close()
	w.ends(1)
}

// TestExecEnds: commands end with the job, and their coordinators are told.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.runsBeside("read x; echo bye")
	pid := filepath.Join(w.dir, "pid")
	left := w.exec(&hodeipb.ExecStart{}, nil, "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $! >"+pid)
	left.ends(0, "", "") // what it leaves running goes on
	var all []*beside
	for range handover.MaxExecs {
		b := w.exec(&hodeipb.ExecStart{}, nil, "sh", "-c", "echo ready; exec sleep 600")
		b.untilPrints("ready")
		all = append(all, b)
	}
	if end := w.exec(&hodeipb.ExecStart{}, nil, "true").ends(contract.ExitAgentGone, "", ""); !end.NotStarted {
		t.Errorf("one too many: %v", end)
	}
	text, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	alive, err := unix.PidfdOpen(number, 0)
	if err != nil {
		t.Fatalf("what a command left running has ended: %v", err)
	}
	defer unix.Close(alive)
	w.stdin.Close()
	for _, b := range all {
		if end := b.ends(128+int(unix.SIGKILL), "ready\n", ""); end.Error != "the job has ended" {
			t.Errorf("end %v", end)
		}
	}
	w.ends(0)
	ended := []unix.PollFd{{Fd: int32(alive), Events: unix.POLLIN}}
	if n, err := unix.Poll(ended, int(agenttest.Patience.Milliseconds())); n != 1 {
		t.Fatalf("what a command left running outlives the job: %v", err)
	}
}

// TestExecRefused: an agent that allows no commands hangs up on who wants one run, and one that does attaches to who may
// only follow.
func TestExecRefused(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.ExecSocket = filepath.Join(w.dir, "x")
	w.run("sh", "-c", "read x")
	w.follower.untilRunning(t)
	conn, err := net.Dial("unix", w.cfg.ExecSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agenttest.Patience)); err != nil {
		t.Fatal(err)
	}
	asking := tls.Server(conn, w.execTLS())
	if err := asking.Handshake(); err != nil {
		t.Fatal(err)
	}
	if n, err := asking.Read(make([]byte, 1)); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the agent does not hang up: %d bytes, %v", n, err)
	}
	w.stdin.Close()
	w.ends(1)

	w = newWorker(t)
	w.runsBeside("read x")
	other := newFollower()
	w.tunnelFrom(&coordinator.Server{TLS: w.server.TLS, Namespace: testID.Namespace, Job: testID.Job, Follower: other, Silent: true})
	other.until(t, "an attachment", func() bool { return len(other.attached) > 0 })
	w.stdin.Close()
	w.ends(1)
}

// TestExecBounds: neither long commands nor many coordinators are taken, and one that the launcher does not know gives its
// place back.
func TestExecBounds(t *testing.T) {
	a := newAgent(Config{Log: slog.New(slog.DiscardHandler)})
	long := &hodeipb.ExecStart{Command: [][]byte{make([]byte, hodeipb.MaxExecBytes)}, Directory: []byte("x")}
	if _, err := a.execs.begin(long); err == nil || !strings.HasPrefix(err.Error(), "the command has 1048577 bytes") {
		t.Errorf("a long command: %v", err)
	}
	a.executing = maxExecStreams
	if welcome, err := a.serveExec(t.Context(), nil); welcome || err == nil {
		t.Errorf("one coordinator too many: %t, %v", welcome, err)
	}
	synctest.Test(t, func(t *testing.T) {
		x := &execution{id: 1, started: make(chan handover.Files, 1), exit: make(chan *handover.ExecExit, 1)}
		a.execs.conn, a.execs.running[x.id] = &net.UnixConn{}, x // which answers nothing
		if a.stop(x); len(a.execs.running) != 0 {
			t.Error("its place is taken for ever")
		}
	})
}
