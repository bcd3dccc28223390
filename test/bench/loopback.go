package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// loopbackBytes are printed for each figure, as lines of lineBytes.
const (
	loopbackBytes = 2 << 30
	lineBytes     = 100
)

// printLines is what a job does in these measurements: n bytes of lines of text,
// 64 KiB a write, as a program with a buffer of its own does.
func printLines(w io.Writer, n int64) error {
	text := lines(64 << 10)
	for n > 0 {
		m, err := w.Write(text[:min(n, int64(len(text)))])
		if err != nil {
			return err
		}
		n -= int64(m)
	}
	return nil
}

// lines makes about n bytes of lines of lineBytes, which differ as those of a log do.
func lines(n int) []byte {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		line := fmt.Sprintf("2026-01-02T15:04:05.%09dZ level=info worker=%02d msg=\"request served\" status=200 id=%x", i*7919%1_000_000_000, i%16, i*2654435761)
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
	// cpu is that of the process that sent, peak its most resident memory.
	cpu      time.Duration
	peak     int // KiB
	messages uint64
	alloc    uint64 // bytes of heap allocated by the receiving process
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
	var plain, ours passage
	for range 3 { // in turn; the best of each
		p, err := bed.copyTLS(loopbackBytes)
		if err != nil {
			return err
		}
		if plain.took == 0 || p.took < plain.took {
			plain = p
		}
		h, err := bed.attempt(loopbackBytes)
		if err != nil {
			return err
		}
		if ours.took == 0 || h.took < ours.took {
			ours = h
		}
	}
	fmt.Printf("loopback, %d MiB of %d-byte lines  MB/s  million lines/s  CPU s/GiB of the sender\n", loopbackBytes>>20, lineBytes)
	for _, row := range []struct {
		name string
		p    passage
	}{{"plain TLS copy of the pipe", plain}, {"agent to coordinator", ours}} {
		fmt.Printf("  %-32s %5.0f  %15.1f  %22.2f\n", row.name, row.p.rate()/1e6, row.p.rate()/1e6/lineBytes,
			row.p.cpu.Seconds()/float64(row.p.bytes)*(1<<30))
	}
	fmt.Printf("  ratio %.2f (aim: 0.7 or more)\n", ours.rate()/plain.rate())
	fmt.Printf("  agent's peak memory %.1f MiB (aim: 32 or less), %d messages, coordinator's heap %.0f bytes/MB\n",
		float64(ours.peak)/1024, ours.messages, float64(ours.alloc)/(float64(ours.bytes)/1e6))
	return nil
}

// copyTLS has a child copy the pipe of a printing command to a TLS connection.
func (b *testbed) copyTLS(n int64) (passage, error) {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", b.server)
	if err != nil {
		return passage{}, err
	}
	defer listener.Close()
	began := time.Now()
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
	p.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if got != n {
		return p, fmt.Errorf("plain TLS copy: %d of %d bytes", got, n)
	}
	return p, nil
}

// childCopyTLS is the sending process of copyTLS.
func childCopyTLS(addr, dir, name, n string) error {
	config, err := certs.Files{CA: filepath.Join(dir, "ca.crt"), Cert: filepath.Join(dir, "client.crt"), Key: filepath.Join(dir, "client.key")}.ClientConfig(name)
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
	slow     func(n int) // where set, is called with the size of each batch
}

func (c *counter) Attached(*hodeipb.Hello) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint64(c.bytes), nil
}
func (c *counter) State(string, *hodeipb.State) {}
func (c *counter) Output(_ context.Context, _ string, _ *hodeipb.Batch, data mem.BufferSlice) error {
	if c.slow != nil {
		c.slow(data.Len())
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

// attempt has a real agent and launcher run a printing command.
func (b *testbed) attempt(n int64) (passage, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return passage{}, err
	}
	follower := &counter{ended: make(chan *hodeipb.ExitRecord, 1)}
	server := &coordinator.Server{TLS: b.server, Namespace: b.id.Namespace, Job: b.id.Job, Follower: follower}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer func() { server.Close(); <-served }()

	worker := filepath.Join(*bin, "hodei-worker")
	agent := exec.Command(worker, "agent")
	agent.Env = []string{
		"HODEI_NAMESPACE=" + b.id.Namespace, "HODEI_JOB=" + b.id.Job, "HODEI_ATTEMPT=bench", "HODEI_ATTEMPT_UID=bench",
		"HODEI_SOCKET=" + b.path("agent.sock"), "HODEI_SPOOL_DIR=" + b.path("spool"), fmt.Sprintf("HODEI_SPOOL_BYTES=%d", 4*loopbackBytes),
		"HODEI_SERVER_ADDRESS=" + listener.Addr().String(), "HODEI_SERVER_NAME=" + b.id.ServerName(),
		"HODEI_CA_CERT_PATH=" + b.path("ca.crt"), "HODEI_CLIENT_CERT_PATH=" + b.path("client.crt"), "HODEI_CLIENT_KEY_PATH=" + b.path("client.key"),
		"HODEI_START_TIMEOUT=10s", "HODEI_TIMEOUT=0s", "HODEI_GRACE=1s", "HODEI_LINGER=10s", "HODEI_TERMINATION_LOG=" + b.path("termination"),
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
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	launch := exec.Command(worker, "launch", "--socket="+b.path("agent.sock"), "--", own, "print", fmt.Sprint(n))
	launch.Stderr = os.Stderr
	if err := launch.Start(); err != nil {
		return passage{}, errors.Join(err, agent.Process.Kill(), agent.Wait())
	}
	var record *hodeipb.ExitRecord
	select {
	case record = <-follower.ended:
	case <-time.After(2 * time.Minute):
		return passage{}, errors.Join(fmt.Errorf("no exit record from the agent:\n%s", said.String()), agent.Process.Kill(), agent.Wait(), launch.Wait())
	}
	p := passage{took: time.Since(began), bytes: follower.bytes, messages: follower.messages}
	runtime.ReadMemStats(&after)
	p.alloc = after.TotalAlloc - before.TotalAlloc
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.Process.Pid))
	p.peak = kibibytes(string(status), "VmHWM:")
	if err := errors.Join(launch.Wait(), agent.Wait()); err != nil {
		return p, fmt.Errorf("%w\n%s", err, said.String())
	}
	p.cpu = agent.ProcessState.UserTime() + agent.ProcessState.SystemTime()
	if p.bytes != n || record.Code != 0 {
		return p, fmt.Errorf("%d of %d bytes, exit %d", p.bytes, n, record.Code)
	}
	return p, nil
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
