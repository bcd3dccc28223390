package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The four levels of the user's guide.

// TestInfrastructure: level 1, what hodei install makes is there.
func TestInfrastructure(t *testing.T) {
	ctx := t.Context()
	for _, namespace := range []string{"hodei-system", workers} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	}
	account, err := client.CoreV1().ServiceAccounts(workers).Get(ctx, "hodei-jobs-worker", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
		t.Error("service account hodei-jobs-worker mounts its token")
	}
	if _, err := client.RbacV1().Roles(workers).Get(ctx, "hodei-jobs-worker-role", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := client.RbacV1().RoleBindings(workers).Get(ctx, "hodei-jobs-worker-binding", metav1.GetOptions{}); err != nil {
		t.Error(err)
	}
	policies, err := client.NetworkingV1().NetworkPolicies(workers).List(ctx, metav1.ListOptions{})
	if err != nil || len(policies.Items) == 0 {
		t.Errorf("no network policy in %s (%v)", workers, err)
	}
}

// TestWorkerRegistration: level 2, the agent of a worker attaches, and the
// phases come in order.
func TestWorkerRegistration(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	r := hodei(t, "run", "--name", name, "-o", "json", "--", "true")
	if r.code != 0 || r.stderr != "" {
		t.Fatalf("exit code %d, stderr %q", r.code, r.stderr)
	}
	var phases []string
	for line := range strings.Lines(r.stdout) {
		var e struct {
			Type, Phase, Detail, Cause string
			ExitCode                   *int
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch e.Type {
		case "phase":
			phases = append(phases, e.Phase)
			if e.Phase == "agent up" && !strings.HasPrefix(e.Detail, name+"-") {
				t.Errorf("agent of %q attached, want one of job %q", e.Detail, name)
			}
		case "exit":
			if e.Cause != "Completed" || e.ExitCode == nil || *e.ExitCode != 0 {
				t.Errorf("last event %s", line)
			}
		}
	}
	for _, phase := range []string{"submitted", "scheduled", "agent up", "running"} {
		i := slices.Index(phases, phase)
		if i < 0 {
			t.Fatalf("phases %q: %q is missing or out of order", phases, phase)
		}
		phases = phases[i+1:]
	}
}

// TestLifeCycle: level 3, create, Running, logs, destroy.
func TestLifeCycle(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	r := hodei(t, "run", "--detach", "--name", name, "--grace", "1s", "--linger", "5s", "--", "sh", "-c", "echo one line; exec sleep 300")
	if r.code != 0 || r.stdout != name+"\n" {
		t.Fatalf("%+v", r)
	}
	running := pod(t, name, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && len(p.Status.ContainerStatuses) == 2 &&
			p.Status.ContainerStatuses[0].State.Running != nil && p.Status.ContainerStatuses[1].State.Running != nil
	})
	checkPod(t, running)
	if text := logs(t, running, "agent"); !strings.Contains(text, "waiting for the launcher") {
		t.Errorf("the agent's log:\n%s", text)
	}
	list := hodei(t, "jobs", name, "--no-headers")
	if fields := strings.Fields(list.stdout); len(fields) < 2 || fields[0] != name || fields[1] != "Running" {
		t.Errorf("hodei jobs %s: %q", name, list.stdout)
	}
	background := metav1.DeletePropagationBackground
	if err := client.BatchV1().Jobs(workers).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, name)
}

