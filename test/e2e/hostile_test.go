package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hostile is the image of test/cluster/cmd/hostile, and busybox.
const hostile = "registry.local/hostile:1"

// TestHostileProbe: a job tries to get at what is not its own, and gets nothing.
func TestHostileProbe(t *testing.T) {
	t.Parallel()
	needsImages(t)
	name := jobName(t)
	r := hodei(t, "run", "-q", "--name", name, "--image", hostile, "--", "sh", "-c", "hostile probe; exit 7")
	if r.code != 7 {
		t.Errorf("exit code %d, want the command's own: %s", r.code, r.stderr)
	}
	// What it may: to look at itself, and to write what nobody believes.
	may := []string{"list own descriptors: ok", "read own status: ok", "forge the container's message: ok", "open process 1's pidfd: ok"}
	// What it must have been refused, whatever the words are, besides all that comes "ok".
	tried := []string{
		"stat /var/run/secrets/kubernetes.io/serviceaccount/token", "stat /run/secrets", "stat /etc/hodei", "stat /var/spool/hodei",
		"write the launcher", "truncate the launcher", "remove the launcher", "rename the launcher", "replace the launcher",
		"chmod the launcher",
		"make a file beside the launcher", "make a link beside the launcher", "make a directory beside the launcher",
		"remount the launcher's directory", "mount over the launcher's directory",
		"enter a user namespace", "dial the agent's socket", "make a socket in its place",
		"write /sys/fs/cgroup/cgroup.procs", "write /proc/sys/kernel/core_pattern", "write /proc/sysrq-trigger",
		"read process 1's mem", "read process 1's environ", "read process 1's maps", "read process 1's auxv",
		"follow process 1's exe", "follow process 1's cwd", "follow process 1's root", "follow process 1's fd/1",
		"follow process 1's ns/net",
		"list process 1's descriptors", "trace process 1", "read process 1's memory", "take process 1's descriptor", "set own uid to 0",
		"make a raw socket", "make a packet socket",
	}
	for _, line := range may {
		what, _, _ := strings.Cut(line, ": ")
		tried = append(tried, what)
	}
	values := map[string]string{
		"Uid": strings.Repeat(" "+ownUID(t, name), 4)[1:], "NoNewPrivs": "1", "Seccomp": "2",
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none,
	}
	tried = slices.AppendSeq(tried, maps.Keys(values))
	descriptors := map[string]string{} // by number
	var processes []string
	portRefused := false
	for line := range strings.Lines(r.stdout) {
		line = strings.TrimSuffix(line, "\n")
		what, result, _ := strings.Cut(line, ": ")
		want, isValue := values[what]
		switch {
		case what == "process":
			processes = append(processes, result)
		case what == "environment":
			if variable, _, _ := strings.Cut(result, "="); !slices.Contains([]string{"PATH", "HOSTNAME", "HOME", "SHLVL", "PWD",
				"HODEI_JOB", "HODEI_ATTEMPT"}, variable) && !strings.HasPrefix(variable, "KUBERNETES_") {
				t.Errorf("its environment has %s", result)
			}
		case what == "descriptor":
			number, to, _ := strings.Cut(result, " ")
			// Go's runtime reads its CPU limit, after the start.
			if descriptors[number] = to; to != "/dev/null" && to != "pipe" && !strings.HasPrefix(to, "/sys/fs/cgroup/cpu") {
				t.Errorf("it holds descriptor %s", result)
			}
		case isValue && result != want:
			t.Errorf("%s, want %s", line, want)
		case strings.HasSuffix(what, "the agent's port"):
			portRefused = result == "connection reset by peer" || result == "broken pipe"
		case result == "ok" && !slices.Contains(may, line):
			t.Errorf("it may %s", what)
		}
		tried = slices.DeleteFunc(tried, func(s string) bool { return s == what })
	}
	if len(tried) > 0 {
		t.Errorf("not tried: %s\n%s", strings.Join(tried, ", "), r.stdout)
	}
	if descriptors["0"] != "/dev/null" || descriptors["1"] != "pipe" || descriptors["2"] != "pipe" {
		t.Errorf("its descriptors: %q", descriptors)
	}
	if !portRefused {
		t.Errorf("the agent's port did not refuse it:\n%s", r.stdout)
	}
	if len(processes) != 3 || !strings.HasPrefix(processes[0], "/run/hodei/hodei-worker launch ") {
		t.Errorf("its processes: %q, want the launcher and its own", processes)
	}

	// The message that it forged stands in the Pod, as the job's word and nobody's truth.
	p := pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
	for _, s := range p.Status.ContainerStatuses {
		if forged := strings.Contains(s.State.Terminated.Message, `"end":"0"}`); forged != (s.Name == "job") {
			t.Errorf("container %s: %q", s.Name, s.State.Terminated.Message)
		}
	}
	until(t, "the job's failure", func(context.Context) (bool, error) {
		fields := strings.Fields(hodei(t, "jobs", name, "--no-headers").stdout)
		return len(fields) > 2 && fields[1] == "Failed" && fields[2] == "7", nil
	})
}

