package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// TestDetachedEnds: a detached job is over with its command where the container's log has
// all of its output, and lingers where it has not, or was told to.
func TestDetachedEnds(t *testing.T) {
	t.Parallel()
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		runDetached(t, "--name", name, "--", "sh", "-c", "seq 1000; exit 3")
		ended(t, name)
		for verb, code := range map[string]int{"logs": 0, "attach": 3} {
			r := run(t, elsewhere(t.TempDir(), command(t.Context(), verb, name)))
			if d := differ(r.stdout, lines(1000)); d != "" || r.code != code {
				t.Errorf("%s: exit code %d, want %d; %s; stderr:\n%s", verb, r.code, code, d, r.stderr)
			}
		}
	})
	for kind, flags := range map[string][]string{
		"told to linger":              {"--linger=1h"},
		"without the container's log": {"--container-logs=false"},
		"a log that may be cut":       nil,
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name := jobName(t)
			script := "echo out; echo err >&2"
			if flags == nil { // 200,000 lines count 80 bytes more each
				script = "seq 200000 | tee /dev/null"
			}
			runDetached(t, append(append([]string{"--name", name}, flags...), "--", "sh", "-c", script)...)
			left := pod(t, name, func(p *corev1.Pod) bool {
				for _, s := range p.Status.ContainerStatuses {
					if s.Name == "job" && s.State.Terminated != nil {
						return true
					}
				}
				return false
			})
			if r := hodei(t, "jobs", name); !strings.Contains(r.stdout, "Lingering") || left.Status.Phase != corev1.PodRunning {
				t.Errorf("the Pod is %s; jobs: %+v", left.Status.Phase, r)
			}
			// Both streams are as they were: from its agent.
			r := run(t, elsewhere(t.TempDir(), command(t.Context(), "attach", "-q", name)))
			if flags != nil && (r.stdout != "out\n" || r.stderr != "err\n" || r.code != 0) {
				t.Errorf("attach: %+v", r)
			}
			if d := differ(r.stdout, lines(200000)); flags == nil && (d != "" || r.code != 0) {
				t.Errorf("attach: exit code %d, %s", r.code, d)
			}
			ended(t, name)
		})
	}
}

// missed is how many bytes a container's log was said to lack.
var missed = regexp.MustCompile(`: (\d+) of (\d+) bytes of \S+ are missing from its container's log`)

// TestFallbackIsCompared: without the tunnel an exit code of 0 means that all came. How
// much does is the kubelet's choice.
func TestFallbackIsCompared(t *testing.T) {
	t.Parallel()
	of, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	user := userWith(t, without(of.Rules, "create pods/portforward"))
	all := lines(250000)
	r := hodei(t, "run", "--as", user, "--name", jobName(t), "--", "seq", "250000")
	said := missed.FindStringSubmatch(r.stderr)
	switch lost := len(all) - len(r.stdout); {
	case r.code == 0 && said == nil && lost == 0:
	case r.code == 125 && said != nil && said[1] == strconv.Itoa(lost) && said[2] == strconv.Itoa(len(all)):
	default:
		t.Errorf("exit code %d with %d of %d bytes; stderr:\n%s", r.code, len(r.stdout), len(all), r.stderr)
	}
	if r := hodei(t, "run", "-q", "--as", user, "--name", jobName(t), "--", "sh", "-c", "printf one; exit 3"); r.code != 3 ||
		r.stdout != "one" {
		t.Errorf("no newline at the end: %+v", r)
	}
}

// TestGonePod: how a job ended whose Pod is gone, this machine says as it was seen.
func TestGonePod(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	s := start(t, "run", "--name", name, "--grace=1s", "--", "sh", "-c", "echo ready >&2; exec sleep 300")
	s.await(t, "ready")
	p := pod(t, name, func(*corev1.Pod) bool { return true })
	if err := client.PolicyV1().Evictions(workers).Evict(t.Context(),
		&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: workers}}); err != nil {
		t.Fatal(err)
	}
	if r := s.end(t); r.code != 125 || !strings.Contains(r.stderr, "Evicted") {
		t.Fatalf("run: %+v", r)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().Pods(workers).Get(ctx, p.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err), nil
	})
	if err != nil {
		t.Fatalf("Pod %s is still there: %v", p.Name, err)
	}
	for _, args := range [][]string{{"attach", name}, {"describe", name}, {"jobs", name}} {
		r := hodei(t, args...)
		text, want := r.stdout+r.stderr, "Evicted"
		if args[0] == "jobs" {
			want = "125"
		}
		if !strings.Contains(text, want) || strings.Contains(text, "without an exit record") {
			t.Errorf("%s: %s", args[0], fmt.Sprint(r))
		}
	}
}

// TestNothingPrinted: logs tells what has printed nothing from what was overlooked.
func TestNothingPrinted(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	runDetached(t, "--name", name, "--", "no-such-command")
	for _, args := range [][]string{{"logs", "-f", name}, {"logs", name}} {
		if r := hodei(t, args...); r.code != 0 || r.stdout != "" || !strings.Contains(r.stderr, "has printed nothing: exit 127") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
