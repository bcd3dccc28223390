package e2e

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEvicted: a command that takes the SIGTERM of its Pod's eviction and exits by itself
// keeps its code, and it is said who ended the Pod.
func TestEvicted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, trap string
		flags      []string
		code       int
		said       string
	}{
		{"exits 1", "trap 'echo bye; exit 1' TERM", nil, 1, "error: Evicted after "},
		{"exits 0", "trap 'echo bye; exit 0' TERM", nil, 0, " (Evicted): "},
		{"as events", "trap 'echo bye; exit 1' TERM", []string{"-o", "json"}, 1, "hint: let it be tried again: --retries 1"},
		{"is killed", "trap - TERM", nil, 125, "error: Evicted after "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			name := jobName(t)
			// Its loop waits for a child of the shell's, so that a signal is answered at once.
			s := start(t, append(append([]string{"run", "--name", name}, test.flags...), "--", "sh", "-c",
				test.trap+"; sleep 300 & wait")...)
			p := pod(t, name, func(p *corev1.Pod) bool {
				for _, c := range p.Status.ContainerStatuses {
					if c.Name == "job" && c.State.Running != nil {
						return true
					}
				}
				return false
			})
			eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: workers}}
			if err := client.CoreV1().Pods(workers).EvictV1(t.Context(), eviction); err != nil {
				t.Fatal(err)
			}
			r := s.end(t)
			if r.code != test.code || !strings.Contains(r.stderr, test.said) {
				t.Errorf("exit code %d, want %d, and %q: %+v", r.code, test.code, test.said, r)
			}
			if test.flags == nil {
				return
			}
			lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
			var exit struct {
				Type, Cause    string
				Code, ExitCode int
				PodEnded       bool
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &exit); err != nil {
				t.Fatal(err)
			}
			if exit.Type != "exit" || exit.Cause != "Evicted" || exit.Code != 1 || exit.ExitCode != 1 || !exit.PodEnded {
				t.Errorf("event %s", lines[len(lines)-1])
			}
		})
	}
}

// TestSignalsReachTheCommand: what a shell would send to a local command, from run and from
// attach.
func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	s := start(t, "run", "--name", name, "--", "sh", "-c",
		"trap 'echo usr1' USR1; trap 'echo quit; exit 5' QUIT; echo ready >&2; while :; do sleep 0.1; done")
	s.await(t, "ready")
	s.signal(t, syscall.SIGUSR1)
	attached := start(t, "attach", name)
	attached.await(t, "ready")
	attached.signal(t, syscall.SIGQUIT)
	for _, r := range []result{s.end(t), attached.end(t)} {
		if r.code != 5 || !strings.HasPrefix(r.stdout, "usr1\n") || !strings.HasSuffix(r.stdout, "quit\n") ||
			strings.Contains(r.stderr, "goroutine") {
			t.Errorf("%+v", r)
		}
	}
}

// TestTerminatedWithoutTunnel: who sends SIGTERM sends no second, and a run that can't stop
// its job leaves it, with the way back.
func TestTerminatedWithoutTunnel(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	s := start(t, "run", "--name", name, "--as", tunnelless(t), "--", "sh", "-c", "sleep 300")
	s.await(t, "running")
	s.signal(t, syscall.SIGTERM)
	if r := s.end(t); r.code != 125 || !strings.Contains(r.stderr, "can't be asked to stop") ||
		!strings.Contains(r.stderr, "hint: hodei attach "+name) {
		t.Errorf("%+v", r)
	}
}