// ownUID is the uid that a job has been given.
func ownUID(t *testing.T, name string) string {
	t.Helper()
	j, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	agent, command := j.Spec.Template.Spec.Containers[0].SecurityContext, j.Spec.Template.Spec.Containers[1].SecurityContext
	if *agent.RunAsUser != *command.RunAsUser || *command.RunAsUser < 1048576 || *command.RunAsUser > 2097151 {
		t.Errorf("job %s runs as %d, its agent as %d", name, *command.RunAsUser, *agent.RunAsUser)
	}
	return fmt.Sprint(*command.RunAsUser)
}

// none is a set without any capability.
const none = "0000000000000000"

// TestHostileText: what hodei shows of a job besides its output can't steer a terminal.
func TestHostileText(t *testing.T) {
	t.Parallel()
	needsImages(t)
	const shout = "\x1b]0;owned\x07\x1b[2J\u202e31m"
	name := jobName(t)
	results := []result{hodei(t, "run", "--name", name, "--image", hostile, "--", "sh", "-c",
		`printf '\033[2Jx\007' >/dev/termination-log; exit 3`)}
	for _, args := range [][]string{{"jobs", name}, {"jobs", name, "-o", "wide"}, {"logs", name}, {"attach", name}} {
		results = append(results, hodei(t, args...))
	}
	results = append(results,
		hodei(t, "run", "--name", jobName(t), "--image", hostile, "--", shout),
		hodei(t, "run", "--name", jobName(t), "--image", hostile, "--workdir", "/"+shout, "--", "false"),
		hodei(t, "run", "--name", jobName(t), "--", "\u009b31m"))
	for _, r := range results {
		if strings.ContainsAny(r.stdout+r.stderr, "\x1b\x07\u202e\u009b") {
			t.Errorf("%q", r.stdout+r.stderr)
		}
	}
	for i, want := range []struct {
		code int
		err  string
	}{{127, "owned"}, {126, "no working directory"}, {2, "U+009B"}} {
		if r := results[5+i]; r.code != want.code || !strings.Contains(r.stderr, want.err) {
			t.Errorf("%+v", r)
		}
	}
}

// TestHostileSignals: process 1 outlives its job's signals, and tells its exit code.
func TestHostileSignals(t *testing.T) {
	t.Parallel()
	needsImages(t)
	r := hodei(t, "run", "-q", "--name", jobName(t), "--image", hostile, "--", "sh", "-c",
		"sleep 100 & kill -9 1; kill -STOP 1; kill -9 -1; wait; echo still here; exit 5")
	if r.code != 5 || !strings.HasSuffix(r.stdout, "still here\n") {
		t.Errorf("%+v", r)
	}
}

// TestHostileFlood: a job makes and leaves connections to the agent's port as fast as
// it can, and who attaches meanwhile gets in. Without the agent's refusal none of
// three did in 15 s. (Connections that are held did not keep anybody out before.) With
// --user 0 the job is not refused, and this proves nothing.
func TestHostileFlood(t *testing.T) {
	t.Parallel()
	needsImages(t)
	for _, loops := range []int{4, 16} {
		t.Run(fmt.Sprint(loops), func(t *testing.T) { // one after the other: each takes all there is
			name := jobName(t)
			// Longer than this takes: the job is deleted under way.
			if r := hodei(t, "run", "-d", "--name", name, "--image", hostile, "--container-logs=false", "--grace=1s", "--", "hostile",
				"storm", fmt.Sprint(loops), "100"); r.code != 0 {
				t.Fatalf("%+v", r)
			}
			pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
			for range 3 {
				begin := time.Now()
				r := hodei(t, "logs", "--tail=1", name) // and so not from the store
				if r.code != 0 || r.stdout != "flooding\n" {
					t.Errorf("after %s: %+v", time.Since(begin), r)
				}
				t.Logf("attached and read in %s", time.Since(begin))
			}
			s, out := follow(t, command(t.Context(), "attach", name))
			out.await(t, int64(len("flooding\n")))
			s.interrupt(t)
			if r := s.end(t); r.code != 130 {
				t.Errorf("attach: %+v", r)
			}
		})
	}
}

// TestHostileFlight: a job keeps as many descriptors in flight as the kernel lets its uid,
// which it counts over all Pods of the node. Others start all the same, and one that was
// told to have the same uid says why it does not.
func TestHostileFlight(t *testing.T) {
	t.Parallel()
	needsImages(t)
	fill := func(args ...string) string {
		t.Helper()
		name := jobName(t)
		if r := hodei(t, append(append([]string{"run", "-d", "--name", name, "--image", hostile, "--grace=1s", "--timeout=5m"}, args...),
			"--", "hostile", "flight")...); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		p := pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		until(t, "no more room", func(context.Context) (bool, error) {
			return strings.Contains(logs(t, p, "job"), "full with "), nil
		})
		return name
	}
	name := fill()
	for range 2 {
		if r := hodei(t, "run", "-q", "--name", jobName(t), "--", "echo", "beside"); r != (result{"beside\n", "", 0}) {
			t.Errorf("another job: %+v", r)
		}
	}
	uid := ownUID(t, name)
	r := hodei(t, "run", "--name", jobName(t), "--user", uid, "--", "echo", "beside")
	checkFailure(t, r, "processes of uid "+uid+" on this node, of this job or of others, have too many descriptors in flight")
}

