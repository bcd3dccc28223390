package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// loopbackBytes are printed for each figure, as lines of lineBytes.
const (
	loopbackBytes = 2 << 30
	lineBytes     = 100
)

// printLines is what a job does in these measurements: n bytes of lines of text,
// 64 KiB a write, as a program with a buffer of its own does; or, where a pace is
// given, so many lines a second, a write for each.
func printLines(w io.Writer, n, pace int64) error {
	text := lines(64 << 10)
	began := time.Now()
	for done := int64(0); done < n; {
		size := min(n-done, int64(len(text)))
		if pace > 0 {
			size = lineBytes
			time.Sleep(time.Until(began.Add(time.Duration(done / lineBytes * int64(time.Second) / pace))))
		}
		m, err := w.Write(text[:size])
		if err != nil {
			return err
		}
		done += int64(m)
	}
	return nil
}

// lines makes about n bytes of lines of lineBytes, which differ as those of a log do.
func lines(n int) []byte {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		line := fmt.Sprintf("2026-01-02T15:04:05.%09dZ level=info worker=%02d msg=\"request served\" status=200 id=%x",
			i*7919%1_000_000_000, i%16, i*2654435761)
		fmt.Fprintf(&b, "%-*.*s\n", lineBytes-1, lineBytes-1, line)
	}
	return []byte(b.String())
}

// testbed is an authority and the files of one job.
type testbed struct {
	dir    string
	id     certs.ID
	server *tls.Config
}

func newTestbed() (*testbed, error) {
	b := &testbed{id: certs.ID{Namespace: "bench", Job: "loopback"}}
	authority, err := certs.NewAuthority(0)
	if err != nil {
		return nil, err
	}
	job, err := authority.IssueJob(b.id)
	if err != nil {
		return nil, err
	}
	if b.server, err = job.ServerConfig(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "hodei-bench-"); err != nil {
		return nil, err
	}
	for name, content := range map[string][]byte{"ca.crt": job.CA, "client.crt": job.ClientCert, "client.key": job.ClientKey} {
		if err := os.WriteFile(b.path(name), content, 0o600); err != nil {
			return nil, errors.Join(err, os.RemoveAll(b.dir))
		}
	}
	return b, nil
}

func (b *testbed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *testbed) close() error { return os.RemoveAll(b.dir) }

// passage is how some bytes came from one process to another.
type passage struct {
	took  time.Duration
	bytes int64
	// cpu is that of the process that sent, peak its most resident memory; all is
	// the CPU of all processes.
	cpu, all time.Duration
	peak     int // KiB
	messages uint64
}

func (p passage) rate() float64 { return float64(p.bytes) / p.took.Seconds() }

// loopback compares the way from a command's pipe through agent and coordinator
// with a plain TLS connection that copies the same pipe, on loopback.
func loopback() error {
	bed, err := newTestbed()
	if err != nil {
		return err
	}
	defer bed.close()
	var plain, ours []passage
	for range rounds { // in turn
		p, err := bed.copyTLS(loopbackBytes)
		if err != nil {
			return err
		}
		h, err := bed.attempt(loopbackBytes, &counter{})
		if err != nil {
			return err
		}
		plain, ours = append(plain, p), append(ours, h)
	}
	fmt.Printf("loopback, %d MiB of %d-byte lines, median of %d   MB/s  million lines/s  CPU s/GiB: sender, all\n", loopbackBytes>>20,
		lineBytes, rounds)
	p, h := middle(plain), middle(ours)
	for _, row := range []struct {
		name string
		passage
	}{{"plain TLS copy of the command's pipe", p}, {"agent to coordinator", h}} {
		fmt.Printf("  %-49s %5.0f  %15.1f  %18.2f %5.2f\n", row.name, row.rate()/1e6, row.rate()/1e6/lineBytes, perGiB(row.cpu, row.bytes),
			perGiB(row.all, row.bytes))
	}
	fmt.Printf("  ratio %.2f (aim: 0.7 or more), by CPU of all %.2f; agent's peak memory %.1f MiB (aim: 32 or less)\n", h.rate()/p.rate(),
		perGiB(p.all, p.bytes)/perGiB(h.all, h.bytes), float64(h.peak)/1024)
	return nil
}

