package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// TestEnds: the exit code is the command's own, or says why there is none.
func TestEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		flags []string
		args  []string
		code  int
		out   string // whole stdout
		err   string // part of stderr
	}{
		{"success", nil, []string{"echo", "hi"}, 0, "hi\n", "exit 0"},
		{"127", nil, []string{"no-such-command"}, 127, "", "error: the command can't be run: no-such-command: executable file not found"},
		{"126", nil, []string{"/etc/passwd"}, 126, "", "error: the command can't be run: /etc/passwd: permission denied"},
		{"signal", nil, []string{"sh", "-c", "kill -9 $$"}, 137, "", "killed by SIGKILL"},
		{"timeout", []string{"--timeout=1s", "--grace=1s"}, []string{"sleep", "100"}, 124, "", "error: DeadlineExceeded"},
		{"out of memory", []string{"--memory=32Mi"}, []string{"sh", "-c", "echo before; a=x; while :; do a=$a$a; done"}, 137, "before\n",
			"error: OOMKilled"},
		{"late output of a grandchild", nil, []string{"sh", "-c", "(sleep 0.5; echo late) & exit 3"}, 3, "late\n", "exit 3"},
		{"a grandchild that never lets go", nil, []string{"sh", "-c", "sleep 100 & echo on; exit 3"}, 3, "on\n",
			"still held its output open"},
		{"variables", []string{"-e", "A=$(B) $$ '\"", "--env=B=2"}, []string{"sh", "-c", `printf %s "$A|$B"`}, 0,
			"$(B) $$ '\"|2", "exit 0"},
		{"workdir", []string{"--workdir=/etc"}, []string{"pwd"}, 0, "/etc\n", ""},
		{"user", []string{"--user=1234:5678"}, []string{"sh", "-c", "id -u; id -g"}, 0, "1234\n5678\n", ""},
		{"one pipe", []string{"--merge-output"}, []string{"sh", "-c", "for i in 1 2 3; do echo $i; echo $i >&2; done"}, 0,
			"1\n1\n2\n2\n3\n3\n", ""},
		{"silence", []string{"--follow=false"}, []string{"sh", "-c", "echo unseen; exit 5"}, 5, "", "exit 5"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"run", "--name", jobName(t)}, tt.flags...)
			r := hodei(t, append(append(args, "--"), tt.args...)...)
			if r.code != tt.code || r.stdout != tt.out || !strings.Contains(r.stderr, tt.err) {
				t.Errorf("exit code %d, want %d; stdout %q, want %q; stderr should have %q:\n%s", r.code, tt.code, r.stdout, tt.out,
					tt.err, r.stderr)
			}
		})
	}
}

// TestBytes: what the command writes is what we get.
func TestBytes(t *testing.T) {
	t.Parallel()
	for _, stream := range []string{"", " >&2"} {
		t.Run("random"+stream, func(t *testing.T) {
			t.Parallel()
			// The sum is on the other stream; -q leaves both to the command.
			sum := " >&2"
			if stream != "" {
				sum = ""
			}
			r := hodei(t, "run", "-q", "--name", jobName(t), "--workdir", "/tmp", "--", "sh", "-c",
				"head -c 5000000 /dev/urandom >x; sha256sum <x"+sum+"; cat x"+stream)
			data, text := r.stdout, r.stderr
			if stream != "" {
				data, text = text, data
			}
			got := sha256.Sum256([]byte(data))
			if want, _, _ := strings.Cut(text, " "); hex.EncodeToString(got[:]) != want || len(data) != 5000000 {
				t.Errorf("%d bytes with sum %x, want %s", len(data), got, want)
			}
		})
	}
}

// TestRetries: a failed attempt is followed by another, and the last one counts.
func TestRetries(t *testing.T) {
	t.Parallel()
	r := hodei(t, "run", "--name", jobName(t), "--retries", "1", "--", "sh", "-c", "echo tried; exit 3")
	if r.code != 3 || r.stdout != "tried\ntried\n" || !strings.Contains(r.stderr, "next attempt") {
		t.Errorf("%+v", r)
	}
}

