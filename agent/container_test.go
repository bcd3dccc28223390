package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

// kernelTest is set where the kernel and its cgroups are the test's own: what has to be
// there and is not fails then, instead of being skipped.
var kernelTest = os.Getenv("HODEI_KERNEL_TEST") == "1"

// runContained is process 1 of a container as far as cgroups go: it sees its own of
// version 2 alone, and becomes the launcher.
func runContained(args []string) int {
	launcher := self("test-launch", args[0])
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"unshare the cgroup namespace", func() error { return unix.Unshare(unix.CLONE_NEWCGROUP) }},
		{"keep mounts to ourselves", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"unmount the machine's cgroups", func() error { return unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH) }},
		{"mount our own", func() error { return unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_RDONLY, "") }},
		{"mount /proc", func() error { return unix.Mount("proc", "/proc", "proc", 0, "") }},
		{"become the launcher", func() error { return unix.Exec(launcher[0], launcher, os.Environ()) }},
	} {
		if err := step.do(); err != nil {
			return fail(step.what+":", err)
		}
	}
	return 0
}

// runTransfer sends so many bytes to itself over loopback.
func runTransfer(args []string) int {
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return fail(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fail(err)
	}
	sent := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			_, err = io.CopyN(c, zeros{}, n)
			err = errors.Join(err, c.Close())
		}
		sent <- err
	}()
	c, err := l.Accept()
	if err != nil {
		return fail(err)
	}
	if got, err := io.Copy(io.Discard, c); got != n || err != nil {
		return fail(got, err)
	}
	if err := <-sent; err != nil {
		return fail(err)
	}
	return 0
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// container is a cgroup of version 2 for a launcher.
type container struct{ dir string }

// newContainer makes one, or skips the test where that can't be done.
func newContainer(t *testing.T) *container {
	t.Helper()
	cannot := func(err error) {
		t.Helper()
		if kernelTest {
			t.Fatal(err)
		}
		t.Skip("no cgroup can be made here: ", err)
	}
	root := t.TempDir()
	if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
		cannot(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(root, unix.MNT_DETACH) })
	for _, controller := range []string{"cpu", "memory", "io", "pids"} { // those that version 1 has not
		_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0o600)
	}
	dir, err := os.MkdirTemp(root, "hodei-agent-") //nolint:usetesting // it is no directory of files
	if err != nil {
		cannot(err)
	}
	t.Cleanup(func() { _ = unix.Rmdir(dir) })
	return &container{dir}
}

// has tells that the kernel has a file for it.
func (c *container) has(name string) bool {
	_, err := os.Stat(filepath.Join(c.dir, name))
	return err == nil
}

func (c *container) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// number is what a file says, the line of a name where one is given.
func (c *container) number(t *testing.T, file, name string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		value, found := strings.CutPrefix(strings.TrimSpace(string(line)), name)
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); found && err == nil {
			return n
		}
	}
	t.Fatalf("no %s in %s: %s", name, file, text)
	return 0
}

// worker is one whose launcher is in the container.
func (c *container) worker(t *testing.T, ebpf EBPF) *worker {
	t.Helper()
	dir, err := os.Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	w := newWorker(t)
	w.contained = true
	w.launcherAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	w.cfg.EBPF = ebpf
	w.server.MetricsInterval = meter.LeastInterval
	return w
}

// absent gives the parts of the eBPF that are not there, and why.
func absent(w *worker) map[string]string {
	reasons := map[string]string{}
	for _, p := range w.follower.exit.GetProbes() {
		if p.Absent != "" {
			reasons[p.Name] = p.Absent
		}
	}
	return reasons
}

func near(t *testing.T, what string, got, want, slack uint64) {
	t.Helper()
	if max(got, want)-min(got, want) > want/50+slack {
		t.Errorf("%s: measured %d, the kernel says %d", what, got, want)
	}
}

