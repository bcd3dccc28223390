package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

const (
	stdout = hodeipb.Stream_STDOUT
	stderr = hodeipb.Stream_STDERR
)

// testSpool makes a spool that is removed at the end of the test.
func testSpool(t testing.TB, capBytes int64) *spool.Spool {
	t.Helper()
	s, err := spool.Open(filepath.Join(t.TempDir(), "spool"), capBytes, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

var testID = certs.ID{Namespace: "jobs", Job: "make-k3x9z"}

var testAuthority = sync.OnceValues(func() (*certs.Authority, error) { return certs.NewAuthority(0) })

var testCerts = sync.OnceValues(func() (*certs.JobCerts, error) {
	a, err := testAuthority()
	if err != nil {
		return nil, err
	}
	return a.IssueJob(testID)
})

// follower checks output as it comes and keeps a sum and the start of it.
type follower struct {
	// output, where set, is called before a batch is stored and may wait.
	output func(*hodeipb.Batch)
	// transient tells the agent that it only looks.
	transient bool

	mu       sync.Mutex
	attached []uint64 // the offset at each attachment
	states   []*hodeipb.State
	end      uint64
	streams  [3]streamSum
	head     []byte // of both streams in order
	lost     uint64
	samples  []*hodeipb.Metrics
	exit     *hodeipb.ExitRecord
	changed  chan struct{}
}

type streamSum struct {
	end  uint64
	sum  hash.Hash
	head []byte
}

const headBytes = 64 << 10

func newFollower() *follower {
	f := &follower{changed: make(chan struct{})}
	for i := range f.streams {
		f.streams[i].sum = sha256.New()
	}
	return f
}

func (f *follower) update(change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
	return change()
}

func (f *follower) Attached(*hodeipb.Hello) (resume coordinator.Resume, err error) {
	err = f.update(func() error {
		resume = coordinator.Resume{Offset: f.end, Transient: f.transient}
		if n := len(f.samples); n > 0 {
			resume.MetricsAfter = f.samples[n-1].Time.AsTime()
		}
		f.attached = append(f.attached, f.end)
		return nil
	})
	return resume, err
}

func (f *follower) Metrics(_ string, m *hodeipb.Metrics) {
	_ = f.update(func() error { f.samples = append(f.samples, m); return nil })
}

func (f *follower) State(_ string, s *hodeipb.State) {
	_ = f.update(func() error { f.states = append(f.states, s); return nil })
}

func (f *follower) Output(_ context.Context, _ string, b *hodeipb.Batch, data mem.BufferSlice) error {
	b.Data = data.Materialize()
	if f.output != nil {
		f.output(b)
	}
	return f.update(func() error {
		if b.Offset != f.end || f.exit != nil {
			return fmt.Errorf("batch at %d, want %d", b.Offset, f.end)
		}
		data := b.Data
		for _, r := range b.Records {
			f.end += r.Lost + uint64(r.Length)
			f.lost += r.Lost
			if r.Lost > 0 {
				continue
			}
			s := &f.streams[r.Stream]
			if r.StreamOffset != s.end && f.lost == 0 {
				return fmt.Errorf("%s at %d, want %d", r.Stream, r.StreamOffset, s.end)
			}
			s.end = r.StreamOffset + uint64(r.Length)
			s.sum.Write(data[:r.Length])
			s.head = append(s.head, data[:min(int(r.Length), headBytes-len(s.head))]...)
			f.head = append(f.head, data[:min(int(r.Length), headBytes-len(f.head))]...)
			data = data[r.Length:]
		}
		return nil
	})
}

func (f *follower) Exited(_ string, r *hodeipb.ExitRecord) error {
	return f.update(func() error { f.exit = r; return nil })
}

// until waits for what done, which is called with the lock held, asks for.
func (f *follower) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	timeout := time.After(agenttest.Patience)
	for {
		f.mu.Lock()
		ok, changed := done(), f.changed
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited for: %s", what)
		}
	}
}

