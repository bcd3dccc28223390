package e2e

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Output by checksum: what a job printed is what every follower shows.

// printed is the exit code of the jobs below: 0 could be anybody's.
const printed = 7

// sumUp has a job say on stderr what it printed, the file all, and end.
const sumUp = `echo "$(sha256sum <all)$(wc -c <all)" >&2; exit 7`

// steady prints 2 MB a second for so many seconds, random bytes, which no zstd
// makes small.
func steady(seconds int) []string {
	return []string{"sh", "-c", fmt.Sprintf(
		"i=0; while [ $i -lt %d ]; do head -c 200000 /dev/urandom | tee -a all; sleep 0.1; i=$((i+1)); done; %s", 10*seconds, sumUp)}
}

// output is a stdout that counts and sums up what it is given.
type output struct {
	mu    sync.Mutex
	sum   hash.Hash
	bytes int64
	grown chan struct{} // has room for one
}

func newOutput() *output { return &output{sum: sha256.New(), grown: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	o.sum.Write(p)
	o.bytes += int64(len(p))
	o.mu.Unlock()
	select {
	case o.grown <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return fmt.Sprintf("%d bytes with sum %x", o.bytes, o.sum.Sum(nil))
}

// count is how many bytes there are.
func (o *output) count() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// await waits until there are n bytes.
func (o *output) await(t *testing.T, n int64) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		bytes := o.count()
		if bytes >= n {
			return
		}
		select {
		case <-o.grown:
		case <-timeout:
			t.Fatalf("%d bytes within a minute, want %d", bytes, n)
		}
	}
}

// summed is what a job that ends with sumUp says on stderr.
func summed(stderr string) string {
	var sum string
	var bytes int64
	if _, err := fmt.Sscanf(stderr, "%64s -%d", &sum, &bytes); err != nil {
		return fmt.Sprintf("no sum (%v)", err)
	}
	return fmt.Sprintf("%d bytes with sum %s", bytes, sum)
}

// follow is hodei -q run or attach with an output; whole waits for its end.
func follow(t *testing.T, cmd *exec.Cmd) (*started, *output) {
	t.Helper()
	out := newOutput()
	return startCommand(t, out, cmd), out
}

// whole checks that a follower ended with all that its job printed, and the job's
// exit code.
func whole(t *testing.T, s *started, out *output) {
	t.Helper()
	r := s.end(t)
	if want := summed(r.stderr); out.String() != want || r.code != printed {
		t.Errorf("exit code %d, want %d; %s, the job printed %s; stderr:\n%s", r.code, printed, out, want, r.stderr)
	}
}

// elsewhere has a command keep its state in dir: another directory is another
// machine with the same kubeconfig.
func elsewhere(dir string, cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(cmd.Env, "XDG_STATE_HOME="+dir)
	return cmd
}

// runDetached submits a job and leaves it.
func runDetached(t *testing.T, args ...string) {
	t.Helper()
	if r := hodei(t, append([]string{"run", "--detach", "--workdir=/tmp"}, args...)...); r.code != 0 {
		t.Fatalf("%+v", r)
	}
}

// TestWholeOutput: large, compressed, without a newline, short-lived.
func TestWholeOutput(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"64 MiB of random bytes": "head -c 67108864 /dev/urandom >all; cat all; " + sumUp,
		"64 MiB of text":         "seq 9000000 | head -c 67108864 >all; cat all; " + sumUp,
		"a line of 100 MB":       "head -c 100000000 /dev/zero | tr '\\0' x >all; cat all; " + sumUp,
		"50 ms": "head -c 300000 /dev/urandom >all; echo \"$(sha256sum <all)$(wc -c <all)\" >&2; head -c 150000 all; " +
			"sleep 0.05; tail -c 150000 all; exit 7",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, out := follow(t,
				elsewhere(t.TempDir(), command(t.Context(), "run", "-q", "--name", jobName(t), "--workdir=/tmp", "--", "sh", "-c", script)))
			whole(t, s, out)
		})
	}
}

// TestFollowers: two at once are complete, beside a third whose terminal takes
// nothing and a fourth that is stopped; and the job waits for none of them.
func TestFollowers(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	runDetached(t, append([]string{"--name", name, "--linger=2m", "--"}, steady(6)...)...)
	attach := func() *exec.Cmd { return elsewhere(t.TempDir(), command(t.Context(), "attach", "-q", name)) }

	stuck, terminal, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	third := startCommand(t, terminal, attach())
	terminal.Close()
	fourth, stopped := follow(t, attach())
	stopped.await(t, 1)
	if err := fourth.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	first, one := follow(t, attach())
	second, two := follow(t, attach())
	whole(t, first, one)
	whole(t, second, two)
	// The Pod waits for the third and the fourth no longer than for anybody.
	command := terminated(t, name)
	if took := command.FinishedAt.Sub(command.StartedAt.Time); took > 60*time.Second {
		t.Errorf("the job took %s: somebody held it up", took)
	}
	late := newOutput()
	if _, err := io.Copy(late, stuck); err != nil {
		t.Fatal(err)
	}
	whole(t, third, late)
	if err := fourth.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	whole(t, fourth, stopped)
}

