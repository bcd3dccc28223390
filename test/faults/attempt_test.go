package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// process is one that the test has started and ends by its id.
type process struct {
	cmd    *exec.Cmd
	stderr stderrBuffer
	ended  chan struct{}
}

// stderrBuffer keeps what a process says and tells when it has said a word.
type stderrBuffer struct {
	mu    sync.Mutex
	text  bytes.Buffer
	word  string
	heard chan struct{}
}

func (b *stderrBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text.Write(p)
	if b.word != "" && bytes.Contains(b.text.Bytes(), []byte(b.word)) {
		b.word = ""
		close(b.heard)
	}
	return len(p), nil
}

func (b *stderrBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start starts cmd, and kills it at the end of the test. It listens for word.
func start(t testing.TB, cmd *exec.Cmd, word string) *process {
	t.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	p.stderr.word, p.stderr.heard = word, make(chan struct{})
	cmd.Stderr = &p.stderr
	cmd.WaitDelay = 100 * time.Millisecond // what a command leaves behind may hold its stderr
	// It goes with the test's process, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // its state tells the rest
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
		if said := p.stderr.String(); t.Failed() {
			t.Logf("stderr of %s:\n%s", cmd.Args[1], said[max(0, len(said)-4000):])
		}
	})
	return p
}

// exits waits for the process's end, which has to be one without an error.
func (p *process) exits(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s does not end", p.cmd.Args[1])
	}
	if !p.cmd.ProcessState.Success() {
		t.Errorf("%s has ended with %s", p.cmd.Args[1], p.cmd.ProcessState)
	}
}

// peakBytes is the most memory that the process has ever had.
func (p *process) peakBytes() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no VmHWM in:\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	return n << 10, err
}

// attempt is an agent and a launcher, of a job of its own: what reaches the port of
// another attempt, which may have been its own before, is turned away.
type attempt struct {
	t          testing.TB
	id         certs.ID
	dir        string      // of its certificates too
	tls        *tls.Config // of its coordinators
	spoolDir   string
	spoolBytes int64
	server     string // address to dial; empty: the agent listens
	listen     string
	overflow   string
	merged     bool
	input      *coordinator.Input // nil: stdin is the launcher's own
	terminal   bool               // the command has one, which gets the input
	stdin      *os.File           // of the command
	inside     []string           // a command that the launcher's stands behind, and that becomes it; nil: none

	agent, launcher *process
}

// attempts counts those of all tests.
var attempts atomic.Int64

func newAttempt(t testing.TB) *attempt {
	t.Helper()
	// The path of a socket has at most 108 bytes, which t.TempDir() may exceed.
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	id := certs.ID{Namespace: "jobs", Job: fmt.Sprint("make-", attempts.Add(1))}
	c, err := authority.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := c.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	return &attempt{t: t, id: id, tls: config, dir: dir, spoolDir: filepath.Join(dir, "spool"), spoolBytes: 1 << 30}
}

// startAgent starts the agent and waits until it can be dialled.
func (a *attempt) startAgent() {
	a.t.Helper()
	if a.server == "" {
		l := listen(a.t)
		a.listen = l.Addr().String()
		l.Close() // to be taken by the agent
	}
	cmd := hodeiWorker(a.t, "agent")
	cmd.Env = []string{
		contract.EnvNamespace + "=" + a.id.Namespace, contract.EnvJob + "=" + a.id.Job,
		contract.EnvAttempt + "=pod-1", contract.EnvAttemptUID + "=uid-1",
		contract.EnvSocket + "=" + filepath.Join(a.dir, "s"),
		contract.EnvSpoolDir + "=" + a.spoolDir, fmt.Sprint(contract.EnvSpoolBytes, "=", a.spoolBytes),
		contract.EnvListen + "=" + a.listen, contract.EnvServerAddress + "=" + a.server,
		contract.EnvServerName + "=" + a.id.ServerName(),
		contract.EnvCACertPath + "=" + filepath.Join(a.dir, "ca.crt"),
		contract.EnvClientCertPath + "=" + filepath.Join(a.dir, "client.crt"),
		contract.EnvClientKeyPath + "=" + filepath.Join(a.dir, "client.key"),
		contract.EnvStartTimeout + "=1m", contract.EnvTimeout + "=0", contract.EnvGrace + "=1s", contract.EnvLinger + "=1m",
		contract.EnvTerminationLog + "=" + filepath.Join(a.dir, "termination"),
		contract.EnvLogOverflow + "=" + a.overflow,
	}
	if a.input != nil {
		cmd.Env = append(cmd.Env, contract.EnvStdin+"="+contract.True)
	}
	if a.terminal {
		cmd.Env = append(cmd.Env, contract.EnvTTY+"="+contract.True)
	}
	a.agent = start(a.t, cmd, "waiting for the launcher")
	select {
	case <-a.agent.stderr.heard:
	case <-a.agent.ended:
		a.t.Fatalf("the agent has ended with %s", a.agent.cmd.ProcessState)
	case <-time.After(patience):
		a.t.Fatal("the agent does not get ready")
	}
}

