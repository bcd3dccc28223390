package probe

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The test binary is the job too: with this variable it does what workloads has
// under its value, says that it is done, and waits until it is told to end.
const workloadVariable = "HODEI_PROBE_WORKLOAD"

var workloads = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	name := os.Getenv(workloadVariable)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := workloads[name](os.Args[1:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
}

// unable ends a test that this machine can't do; where the kernel is known to be
// able, that is a fault.
func unable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("HODEI_KERNEL_TEST") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// cgroup2 is where the v2 hierarchy is mounted.
func cgroup2(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1]
		}
	}
	unable(t, "no cgroup2 is mounted")
	return ""
}

// group is a cgroup of the test's own.
type group struct {
	path string
	dir  *os.File
}

// newGroup makes one below parent; empty: below the root.
func newGroup(t testing.TB, parent string) group {
	t.Helper()
	if parent == "" {
		parent = cgroup2(t)
	}
	if os.Getuid() != 0 {
		unable(t, "only root can make a cgroup and load programs")
	}
	path := filepath.Join(parent, "hodei-probe-"+rand.Text())
	if err := os.Mkdir(path, 0o755); err != nil {
		unable(t, "make a cgroup: %v", err)
	}
	g := group{path: path}
	t.Cleanup(func() {
		g.dir.Close()
		os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0)
		eventually(t, "the cgroup is empty", func() bool { return os.Remove(path) == nil })
	})
	var err error
	if g.dir, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g group) has(file string) bool {
	_, err := os.Stat(filepath.Join(g.path, file))
	return err == nil
}

// set waits until it is done, which package os does not: it opens such files with
// O_NONBLOCK, and memory.max then leaves what is too much where it is (Linux 6.16).
func (g group) set(t testing.TB, file, value string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(g.path, file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		t.Fatalf("write %q to %s: %v", value, file, err)
	}
}

// read is the number that a file has, or the one after name in it.
func (g group) read(t testing.TB, file, name string) uint64 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.path, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 1 && name == "" || len(f) == 2 && f[0] == name {
			n, err := strconv.ParseUint(f[len(f)-1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s has no %q: %s", file, name, text)
	return 0
}

// opened is a probe of the cgroup with the part that the test is about.
func (g group) opened(t testing.TB, part string) *Probe {
	t.Helper()
	p := Open(Target{Dir: g.dir})
	t.Cleanup(func() { p.Close() })
	requirePart(t, p, part)
	return p
}

func requirePart(t testing.TB, p *Probe, part string) {
	t.Helper()
	for _, got := range p.Parts() {
		if got.Name == part && got.Err != nil {
			unable(t, "%s: %v", part, got.Err)
		}
	}
}

// process is a workload that runs.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// start starts a workload in the cgroup; a zero group: in the test's own.
func (g group) start(t testing.TB, workload string, args ...string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), workloadVariable+"="+workload)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if g.dir != nil {
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(g.dir.Fd())
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The kernel sends the signal of Pdeathsig when the thread ends that has started it.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, stdin: stdin, lines: bufio.NewScanner(stdout)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return p
}

// line is the next line that the workload says; empty: it has ended.
func (p *process) line() string {
	p.lines.Scan()
	return p.lines.Text()
}

// done waits until the workload has done its work; it stays there, idle.
func (p *process) done(t testing.TB) {
	t.Helper()
	if line := p.line(); line != "done" {
		t.Fatalf("workload: %q, %v", line, p.cmd.Wait())
	}
}

// end ends a workload that is done.
func (p *process) end(t testing.TB) {
	t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what the kernel does after it has answered.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// within is whether two figures of the same thing agree.
func within(t testing.TB, what string, got, want, slack uint64) {
	t.Helper()
	if difference := max(got, want) - min(got, want); difference > max(slack, want/50) {
		t.Errorf("%s = %d, the kernel's file says %d", what, got, want)
	} else {
		t.Logf("%s = %d, the kernel's file says %d", what, got, want)
	}
}

// kernelBefore is whether the kernel is older than a version.
func kernelBefore(major, minor int) bool {
	var u unix.Utsname
	unix.Uname(&u)
	var a, b int
	fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b)
	return a < major || a == major && b < minor
}