// checkPod holds a Pod against design §4.
func checkPod(t *testing.T, p *corev1.Pod) {
	t.Helper()
	if p.Spec.AutomountServiceAccountToken == nil || *p.Spec.AutomountServiceAccountToken {
		t.Error("a service account token is mounted")
	}
	for _, c := range p.Spec.Containers {
		for _, m := range c.VolumeMounts {
			if c.Name == "job" && m.Name != "hodei-home" && (m.Name != "hodei-run" || !m.ReadOnly) {
				t.Errorf("the job's container mounts %s (read-only: %t)", m.Name, m.ReadOnly)
			}
		}
	}
	secret, err := client.CoreV1().Secrets(p.Namespace).Get(t.Context(), p.Labels["hodei.io/job"], metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(secret.OwnerReferences) != 1 || secret.OwnerReferences[0].Kind != "Job" {
		t.Errorf("the Secret's owners: %v", secret.OwnerReferences)
	}
}

// TestFullFlow: level 4, the transcript.
func TestFullFlow(t *testing.T) {
	t.Parallel()
	t.Run("output and exit code", func(t *testing.T) {
		t.Parallel()
		r := hodei(t, "run", "--name", jobName(t), "-q", "--follow", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
		if want := (result{"out\n", "err\n", 7}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	})
	t.Run("kubectl plugin", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "kubectl-hodei"), "run", "-q", "--name", name, "--", "uname", "-a")
		cmd.Env = command(t.Context()).Env
		if r := run(t, cmd); r.code != 0 || !strings.HasPrefix(r.stdout, "Linux "+name) {
			t.Errorf("%+v", r)
		}
	})
	t.Run("kubectl hodei", func(t *testing.T) {
		t.Parallel()
		kubectl, err := exec.LookPath("kubectl")
		if err != nil {
			t.Skip("no kubectl on PATH")
		}
		cmd := exec.CommandContext(t.Context(), kubectl, "hodei", "run", "nothing", "before", "--", "true")
		cmd.Env = command(t.Context()).Env
		if r := run(t, cmd); r.code != 2 || !strings.Contains(r.stderr, "hint: kubectl hodei run -- nothing before -- true") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("scratch image", func(t *testing.T) {
		t.Parallel()
		needsImages(t)
		r := hodei(t, "run", "-q", "--name", jobName(t), "--image", scratch, "-e", "APP_EXIT=3", "--", "/app", "a $(b) $$ c")
		if want := (result{"hello from scratch\na $(b) $$ c\n", "and stderr\n", 3}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	})
	t.Run("certificates of one's own", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(t.TempDir(), "certs")
		if r := hodei(t, "certs", "generate", "--dir", dir); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		r := hodei(t, "run", "-q", "--name", jobName(t), "--certs", dir, "--", "echo", "hi")
		if want := (result{"hi\n", "", 0}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	})
	t.Run("in the Job", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		if r := hodei(t, "run", "-q", "--name", name, "--", "false"); r.code != 1 {
			t.Fatalf("%+v", r)
		}
		// kubectl get jobs tells the truth, and the agent's message has the record.
		p := pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		for _, s := range p.Status.ContainerStatuses {
			if s.Name == "agent" && (s.State.Terminated.ExitCode != 0 || !strings.Contains(s.State.Terminated.Message, `"Error"`)) {
				t.Errorf("the agent ended with %+v", s.State.Terminated)
			}
		}
		var last *batchv1.Job
		pod(t, name, func(*corev1.Pod) bool {
			var err error
			last, err = client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
			return err == nil && slices.ContainsFunc(last.Status.Conditions, func(c batchv1.JobCondition) bool {
				return c.Type == batchv1.JobFailed && c.Status == corev1.ConditionTrue
			})
		})
	})
}

// TestNoKubeconfig: the message of the guide when there is no cluster.
func TestNoKubeconfig(t *testing.T) {
	t.Parallel()
	cmd := command(t.Context(), "run", "--", "true")
	empty := t.TempDir()
	cmd.Env = append(cmd.Env, "HOME="+empty, "XDG_CONFIG_HOME="+empty, "KUBECONFIG="+filepath.Join(empty, "none"))
	r := run(t, cmd)
	if r.code != 125 || !strings.HasPrefix(r.stderr, "error: no kubeconfig") || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	dead := filepath.Join(empty, "dead")
	if err := os.WriteFile(dead,
		[]byte(`{apiVersion: v1, kind: Config, current-context: x, clusters: [{name: x, cluster: {server: "https://127.0.0.1:1"}}], `+
			`contexts: [{name: x, context: {cluster: x, user: x}}], users: [{name: x, user: {token: x}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd = command(t.Context(), "run", "--kubeconfig", dead, "--", "true")
	if r := run(t, cmd); r.code != 125 || !strings.Contains("\n"+r.stderr, "\nerror: Kubernetes cluster not available") {
		t.Errorf("%+v", r)
	}
}