// untilPrinted waits for text in standard output.
func (f *follower) untilPrinted(t testing.TB, text string) {
	t.Helper()
	f.until(t, fmt.Sprintf("%q in the output", text), func() bool { return bytes.Contains(f.streams[stdout].head, []byte(text)) })
}

// untilRunning waits until the command has started.
func (f *follower) untilRunning(t testing.TB) {
	t.Helper()
	f.until(t, "a running command", func() bool {
		return len(f.states) > 0 && f.states[len(f.states)-1].Phase == hodeipb.Phase_RUNNING
	})
}

// exited waits for the exit record.
func (f *follower) exited(t testing.TB) *hodeipb.ExitRecord {
	t.Helper()
	f.until(t, "the exit record", func() bool { return f.exit != nil })
	return f.exit
}

// process is one that the test has started and ends by its id.
type process struct {
	cmd    *exec.Cmd
	stderr agenttest.Buffer
	ended  chan struct{}
}

func start(t testing.TB, stdin *os.File, command ...string) *process {
	t.Helper()
	return startWith(t, nil, stdin, nil, nil, command...)
}

func startWith(t testing.TB, attr *syscall.SysProcAttr, stdin, stdout, stderr *os.File, command ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	p.cmd.SysProcAttr = attr
	p.cmd.Stderr = &p.stderr
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	if stderr != nil {
		p.cmd.Stderr = stderr
	}
	// A program with the race detector in it would sleep for a second at its end.
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	alive, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	p.cmd.ExtraFiles = []*os.File{alive} // see endWithTest
	if stdin != nil {
		p.cmd.Stdin = stdin
	}
	// What a command leaves behind may hold its stderr.
	p.cmd.WaitDelay = 100 * time.Millisecond
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells the rest
		ours.Close()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("stderr of %s:\n%s", p.cmd.Args[1], p.stderr.String())
		}
	})
	return p
}

func (p *process) signal(t testing.TB, s unix.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// exits waits for the process's end and compares its status.
func (p *process) exits(t testing.TB, want int) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(agenttest.Patience):
		t.Fatalf("%s does not end", p.cmd.Args[1])
	}
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("%s has ended with %s, want exit status %d", p.cmd.Args[1], p.cmd.ProcessState, want)
	}
}

// worker is an attempt: the two programs as processes and a coordinator.
type worker struct {
	t     testing.TB
	dir   string
	cfg   Config
	merge bool
	// surroundings is what the launcher is told of directories, and env are its variables
	// besides ours.
	surroundings LaunchConfig
	env          []string
	follower     *follower
	server       *coordinator.Server
	// stdin of the command; ends with the test at the latest.
	stdin *os.File
	// stdout and stderr of the launcher, where set: the container's log.
	stdout, stderr *os.File

	// contained starts the launcher in a container of its own: see runContained.
	contained bool
	// program is the one that is run, "" this test; as agentAttr and launcherAttr say.
	program                 string
	agentAttr, launcherAttr *syscall.SysProcAttr

	agent, launcher *process
}

func newWorker(t testing.TB) *worker {
	t.Helper()
	// The path of a socket has at most 108 bytes, which t.TempDir() may exceed.
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &worker{t: t, dir: dir, follower: newFollower(), cfg: Config{
		Namespace: testID.Namespace, Job: testID.Job, Attempt: "pod-1", AttemptUID: "uid-1", Version: "test",
		Socket: filepath.Join(dir, "s"), SpoolDir: filepath.Join(dir, "spool"), SpoolBytes: 1 << 30,
		StartTimeout: agenttest.Patience, Grace: agenttest.Patience, Linger: agenttest.Patience,
		TerminationLog: filepath.Join(dir, "termination"),
	}}
	c, err := testCerts()
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, map[string][]byte{
		filepath.Join(dir, "ca.crt"): c.CA, filepath.Join(dir, "client.crt"): c.ClientCert, filepath.Join(dir, "client.key"): c.ClientKey,
	})
	config, err := c.ServerConfig()
	if err != nil {
		t.Fatal(err)
	}
	w.server = &coordinator.Server{TLS: config, Namespace: testID.Namespace, Job: testID.Job, Follower: w.follower}
	return w
}