// perGiB is CPU time in seconds for each GiB.
func perGiB(cpu time.Duration, bytes int64) float64 {
	return cpu.Seconds() / float64(max(bytes, 1)) * (1 << 30)
}

// rounds of each measurement of throughput.
const rounds = 3

// middle is the passage of median rate.
func middle(p []passage) passage {
	slices.SortFunc(p, func(a, b passage) int { return cmp.Compare(a.rate(), b.rate()) })
	return p[len(p)/2]
}

// messages counts what is sent for a job that prints 10,000 lines a second.
func messages() error {
	bed, err := newTestbed()
	if err != nil {
		return err
	}
	defer bed.close()
	const seconds, linesPerSecond = 5, 10_000
	p, err := bed.attempt(seconds*linesPerSecond*lineBytes, &counter{}, fmt.Sprint(linesPerSecond))
	if err != nil {
		return err
	}
	fmt.Printf("messages for %d lines at %d lines/s: %d, %.2f %% (aim: 0.5 %% or less)\n",
		seconds*linesPerSecond, linesPerSecond, p.messages, 100*float64(p.messages)/(seconds*linesPerSecond))
	return nil
}

// stalled lets 1 GiB be printed while the coordinator stores nothing, and then
// takes it.
func stalled() error {
	bed, err := newTestbed()
	if err != nil {
		return err
	}
	defer bed.close()
	printed := make(chan struct{})
	p, err := bed.attempt(1<<30, &counter{until: printed, printed: printed})
	if err != nil {
		return err
	}
	fmt.Printf("agent's peak memory, 1 GiB printed while its coordinator is stalled: %.1f MiB (aim: 32 or less)\n", float64(p.peak)/1024)
	return nil
}

// copyTLS has a child copy the pipe of a printing command to a TLS connection.
func (b *testbed) copyTLS(n int64) (passage, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", b.server)
	if err != nil {
		return passage{}, err
	}
	defer listener.Close()
	before, began := usedCPU(), time.Now()
	cmd := self("copy-tls", listener.Addr().String(), b.dir, b.id.ServerName(), fmt.Sprint(n))
	if err := cmd.Start(); err != nil {
		return passage{}, err
	}
	conn, err := listener.Accept()
	if err != nil {
		return passage{}, err
	}
	got, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, conn, make([]byte, 256<<10))
	p := passage{took: time.Since(began), bytes: got}
	if err := errors.Join(err, conn.Close(), cmd.Wait()); err != nil {
		return p, err
	}
	p.cpu, p.all = cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime(), usedCPU()-before
	if got != n {
		return p, fmt.Errorf("plain TLS copy: %d of %d bytes", got, n)
	}
	return p, nil
}

// childCopyTLS is the sending process of copyTLS.
func childCopyTLS(addr, dir, name, n string) error {
	config, err := certs.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"),
		Key: filepath.Join(dir, "client.key")}.ClientConfig(name)
	if err != nil {
		return err
	}
	conn, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return err
	}
	printing := self("print", n)
	pipe, err := printing.StdoutPipe()
	if err != nil {
		return err
	}
	if err := printing.Start(); err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{pipe}, make([]byte, 64<<10))
	return errors.Join(err, printing.Wait(), conn.Close())
}

// counter is a Follower that keeps nothing.
type counter struct {
	mu       sync.Mutex
	bytes    int64
	messages uint64
	ended    chan *hodeipb.ExitRecord
	// until, where set, is closed when output may be stored; attempt closes printed
	// when the command has ended.
	until, printed chan struct{}
}

func (c *counter) Attached(*hodeipb.Hello) (coordinator.Resume, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return coordinator.Resume{Offset: uint64(c.bytes)}, nil
}
func (c *counter) Metrics(string, *hodeipb.Metrics) {}