// TestHostilePorts: a job that takes every port of the Pod's loopback keeps out who
// would attach. They are told why, and how to end it, which does.
func TestHostilePorts(t *testing.T) {
	t.Parallel()
	needsImages(t)
	name := jobName(t)
	// Two, since one process may not hold them all.
	if r := hodei(t, "run", "-d", "--name", name, "--image", hostile, "--grace=1s", "--", "sh", "-c",
		"hostile ports & hostile ports & wait"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	p := pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	until(t, "all ports taken", func(context.Context) (bool, error) {
		return strings.Count(logs(t, p, "job"), " ports\n") == 2, nil
	})
	s := start(t, "attach", name)
	s.await(t, "the agent can't be reached: dial tcp4 127.0.0.1:25051: connect: cannot assign requested address")
	if hint := "kubectl logs -n " + workers + " " + p.Name + "; to end the job: kubectl delete job -n " + workers + " " +
		name; !strings.Contains(s.text(), hint) {
		t.Errorf("want %q in:\n%s", hint, s.text())
	}
	if err := client.BatchV1().Jobs(workers).Delete(t.Context(), name,
		metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
		t.Fatal(err)
	}
	// With the ports free again the agent may be met before the Pod has ended.
	if r := s.end(t); r.code != 125 && r.code != 143 || strings.Count(r.stderr, "can't be reached") != 1 ||
		!strings.Contains(r.stderr, "the Pod was told to end") {
		t.Errorf("%+v", r)
	}
	nothingLeft(t, name)
}

// TestHostileDisks: what a job writes anywhere is bounded, and ends nothing but itself.
func TestHostileDisks(t *testing.T) {
	t.Parallel()
	needsImages(t)
	t.Run("its own file system", func(t *testing.T) {
		t.Parallel()
		// The limit of 400 MB on a file is this machine's, should the other one fail.
		r := hodei(t, "run", "--name", jobName(t), "--image", hostile, "--ephemeral-storage=20Mi", "--", "sh", "-c",
			"ulimit -f 800000; hostile fill /tmp/x >/dev/null 2>&1; exec sleep 100")
		checkFailure(t, r, "Evicted")
		if !strings.Contains(r.stderr, "local ephemeral storage") ||
			!strings.Contains(r.stderr, "hint: let it write more to its disk: --ephemeral-storage") {
			t.Errorf("the cause is not named:\n%s", r.stderr)
		}
	})
	t.Run("shared memory", func(t *testing.T) {
		t.Parallel()
		r := hodei(t, "run", "-q", "--name", jobName(t), "--image", hostile, "--", "sh", "-c", "hostile fill /dev/shm/x; exit 6")
		if r.code != 6 || !strings.Contains(r.stderr, "no space left on device") {
			t.Errorf("%+v", r)
		}
		r = hodei(t, "run", "--name", jobName(t), "--image", hostile, "--memory=32Mi", "--", "sh", "-c", "hostile fill /dev/shm/x; exit 6")
		if r.code == 0 || !strings.Contains(r.stderr, "OOMKilled") {
			t.Errorf("with a limit of memory: %+v", r)
		}
	})
	t.Run("the container's message", func(t *testing.T) {
		t.Parallel()
		r := hodei(t, "run", "-q", "--name", jobName(t), "--image", hostile, "--", "sh", "-c", `
			ulimit -f 800000
			echo because >/dev/termination-log
			hostile fill /dev/termination-log >/dev/null 2>&1 & sleep 0.5; kill $!; wait
			for i in $(seq 50); do [ $(stat -c %s /dev/termination-log) -le 4096 ] && break; sleep 0.1; done
			stat -c '%s bytes' /dev/termination-log; head -n 1 /dev/termination-log; exit 6`)
		if r.code != 6 || r.stdout != "4096 bytes\nbecause\n" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("the launcher's directory", func(t *testing.T) {
		t.Parallel()
		r := hodei(t, "run", "-q", "--name", jobName(t), "--image", hostile, "--", "hostile", "fill", "/run/hodei/x")
		if r.code != 1 || !strings.Contains(r.stderr, "read-only file system") {
			t.Errorf("%+v", r)
		}
	})
}

// TestHostileForks: a job that does nothing but multiply ends by its limits, and the
// job beside it does not notice.
func TestHostileForks(t *testing.T) {
	t.Parallel()
	needsImages(t)
	s := start(t, "run", "--name", jobName(t), "--image", hostile, "--memory=48Mi", "--cpu=200m", "--timeout=8s", "--grace=1s", "--",
		"hostile", "fork")
	s.await(t, "running")
	if r := hodei(t, "run", "-q", "--name", jobName(t), "--", "echo", "beside"); r != (result{"beside\n", "", 0}) {
		t.Errorf("the other job: %+v", r)
	}
	if r := s.end(t); r.code != 124 && r.code != 137 {
		t.Errorf("%+v", r)
	}
}