// TestRetriesAsEvents: each attempt that failed is told with what it has cost.
func TestRetriesAsEvents(t *testing.T) {
	t.Parallel()
	r := hodei(t, "run", "--name", jobName(t), "--retries", "1", "-o", "json", "--", "sh", "-c", "exit 3")
	ends := map[string]int{}
	for line := range strings.Lines(r.stdout) {
		var e struct {
			Type, Attempt string
			Usage         *job.Usage
			ExitCode      int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == "attempt" && (e.Attempt == "" || e.Usage == nil || e.Usage.CPU.Total == nil || e.ExitCode != 3) {
			t.Errorf("the first attempt: %s", line)
		}
		ends[e.Type]++
	}
	if r.code != 3 || ends["attempt"] != 1 || ends["exit"] != 1 {
		t.Errorf("%v, %+v", ends, r)
	}
}

// TestPodDeleted: somebody deletes the Pod of a running job. The command hears
// SIGTERM, and its last words arrive.
func TestPodDeleted(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	s := start(t, "run", "--name", name, "--grace", "5s", "--", "sh", "-c",
		"trap 'echo bye; exit 9' TERM; echo up; echo ready >&2; while :; do sleep 0.1; done")
	s.await(t, "ready")
	p := pod(t, name, func(p *corev1.Pod) bool { return true })
	if err := client.CoreV1().Pods(workers).Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := s.end(t); r.code != 9 || r.stdout != "up\nbye\n" {
		t.Errorf("%+v", r)
	}
}

// TestPodForceDeleted: no exit record means unknown, never success.
func TestPodForceDeleted(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	s := start(t, "run", "--name", name, "--grace", "1s", "--", "sleep", "300")
	s.await(t, "running")
	p := pod(t, name, func(p *corev1.Pod) bool { return true })
	background := metav1.DeletePropagationBackground
	if err := client.BatchV1().Jobs(workers).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	now := int64(0)
	_ = client.CoreV1().Pods(workers).Delete(t.Context(), p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if r := s.end(t); r.code == 0 {
		t.Errorf("success of a job that was torn away: %+v", r)
	}
}

// TestJobHoldsNothing: no credential in the job's container.
func TestJobHoldsNothing(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	r := hodei(t, "run", "-q", "--name", name, "--", "sh", "-c", `
		env | grep -i hodei_ | grep -v -E '^HODEI_(JOB|ATTEMPT)='
		ls /etc/hodei /var/spool/hodei /var/run/secrets 2>/dev/null
		rm -f /run/hodei/hodei-worker 2>/dev/null && echo removed
		touch /run/hodei/x 2>/dev/null && echo wrote
		ls /run/hodei
		cat /proc/1/environ 2>/dev/null | tr '\0' '\n' | grep -i -E 'cert|key|token'
		grep -q 'CapBnd:.0000000000000000' /proc/self/status || echo capabilities
		id -u`)
	if want := "hodei-worker\n" + ownUID(t, name) + "\n"; r.stdout != want || r.code != 0 {
		t.Errorf("stdout %q, want %q; %+v", r.stdout, want, r)
	}
}

// TestInterrupt: Ctrl-C at every phase of the start leaves nothing behind; once
// the command runs it is asked to stop.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	for _, phase := range []string{"submitted", "scheduled", "image"} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			name := jobName(t)
			s := start(t, "run", "--name", name, "--grace", "1s", "--", "sleep", "300")
			s.await(t, phase)
			s.interrupt(t)
			r := s.end(t)
			if r.code != 130 {
				t.Errorf("%+v", r)
			}
			if !strings.Contains(r.stderr, "running") { // else it had just started
				nothingLeft(t, name)
			}
		})
	}
	t.Run("waiting for a node", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		s := start(t, "run", "--name", name, "--cpu", "1000", "--", "true")
		s.await(t, "no node takes it")
		s.interrupt(t)
		if r := s.end(t); r.code != 130 {
			t.Errorf("%+v", r)
		}
		nothingLeft(t, name)
	})
	t.Run("pulling", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		s := start(t, "run", "--name", name, "--image", unpullable, "--", "true")
		s.await(t, "pulling")
		s.interrupt(t)
		if r := s.end(t); r.code != 130 {
			t.Errorf("%+v", r)
		}
		nothingLeft(t, name)
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		s := start(t, "run", "--name", jobName(t), "--", "sh", "-c",
			"trap 'echo stopped; exit 4' TERM; echo ready >&2; while :; do sleep 0.1; done")
		s.await(t, "ready")
		s.interrupt(t)
		if r := s.end(t); r.code != 130 || r.stdout != "stopped\n" || !strings.Contains(r.stderr, "Cancelled") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("twice", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		s := start(t, "run", "--name", name, "--grace", "60s", "--linger", "1s", "--", "sh", "-c",
			"trap '' TERM; echo ready >&2; while :; do sleep 0.1; done")
		s.await(t, "ready")
		s.interrupt(t)
		s.await(t, "stopping")
		s.signal(t, syscall.SIGTERM)
		if r := s.end(t); r.code != 130 || !strings.Contains(r.stderr, "hint: hodei attach "+name) {
			t.Errorf("%+v", r)
		}
		pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	})
}

// TestClosedStdout: hodei run | head.
func TestClosedStdout(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	cmd := command(t.Context(), "run", "-q", "--name", name, "--grace", "1s", "--", "sh", "-c", "while :; do echo line; done")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = writer, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if _, err := reader.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	reader.Close()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(stderr.String(), "error: write output") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
	pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed }) // the command was told
}

// TestStuckStdout: a reader that holds the pipe and does not read. The command
// hears the first Ctrl-C all the same, and the second one ends hodei.
func TestStuckStdout(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	s := startWith(t, writer, "run", "--name", name, "--grace", "1s", "--linger", "1s", "--", "sh", "-c",
		"echo ready >&2; while :; do echo line; done")
	s.await(t, "ready")
	s.interrupt(t)
	s.await(t, "stopping")
	pod(t, name, func(p *corev1.Pod) bool {
		for _, c := range p.Status.ContainerStatuses {
			if c.Name == "job" && c.State.Terminated != nil {
				return true
			}
		}
		return false
	})
	s.interrupt(t)
	if r := s.end(t); r.code != 130 {
		t.Errorf("%+v", r)
	}
}

// TestHangUp: a terminal that is closed during the start leaves nothing behind,
// and a running job alone.
func TestHangUp(t *testing.T) {
	t.Parallel()
	hangUp := func(t *testing.T, s *started) result {
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		return s.end(t)
	}
	t.Run("pulling", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		s := start(t, "run", "--name", name, "--image", unpullable, "--", "true")
		s.await(t, "pulling")
		hangUp(t, s)
		nothingLeft(t, name)
	})
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		s := start(t, "run", "--name", name, "--linger", "1s", "--", "sh", "-c", "echo ready >&2; sleep 5; exit 3")
		s.await(t, "ready")
		if r := hangUp(t, s); r.code != 129 {
			t.Errorf("%+v", r)
		}
		p := pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		for _, c := range p.Status.ContainerStatuses {
			if c.Name == "job" && c.State.Terminated.ExitCode != 3 {
				t.Errorf("the command did not go on to its end: %+v", c.State.Terminated)
			}
		}
	})
}
