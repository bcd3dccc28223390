package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tunnelBytes are printed by a Pod for each figure, from a file that is so much
// smaller that it stays in the node's memory.
const (
	tunnelBytes = 500_000_000
	tunnelFile  = 50_000_000
)

// makeFile is a shell script that makes /tmp/file of tunnelFile bytes.
func makeFile(random bool) string {
	if random {
		return fmt.Sprintf("head -c %d /dev/urandom > /tmp/file; ", tunnelFile)
	}
	// A MB of text is made by awk, the rest is copied.
	return fmt.Sprintf(`awk 'BEGIN { for (i = 0; i < 10000; i++) printf "%%-99.99s\n", "2026-01-02T15:04:05." i * 7919 %% 1000000 "Z `+
		`level=info worker=" i %% 16 " msg=\"request served\" status=200 id=" i * 40503 }' > /tmp/mb; for i in $(seq %d); do cat `+
		`/tmp/mb; done > /tmp/file; `, tunnelFile/1_000_000)
}

var printFile = fmt.Sprintf("for i in $(seq %d); do cat /tmp/file; done", tunnelBytes/tunnelFile)

// tunnel compares three ways to get a Pod's output into a file: hodei run,
// kubectl logs -f, and the physical limit, a bare port-forward that is copied.
func tunnel() error {
	dir, err := os.MkdirTemp("", "hodei-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, kind := range []struct {
		name   string
		random bool
		aim    float64
	}{{"text", false, 1.5}, {"random bytes", true, 0.8}} {
		var bare, ours []passage
		var logs passage
		for i := range rounds {
			if i == 0 { // it takes a minute
				if logs, err = kubectlLogs(kind.random, filepath.Join(dir, "logs")); err != nil {
					return err
				}
			}
			unix.Sync() // each begins with a disk that has nothing to do
			b, err := bareForward(kind.random, filepath.Join(dir, "bare"))
			if err != nil {
				return err
			}
			unix.Sync()
			h, err := hodeiRun(kind.random, filepath.Join(dir, "hodei"))
			if err != nil {
				return err
			}
			bare, ours = append(bare, b), append(ours, h)
		}
		b, h := middle(bare), middle(ours)
		fmt.Printf("%d MB of %s from a Pod to a file, median of %d   MB/s   bytes missing   cluster's CPU s/GiB\n", tunnelBytes/1_000_000,
			kind.name, rounds)
		for _, row := range []struct {
			name string
			passage
		}{{"bare port-forward, copied", b}, {"hodei run", h}, {"kubectl logs -f (once)", logs}} {
			fmt.Printf("  %-47s %6.1f   %13d   %19.1f\n", row.name, row.rate()/1e6, tunnelBytes-row.bytes, perGiB(row.cpu, row.bytes))
		}
		fmt.Printf("  ratio %.2f (aim: %.1f or more)\n", h.rate()/b.rate(), kind.aim)
	}
	return nil
}

// watchFile measures how a file grows, from its first byte until done is closed.
func watchFile(path string, done <-chan struct{}) passage {
	var p passage
	var began, last time.Time
	before := clusterCPU()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-tick.C:
		case <-done:
			over = true
		}
		info, err := os.Stat(path)
		if err != nil || info.Size() == p.bytes {
			continue
		}
		if last = time.Now(); began.IsZero() {
			began = last
		}
		p.bytes = info.Size()
	}
	p.took, p.cpu = last.Sub(began), clusterCPU()-before
	return p
}

// toFile runs a command with its stdout in a file.
func toFile(cmd *exec.Cmd, path string, started func() error) (passage, error) {
	f, err := os.Create(path)
	if err != nil {
		return passage{}, err
	}
	defer f.Close()
	cmd.Stdout = f
	if err := cmd.Start(); err != nil {
		return passage{}, err
	}
	done := make(chan struct{})
	watched := make(chan passage, 1)
	go func() { watched <- watchFile(path, done) }()
	err = errors.Join(started(), cmd.Wait())
	close(done)
	return <-watched, err
}