func writeFiles(t testing.TB, files map[string][]byte) {
	t.Helper()
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// serve starts the coordinator, where the agent will dial it.
func (w *worker) serve() {
	w.t.Helper()
	w.cfg.Server = serveAt(w.t, w.server, listen(w.t))
}

func serveAt(t testing.TB, s *coordinator.Server, l net.Listener) string {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String()
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listenHere makes the agent wait for coordinators on a port of loopback.
func (w *worker) listenHere() {
	w.t.Helper()
	l := listen(w.t)
	w.cfg.Listen = l.Addr().String()
	l.Close() // to be taken by the agent
}

// dialSocket connects to the socket on which the agent waits for the launcher.
func (w *worker) dialSocket() *net.UnixConn {
	w.t.Helper()
	for deadline := time.Now().Add(agenttest.Patience); ; time.Sleep(time.Millisecond) { // nothing tells
		conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: w.cfg.Socket, Net: "unixpacket"})
		if err == nil {
			return conn
		}
		if time.Now().After(deadline) {
			w.t.Fatal(err)
		}
	}
}

// dialAgent connects to the port on which the agent waits for coordinators.
func (w *worker) dialAgent() net.Conn {
	w.t.Helper()
	for deadline := time.Now().Add(agenttest.Patience); ; {
		conn, err := net.Dial("tcp", w.cfg.Listen)
		if err == nil {
			return conn
		}
		if !errors.Is(err, unix.ECONNREFUSED) || time.Now().After(deadline) {
			w.t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // nothing tells
	}
}

// tunnel serves the coordinator on a connection to the agent, as a port-forward does.
func (w *worker) tunnel() {
	w.t.Helper()
	w.tunnelTo(w.server)
}

func (w *worker) tunnelTo(s *coordinator.Server) {
	w.t.Helper()
	tunnel := tunnel.New()
	serveAt(w.t, s, tunnel)
	conn := w.dialAgent()
	var delivery sync.WaitGroup
	delivery.Go(func() { tunnel.Deliver(context.Background(), conn) })
	w.t.Cleanup(func() { s.Close(); delivery.Wait() })
}

// watcher is another coordinator's follower, which wants states alone. It
// attaches through a tunnel.
func (w *worker) watcher() *follower {
	w.t.Helper()
	f := newFollower()
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job, Follower: f, Silent: true})
	return f
}

// looker is another coordinator's follower, which wants output and does not keep
// it. It is attached when it is returned; leave ends that.
func (w *worker) looker() (f *follower, leave func()) {
	w.t.Helper()
	f = newFollower()
	f.transient = true
	s := &coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job, Follower: f}
	w.tunnelTo(s)
	f.until(w.t, "an attachment", func() bool { return len(f.attached) > 0 })
	return f, s.Close
}

// startAgent starts the agent with what cfg says now.
func (w *worker) startAgent() {
	w.t.Helper()
	config := agentConfig{Config: w.cfg, ServerName: testID.ServerName(), Files: certs.Files{
		CA: filepath.Join(w.dir, "ca.crt"), Cert: filepath.Join(w.dir, "client.crt"), Key: filepath.Join(w.dir, "client.key"),
	}}
	text, err := json.Marshal(config) //nolint:staticcheck // what can't be text is nil
	if err != nil {
		w.t.Fatal(err)
	}
	w.agent = startWith(w.t, w.agentAttr, nil, nil, nil, w.self("test-agent", string(text))...)
}