func (c *counter) State(string, *hodeipb.State) {}
func (c *counter) Output(_ context.Context, _ string, _ *hodeipb.Batch, data mem.BufferSlice) error {
	if c.until != nil {
		<-c.until
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bytes += int64(data.Len())
	c.messages++
	return nil
}
func (c *counter) Exited(_ string, r *hodeipb.ExitRecord) error {
	c.ended <- r
	return nil
}

// attempt has a real agent and launcher run a command that prints n bytes; pace,
// if given, is in lines a second.
func (b *testbed) attempt(n int64, follower *counter, pace ...string) (passage, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return passage{}, err
	}
	follower.ended = make(chan *hodeipb.ExitRecord, 1)
	server := &coordinator.Server{TLS: b.server, Namespace: b.id.Namespace, Job: b.id.Job, Follower: follower}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() {
		server.Close()
		if err := <-served; err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}()

	worker := filepath.Join(*bin, "hodei-worker")
	agent := exec.Command(worker, "agent")
	agent.Env = []string{
		contract.EnvNamespace + "=" + b.id.Namespace,
		contract.EnvJob + "=" + b.id.Job,
		contract.EnvAttempt + "=bench",
		contract.EnvAttemptUID + "=bench",
		contract.EnvSocket + "=" + b.path("agent.sock"),
		contract.EnvSpoolDir + "=" + b.path("spool"),
		fmt.Sprintf(contract.EnvSpoolBytes+"=%d", 4*loopbackBytes),
		contract.EnvServerAddress + "=" + listener.Addr().String(), contract.EnvServerName + "=" + b.id.ServerName(),
		contract.EnvCACertPath + "=" + b.path("ca.crt"),
		contract.EnvClientCertPath + "=" + b.path("client.crt"),
		contract.EnvClientKeyPath + "=" + b.path("client.key"),
		contract.EnvStartTimeout + "=10s",
		contract.EnvTimeout + "=0s",
		contract.EnvGrace + "=1s",
		contract.EnvLinger + "=10s",
		contract.EnvTerminationLog + "=" + b.path("termination"),
	}
	var said strings.Builder
	agent.Stderr = &said
	if err := agent.Start(); err != nil {
		return passage{}, err
	}
	own, err := os.Executable()
	if err != nil {
		return passage{}, err
	}
	before, began := usedCPU(), time.Now()
	launch := exec.Command(worker,
		append([]string{"launch", "--socket=" + b.path("agent.sock"), "--", own, "print", fmt.Sprint(n)}, pace...)...)
	launch.Stderr = os.Stderr
	if err := launch.Start(); err != nil {
		return passage{}, errors.Join(err, agent.Process.Kill(), agent.Wait())
	}
	launched := make(chan error, 1)
	go func() {
		launched <- launch.Wait()
		if follower.printed != nil {
			close(follower.printed)
		}
	}()
	var record *hodeipb.ExitRecord
	select {
	case record = <-follower.ended:
	case <-time.After(2 * time.Minute):
		return passage{}, errors.Join(fmt.Errorf("no exit record from the agent:\n%s", said.String()), agent.Process.Kill(),
			agent.Wait(), <-launched)
	}
	p := passage{took: time.Since(began), bytes: follower.bytes, messages: follower.messages}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.Process.Pid))
	p.peak = kibibytes(string(status), "VmHWM:")
	if err := errors.Join(<-launched, agent.Wait()); err != nil {
		return p, fmt.Errorf("%w\n%s", err, said.String())
	}
	p.cpu, p.all = agent.ProcessState.UserTime()+agent.ProcessState.SystemTime(), usedCPU()-before
	if p.bytes != n || record.Code != 0 {
		return p, fmt.Errorf("%d of %d bytes, exit %d", p.bytes, n, record.Code)
	}
	return p, nil
}

// usedCPU is what this process, and all that it has waited for, have used.
func usedCPU() time.Duration {
	var used time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if unix.Getrusage(who, &r) == nil {
			used += time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
	}
	return used
}

// self is this program in another role; see main.
func self(args ...string) *exec.Cmd {
	own, err := os.Executable()
	if err != nil {
		own = os.Args[0]
	}
	cmd := exec.Command(own, args...)
	cmd.Stderr = os.Stderr
	return cmd
}