// launch starts the launcher with a job of this test binary.
func (a *attempt) launch(how string, p pattern) {
	a.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		a.t.Fatal(err)
	}
	args := []string{"launch", "--socket=" + filepath.Join(a.dir, "s"), "--grace=1s"}
	if a.merged {
		args = append(args, "--merge-output")
	}
	switch {
	case a.terminal:
		args = append(args, "--tty")
	case a.input != nil:
		args = append(args, "--stdin")
	}
	cmd := hodeiWorker(a.t, append(args, "--", exe)...)
	if a.inside != nil {
		cmd = exec.Command(a.inside[0], append(a.inside[1:], cmd.Args...)...)
	}
	// With the race detector in it, it would sleep for a second at its end.
	cmd.Env = append(os.Environ(), jobVariable+"="+jobText(how, p), "GORACE=atexit_sleep_ms=0")
	r, stdin, err := os.Pipe()
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Close()
	a.stdin = stdin
	a.t.Cleanup(func() { stdin.Close() })
	cmd.Stdin = r
	a.launcher = start(a.t, cmd, "")
}

// ends waits until both processes have ended.
func (a *attempt) ends() {
	a.t.Helper()
	a.launcher.exits(a.t)
	a.agent.exits(a.t)
}

// feed gives a job that is fed a step at each tick, until stop is called, which
// ends the job's standard input and tells the number of steps.
func (a *attempt) feed(every time.Duration) (stop func() int) {
	done, steps := make(chan struct{}), make(chan int, 1)
	go func() {
		defer a.stdin.Close()
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		n := 0
		defer func() { steps <- n }()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if _, err := a.stdin.Write([]byte{'.'}); err != nil {
				return
			}
			n++
		}
	}()
	end := sync.OnceFunc(func() { close(done) })
	a.t.Cleanup(end)
	return func() int { end(); return <-steps }
}

// serve starts a coordinator on l until the test ends or somebody closes it.
func (a *attempt) serve(f *follower, l net.Listener, silent bool) *coordinator.Server {
	s := &coordinator.Server{TLS: a.tls, Namespace: a.id.Namespace, Job: a.id.Job, Follower: f, Silent: silent, Input: a.input}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	a.t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			a.t.Errorf("Serve: %v", err)
		}
		if refused := s.Refused(); refused != (coordinator.Refused{}) {
			a.t.Errorf("the coordinator has refused batches: %+v", refused)
		}
	})
	return s
}

// release lets the command start once it is held. It tries again: the order gets lost with its connection.
func (a *attempt) release(s *coordinator.Server, f *follower) {
	a.t.Helper()
	f.until(a.t, "a held start", func() bool { return f.held })
	for held := true; held; {
		s.Release()
		f.mu.Lock()
		changed := f.changed
		held = f.held
		f.mu.Unlock()
		if held {
			<-changed
		}
	}
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// attach serves a coordinator on a connection to the agent, which listens, and
// waits until it is welcome.
func (a *attempt) attach(f *follower, silent bool) *coordinator.Server {
	a.t.Helper()
	conn, err := net.Dial("tcp", a.listen)
	if err != nil {
		a.t.Fatal(err)
	}
	tunnel := tunnel.New()
	s := a.serve(f, tunnel, silent)
	var delivery sync.WaitGroup
	delivery.Go(func() { tunnel.Deliver(context.Background(), conn) })
	a.t.Cleanup(func() { s.Close(); delivery.Wait() })
	f.until(a.t, "an attachment", func() bool { return len(f.attached) > 0 })
	return s
}

// duration is how long the command ran.
func duration(r *hodeipb.ExitRecord) time.Duration {
	return r.Finished.AsTime().Sub(r.Started.AsTime())
}