// hodeiRun checks what has come against the checksum that the job makes beforehand
// of what it will print.
func hodeiRun(random bool, path string) (passage, error) {
	script := makeFile(random) + "(" + printFile + ") | sha256sum >&2; sleep 1; " + printFile
	cmd := command("hodei", "run", "--quiet", "--provider", "bench", "--image", *shellImage, "--", "sh", "-c", script)
	var said strings.Builder
	cmd.Stderr = &said
	p, err := toFile(cmd, path, func() error { return nil })
	if err != nil {
		return p, fmt.Errorf("hodei run: %w\n%s", err, said.String())
	}
	f, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return p, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); !strings.HasPrefix(said.String(), got) {
		return p, fmt.Errorf("hodei run: %d bytes with checksum %s, the job says %s", p.bytes, got, said.String())
	}
	return p, nil
}

// pod starts a Pod that runs a shell script, and returns when it runs.
func pod(name, script string) error {
	if err := run("kubectl", "run", name, "--namespace=default", "--restart=Never", "--image="+*shellImage,
		"--image-pull-policy=IfNotPresent", "--command", "--", "sh", "-c", script); err != nil {
		return err
	}
	return run("kubectl", "wait", "--namespace=default", "--for=condition=Ready", "--timeout=60s", "pod/"+name)
}