// terminated waits for the end of a job's command.
func terminated(t *testing.T, name string) *corev1.ContainerStateTerminated {
	t.Helper()
	var ended *corev1.ContainerStateTerminated
	pod(t, name, func(p *corev1.Pod) bool {
		for _, c := range p.Status.ContainerStatuses {
			if c.Name == "job" {
				ended = c.State.Terminated
			}
		}
		return ended != nil
	})
	return ended
}

// lines is what seq n prints.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintln(&b, i+1)
	}
	return b.String()
}

// differ says where two texts part; empty: nowhere.
func differ(got, want string) string {
	if got == want {
		return ""
	}
	i := 0
	for i < min(len(got), len(want)) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("%d bytes, want %d; from offset %d on %.40q, want %.40q", len(got), len(want), i, got[i:], want[i:])
}

// TestContainerLogs: where it is asked for, and of a detached job, kubectl logs
// shows what the job printed.
func TestContainerLogs(t *testing.T) {
	t.Parallel()
	text := lines(1000)
	t.Run("asked for", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		r := hodei(t, "run", "-q", "--container-logs", "--name", name, "--", "seq", "1000")
		if d := differ(r.stdout, text); d != "" || r.code != 0 {
			t.Errorf("exit code %d; %s", r.code, d)
		}
		if d := differ(logs(t, ended(t, name), "job"), text); d != "" {
			t.Errorf("the container's log: %s", d)
		}
	})
	t.Run("not asked for", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		if r := hodei(t, "run", "-q", "--name", name, "--", "seq", "1000"); r.stdout != text {
			t.Errorf("%+v", r)
		}
		if log := logs(t, ended(t, name), "job"); log != "" {
			t.Errorf("the container's log: %.40q", log)
		}
	})
	t.Run("detached", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		runDetached(t, "--name", name, "--linger=1s", "--", "seq", "1000")
		if d := differ(logs(t, ended(t, name), "job"), text); d != "" {
			t.Errorf("the container's log: %s", d)
		}
		// Nobody fetched it in time: that log is all there is.
		r := run(t, elsewhere(t.TempDir(), command(t.Context(), "logs", name)))
		if d := differ(r.stdout, text); d != "" || r.code != 0 {
			t.Errorf("hodei logs: exit code %d; %s; stderr:\n%s", r.code, d, r.stderr)
		}
	})
}

// ended waits for the end of a job's Pod.
func ended(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	return pod(t, name, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	})
}

// TestWithoutTunnel: run and attach follow the container's log, and say so; the
// exit code is the job's.
func TestWithoutTunnel(t *testing.T) {
	t.Parallel()
	user := tunnelless(t)
	name := jobName(t)
	r := hodei(t, "run", "--as", user, "--name", name, "--", "sh", "-c", "seq 1000; exit 7")
	if d := differ(r.stdout, lines(1000)); d != "" || r.code != printed || !strings.Contains(r.stderr, "this is the container's log") {
		t.Errorf("exit code %d; %s; stderr:\n%s", r.code, d, r.stderr)
	}
	running := jobName(t)
	runDetached(t, "--name", running, "--linger=1s", "--", "sh", "-c", "seq 500; sleep 3; seq 501 1000; exit 7")
	for _, name := range []string{name, running} {
		r = run(t, elsewhere(t.TempDir(), command(t.Context(), "attach", "-q", "--as", user, name)))
		if d := differ(r.stdout, lines(1000)); d != "" || r.code != printed {
			t.Errorf("attach: exit code %d; %s; stderr:\n%s", r.code, d, r.stderr)
		}
	}
}

// TestOutOfMemory: what a job wrote before the kernel killed it is there, also
// where nobody was attached.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	const killed = 137
	check := func(t *testing.T, what string, r result, code, n int) {
		t.Helper()
		if d := differ(r.stdout, lines(n)); d != "" || r.code != code {
			t.Errorf("%s: exit code %d, want %d; %s; stderr:\n%s", what, r.code, code, d, r.stderr)
		}
	}
	const eat = "; a=x; while :; do a=$a$a; done"
	t.Run("attached", func(t *testing.T) {
		t.Parallel()
		check(t, "run", hodei(t, "run", "--memory=32Mi", "--name", jobName(t), "--", "sh", "-c", "seq 500000"+eat), killed, 500000)
	})
	t.Run("detached", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		// What the runtime has not written when a container ends it may drop, of any
		// Pod (https://github.com/containerd/containerd/issues/7289): it gets a second.
		runDetached(t, "--memory=32Mi", "--name", name, "--", "sh", "-c", "seq 20000; sleep 1"+eat)
		if end := terminated(t, name); end.ExitCode != killed {
			t.Errorf("the job's container: %+v", end)
		}
		// The first who stores all lets the Pod go.
		state := t.TempDir()
		check(t, "attach", run(t, elsewhere(state, command(t.Context(), "attach", name))), killed, 20000)
		if d := differ(logs(t, ended(t, name), "job"), lines(20000)); d != "" {
			t.Errorf("the container's log: %s", d)
		}
		check(t, "logs of what attach stored", run(t, elsewhere(state, command(t.Context(), "logs", name))), 0, 20000)
		check(t, "attach after the end", run(t, elsewhere(state, command(t.Context(), "attach", name))), killed, 20000)
		check(t, "logs from another machine", run(t, elsewhere(t.TempDir(), command(t.Context(), "logs", name))), 0, 20000)
	})
}