// launch starts the launcher with a command whose standard input is w.stdin.
func (w *worker) launch(command ...string) {
	w.t.Helper()
	cfg := w.surroundings
	cfg.Socket, cfg.Grace, cfg.MergeOutput, cfg.Command = w.cfg.Socket, w.cfg.Grace, w.merge, command
	text, err := json.Marshal(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	r, stdin, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.stdin = stdin
	w.t.Cleanup(func() { stdin.Close() })
	role := "test-launch"
	if w.contained {
		role = "test-contained"
	}
	program := w.self(role, string(text))
	if len(w.env) > 0 {
		program = append(append([]string{"env"}, w.env...), program...)
	}
	w.launcher = startWith(w.t, w.launcherAttr, r, w.stdout, w.stderr, program...)
	r.Close()
}

func (w *worker) self(args ...string) []string {
	command := self(args...)
	command[0] = cmp.Or(w.program, command[0])
	return command
}

// run does all of it: a coordinator that is there from the start, and a command.
func (w *worker) run(command ...string) {
	w.t.Helper()
	w.serve()
	w.startAgent()
	w.launch(command...)
}

// ends waits until both processes have ended as they should, the launcher with
// the status given, and returns the exit record.
func (w *worker) ends(code int) *hodeipb.ExitRecord {
	w.t.Helper()
	r := w.follower.exited(w.t)
	w.launcher.exits(w.t, cmp.Or(stoppedCode[r.Cause], code)) // the one number of hodei run
	w.agent.exits(w.t, contract.ExitOK)
	if int(r.Code) != code || r.End != w.follower.end || r.StdoutEnd != w.follower.streams[stdout].end ||
		r.StderrEnd != w.follower.streams[stderr].end {
		w.t.Errorf("exit record %v after %d bytes, want code %d", r, w.follower.end, code)
	}
	return r
}

// printed compares the output with what a command should have printed.
func (w *worker) printed(e emission) {
	w.t.Helper()
	want := [3]hash.Hash{nil, sha256.New(), sha256.New()}
	if err := e.write(want[stdout], want[stderr]); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range []hodeipb.Stream{stdout, stderr} {
		if got := w.follower.streams[s]; !bytes.Equal(got.sum.Sum(nil), want[s].Sum(nil)) {
			w.t.Errorf("%s of %v differs: %d bytes, first %.40q", s, e, got.end, got.head)
		}
	}
	if w.follower.lost > 0 {
		w.t.Errorf("%d bytes lost", w.follower.lost)
	}
}

// termination reads the exit record from the container's message.
func (w *worker) termination() *hodeipb.ExitRecord {
	w.t.Helper()
	text, err := os.ReadFile(w.cfg.TerminationLog)
	if err != nil {
		w.t.Fatal(err)
	}
	r := &hodeipb.ExitRecord{}
	if err := protojson.Unmarshal(text, r); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
	return r
}

// terminationSays compares the container's message with a text.
func (w *worker) terminationSays(want string) {
	w.t.Helper()
	text, err := os.ReadFile(w.cfg.TerminationLog)
	if err != nil || !strings.Contains(string(text), want) {
		w.t.Errorf("termination message %q (%v), want %q", text, err, want)
	}
}

// proxy passes connections on and cuts each after so many bytes of the agent's.
type proxy struct {
	net.Listener
	cuts atomic.Int64
}

// newProxy starts a proxy to addr. allow is asked at each connection how many
// bytes may pass; below 0: all.
func newProxy(t testing.TB, addr string, allow func() int64) *proxy {
	p := &proxy{Listener: listen(t)}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			in, err := p.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", addr)
			if err != nil {
				in.Close()
				continue
			}
			most := allow()
			work.Go(func() {
				_, _ = io.Copy(in, out)
				in.Close()
			})
			work.Go(func() {
				if most < 0 {
					_, _ = io.Copy(out, in)
				} else if n, _ := io.CopyN(out, in, most); n == most {
					p.cuts.Add(1)
				}
				in.Close()
				out.Close()
			})
		}
	})
	t.Cleanup(func() { p.Close(); work.Wait() })
	return p
}