func removePod(name string) {
	if err := run("kubectl", "delete", "pod", "--namespace=default", "--now", "--wait=false", name); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func podName(what string) string { return fmt.Sprintf("bench-%s-%05d", what, rand.IntN(100000)) }

// kubectlLogs follows the log of a Pod that prints, as a person would: from when
// it runs. The file at /tmp/go lets it begin.
func kubectlLogs(random bool, path string) (passage, error) {
	name := podName("logs")
	if err := pod(name, makeFile(random)+"while [ ! -e /tmp/go ]; do sleep 0.1; done; "+printFile+"; sleep 3"); err != nil {
		return passage{}, err
	}
	defer removePod(name)
	cmd := command("kubectl", "logs", "--namespace=default", "-f", name)
	p, err := toFile(cmd, path, func() error {
		return run("kubectl", "exec", "--namespace=default", name, "--", "touch", "/tmp/go")
	})
	var exit *exec.ExitError
	if errors.As(err, &exit) { // whatever it says: what counts is what it gave
		err = nil
	}
	return p, err
}

// bareForward copies what a program in a Pod writes to a connection, through
// kubectl port-forward.
func bareForward(random bool, path string) (passage, error) {
	name := podName("bare")
	if err := pod(name, makeFile(random)+"echo '"+printFile+"' > /tmp/serve; echo ready; nc -l -p 9000 -e sh /tmp/serve"); err != nil {
		return passage{}, err
	}
	defer removePod(name)
	var p passage
	err := forwarded(name, func(conn net.Conn) error {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		defer f.Close()
		done := make(chan struct{})
		watched := make(chan passage, 1)
		go func() { watched <- watchFile(path, done) }()
		_, err = io.CopyBuffer(struct{ io.Writer }{f}, struct{ io.Reader }{conn}, make([]byte, 1<<20))
		close(done)
		p = <-watched
		return err
	})
	if err == nil && p.bytes != tunnelBytes {
		err = fmt.Errorf("bare port-forward: %d of %d bytes", p.bytes, tunnelBytes)
	}
	return p, err
}

// forwarded calls use with a connection, through kubectl port-forward, to port 9000 of a Pod that has said that it is
// ready.
func forwarded(name string, use func(net.Conn) error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if out, err := command("kubectl", "logs", "--namespace=default", name).Output(); err == nil &&
			bytes.Contains(out, []byte("ready")) {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("bare port-forward: its Pod does not get ready")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	forward := exec.CommandContext(ctx, "kubectl", "port-forward", "--namespace=default", "pod/"+name, ":9000")
	said, err := forward.StdoutPipe()
	if err != nil {
		return err
	}
	if err := forward.Start(); err != nil {
		return err
	}
	defer func() { cancel(); _ = forward.Wait() }() // killed
	line := make([]byte, 256)                       // Forwarding from 127.0.0.1:PORT -> 9000
	n, err := said.Read(line)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(line[:n]), "127.0.0.1:")
	port, _, _ := strings.Cut(rest, " ")
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	defer conn.Close()
	return use(conn)
}

// clusterCPU is what the processes of a cluster on this machine that output
// passes through have used: 0 where there are none.
func clusterCPU() time.Duration {
	var ticks int64
	paths, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well-formed
	for _, path := range paths {
		stat, _ := os.ReadFile(path)
		_, rest, _ := bytes.Cut(stat, []byte("("))
		i := bytes.LastIndexByte(rest, ')')
		if i < 0 {
			continue
		}
		switch name := string(rest[:i]); {
		case slices.Contains([]string{"kubelet", "kube-apiserver", "containerd", "containerd-shim", "crio", "conmon", "hodei-worker", "nc"},
			name):
		default:
			continue
		}
		fields := strings.Fields(string(rest[i+1:]))
		for _, f := range fields[11:13] { // utime and stime, see proc(5)
			n, _ := strconv.ParseInt(f, 10, 64)
			ticks += n
		}
	}
	const hertz = 100 // of Linux, on every machine that runs Go
	return time.Duration(ticks) * time.Second / hertz
}

// latency measures from the moment in which a Pod writes a line, which it says in
// the line, to the moment in which that comes out here: of hodei run and of
// kubectl logs -f at the same time. The clocks have to be one: a cluster on this
// machine.
func latency() error {
	const n = 60
	script := fmt.Sprintf("for i in $(seq %d); do sleep 1; touch /tmp/now; stat -c '%%Y %%y' /tmp/now; done", n)
	hodei := command("hodei", "run", "--quiet", "--provider", "bench", "--image", *shellImage, "--", "sh", "-c", script)
	name := podName("latency")
	if err := pod(name, script); err != nil {
		return err
	}
	defer removePod(name)
	kubectl := command("kubectl", "logs", "--namespace=default", "-f", name)
	type result struct {
		d   []time.Duration
		err error
	}
	results := [2]chan result{make(chan result, 1), make(chan result, 1)}
	for i, cmd := range []*exec.Cmd{hodei, kubectl} {
		go func() {
			d, err := delays(cmd)
			results[i] <- result{d, err}
		}()
	}
	h, k := <-results[0], <-results[1]
	if err := errors.Join(h.err, k.err); err != nil {
		return err
	}
	fmt.Printf("a line a second, from the write to our stdout, %d of each, ms   median    p99\n", n)
	for _, row := range []struct {
		name string
		d    []time.Duration
	}{{"hodei run (aim: 25 and 60)", h.d}, {"kubectl logs -f", k.d}} {
		d := slices.Sorted(slices.Values(row.d))
		fmt.Printf("  %-62s %6.1f %6.1f\n", row.name, median(d).Seconds()*1000, d[len(d)*99/100].Seconds()*1000)
	}
	return nil
}

// delays reads a command's lines, each the time at which it was about to be
// written: in seconds since the epoch, and as a date with nanoseconds.
func delays(cmd *exec.Cmd) ([]time.Duration, error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var d []time.Duration
	var rest []byte
	buf := make([]byte, 4096)
	for {
		n, err := out.Read(buf)
		now := time.Now()
		rest = append(rest, buf[:n]...)
		for {
			line, more, found := bytes.Cut(rest, []byte("\n"))
			if !found {
				break
			}
			rest = more
			var s, ns int64
			var date, clock string
			if _, err := fmt.Sscanf(string(line), "%d %s %8s.%d", &s, &date, &clock, &ns); err != nil {
				return nil, errors.Join(fmt.Errorf("%s: %w", cmd, err), cmd.Process.Kill(), cmd.Wait())
			}
			d = append(d, now.Sub(time.Unix(s, ns)))
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	if len(d) == 0 {
		return nil, fmt.Errorf("%s: no lines", cmd)
	}
	return d, nil
}