// TestContainer measures jobs in a cgroup of version 2, as in a Pod, and compares with
// the kernel's own files.
func TestContainer(t *testing.T) {
	for _, ebpf := range []EBPF{EBPFOff, EBPFAuto} {
		t.Run(fmt.Sprintf("eBPF %q", ebpf), func(t *testing.T) {
			t.Run("CPU time", func(t *testing.T) {
				c := newContainer(t)
				w := c.worker(t, ebpf)
				w.run(self("test-burn", "300ms")...)
				w.ends(0)
				u := w.follower.exit.Usage
				want := "cgroup2"
				if ebpf != EBPFOff && len(absent(w)) < 4 {
					want = "cgroup2+ebpf"
				}
				if u.GetSource() != want {
					t.Errorf("measured by %q, want %q: %v", u.GetSource(), want, absent(w))
				}
				// What the launcher does after its command's end is a few ms, and more where a
				// machine is emulated.
				after := 20 * time.Millisecond
				if kernelTest {
					after *= 5
				}
				near(t, "CPU time", u.GetCpuNs(), 1000*c.number(t, "cpu.stat", "usage_usec"), uint64(after))
				near(t, "user and system time", u.GetCpuUserNs()+u.GetCpuSystemNs(), u.GetCpuNs(), uint64(time.Microsecond))
				w.follower.checkSamples(t)
				if c.has("memory.peak") {
					near(t, "peak", u.GetMemoryPeakBytes(), c.number(t, "memory.peak", ""), 0)
					if u.GetMemoryPeakBytes() < burnBytes || u.MemoryPeakSampled {
						t.Errorf("%d bytes were held, measured %v", burnBytes, u)
					}
				}
			})
			t.Run("out of memory", func(t *testing.T) {
				c := newContainer(t)
				if !c.has("memory.max") {
					t.Skip("version 1 has the memory controller here")
				}
				const limit = 96 << 20
				c.write(t, "memory.max", strconv.Itoa(limit))
				if c.has("memory.swap.max") {
					c.write(t, "memory.swap.max", "0")
				}
				w := c.worker(t, ebpf)
				w.run(self("test-burn", "300ms")...)
				w.ends(137)
				r := w.follower.exit
				u := r.Usage
				if r.Cause != contract.CauseOOMKilled || u.GetMemoryLimitBytes() != limit ||
					u.GetOomKills() != c.number(t, "memory.events", "oom_kill ") {
					t.Errorf("exit record %v", r)
				}
				near(t, "peak", u.GetMemoryPeakBytes(), limit, 0)
				want := "memory reached its limit of 96Mi; the kernel killed a process of the job"
				if _, missing := absent(w)[probe.OOM]; ebpf != EBPFOff && !missing {
					name := filepath.Base(self()[0])
					want = "memory reached its limit of 96Mi; the kernel killed " + name[:min(len(name), 15)]
					if b := u.GetOomVictim().GetBytes(); b > limit+16<<20 || b < limit/2 { // pages of its file are not charged to it
						t.Errorf("a victim of %d bytes", b)
					}
				}
				if said, _, _ := strings.Cut(r.Message, " ("); said != want { // its size is in brackets
					t.Errorf("message %q, want %q", r.Message, want)
				}
			})
		})
	}
	t.Run("network", func(t *testing.T) {
		const payload = 10_000_000
		c := newContainer(t)
		w := c.worker(t, EBPFAuto)
		w.run(self("test-transfer", strconv.Itoa(payload))...)
		w.ends(0)
		if why, missing := absent(w)[probe.Network]; missing {
			if kernelTest {
				t.Fatal(why)
			}
			t.Skip(why)
		}
		n := w.follower.exit.Usage.GetNetIpv4()
		if n.GetTransmitPackets() != n.GetReceivePackets() || n.GetTransmitPackets() == 0 {
			t.Errorf("over loopback as much is received as transmitted: %v", n)
		}
		near(t, "received", n.GetReceiveBytes(), n.GetTransmitBytes(), 0) // the headers of what was joined
		near(t, "payload and headers", n.GetTransmitBytes(), payload, 0)
		if n.GetTransmitBytes() < payload {
			t.Errorf("of %d bytes %d were counted", payload, n.GetTransmitBytes())
		}
		if v6 := w.follower.exit.Usage.NetIpv6; v6 == nil || v6.TransmitBytes > 0 {
			t.Errorf("over IPv6: %v", v6)
		}
	})
	t.Run("all that is required is there", func(t *testing.T) {
		c := newContainer(t)
		w := c.worker(t, EBPFRequire)
		w.run("echo", "hello")
		select {
		case <-w.agent.ended:
		case <-time.After(agenttest.Patience):
			t.Fatal("the agent does not end")
		}
		switch code := w.agent.cmd.ProcessState.ExitCode(); {
		case code == contract.ExitNoEBPF && !kernelTest:
			t.Skip("nothing of eBPF can be had here")
		case code != contract.ExitOK:
			t.Fatalf("the agent has ended with %d", code)
		}
		if r := w.follower.exited(t); r.Code != 0 || len(r.Probes) != 4 {
			t.Errorf("exit record %v", r)
		}
		if kernelTest && len(absent(w)) > 0 {
			t.Logf("absent: %v", absent(w))
		}
	})
}
