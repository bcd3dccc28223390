package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// enforcing are the labels of a namespace that keeps its Pods to a Pod Security level; ""
// is one that says nothing.
func enforcing(level string) map[string]string {
	if level == "" {
		return nil
	}
	return map[string]string{"pod-security.kubernetes.io/enforce": level}
}

// TestEBPF: which agents get the capabilities that eBPF takes, by what the provider says
// and the namespace allows, what is said of it, and that a job never has any.
func TestEBPF(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		level, ebpf string
		given       bool
		note, fails string // part of what run says, on its first line and as its error
		check       string // how doctor's check of it begins
	}{
		{"", "off", false, "", "", "skipped: "},
		{"", "auto", true, "", "", "ok: namespace "},
		{"", "require", true, "", "", "ok: namespace "},
		{"privileged", "off", false, "", "", "skipped: "},
		{"privileged", "auto", true, "", "", "ok: namespace "},
		{"privileged", "require", true, "", "", "ok: namespace "},
		{"baseline", "auto", false, `enforces Pod Security "baseline", which forbids`, "", "warning: jobs run without it"},
		{"baseline", "require", false, "", `violates PodSecurity "baseline:latest"`, "error: namespace "},
		{"restricted", "auto", false, `enforces Pod Security "restricted", which forbids`, "", "warning: jobs run without it"},
		{"restricted", "require", false, "", `violates PodSecurity "restricted:latest"`, "error: namespace "},
	} {
		t.Run(strings.TrimPrefix(test.level+" "+test.ebpf, " "), func(t *testing.T) {
			t.Parallel()
			tr := newTrial(t, enforcing(test.level), "--ebpf", test.ebpf)
			tr.grant(t, "")
			name := "e2e-" + rand.String(8)
			r := hodei(t, "run", "--as", tr.user, "--provider", tr.provider, "--name", name, "--", "grep", "^Cap", "/proc/self/status")
			first, _, _ := strings.Cut(r.stderr, "\n")
			if noted := strings.HasPrefix(first, "without eBPF: "); noted != (test.note != "") || !strings.Contains(first, test.note) {
				t.Errorf("first it says %q, want %q", first, test.note)
			}
			switch {
			case test.fails != "":
				checkFailure(t, r, test.fails)
				if !strings.Contains(r.stderr, "hint: let its jobs run without eBPF: hodei provider set "+tr.provider+" --ebpf off\n") {
					t.Errorf("no hint in:\n%s", r.stderr)
				}
				tr.empty(t)
			case r.code != 0 || strings.Count(r.stdout, "0000000000000000\n") != 5 || strings.Count(r.stdout, "\n") != 5:
				t.Errorf("the job's capabilities: %+v", r)
			default:
				tr.checkAgent(t, name, test.given)
			}
			wantCode := 0
			if strings.HasPrefix(test.check, "error") {
				wantCode = 1
			}
			got := examined(t, wantCode, command(t.Context(), "doctor", "--as", tr.user, "--provider", tr.provider, "-o", "json"))
			if !strings.HasPrefix(got["ebpf"], test.check) {
				t.Errorf("doctor says %q, want %q", got["ebpf"], test.check)
			}
		})
	}
}

// checkAgent looks at the Pod of a job: whose the capabilities are.
func (tr trial) checkAgent(t *testing.T, name string, given bool) {
	t.Helper()
	pods, err := client.CoreV1().Pods(tr.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
	if err != nil || len(pods.Items) != 1 {
		t.Fatalf("%d Pods, %v", len(pods.Items), err)
	}
	for _, c := range pods.Items[0].Spec.Containers {
		var want []corev1.Capability
		user := *pods.Items[0].Spec.Containers[1].SecurityContext.RunAsUser
		if c.Name == "agent" && given {
			want, user = []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN"}, 0
		}
		if sc := c.SecurityContext; !slices.Equal(sc.Capabilities.Add, want) ||
			!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || *sc.RunAsUser != user || *sc.AllowPrivilegeEscalation {
			t.Errorf("container %s: %+v", c.Name, sc)
		}
	}
}

// TestEBPFUnseen: without the right to read the label auto does without, and says so.
func TestEBPFUnseen(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, enforcing("privileged"), "--ebpf", "auto")
	tr.grant(t, "namespaces")
	name := "e2e-" + rand.String(8)
	r := hodei(t, "run", "--as", tr.user, "--provider", tr.provider, "--name", name, "--", "echo", "hi")
	if r.code != 0 || r.stdout != "hi\n" ||
		!strings.HasPrefix(r.stderr, "without eBPF: the Pod Security label of namespace "+tr.namespace+" can't be read: forbidden: user ") {
		t.Errorf("%+v", r)
	}
	tr.checkAgent(t, name, false)
}

// allZero matches the capability sets of a process that has none, but for the bound.
var allZero = regexp.MustCompile(`(?s)CapInh:\s+0+\n.*CapPrm:\s+0+\n.*CapEff:\s+0+\n.*CapAmb:\s+0+\n`)

// TestEBPFDropped: while the command runs its agent has no capability left, whoever the
// command runs as, and root of the one container is nobody in the other.
func TestEBPFDropped(t *testing.T) {
	t.Parallel()
	needsImages(t) // with a cat
	for _, user := range []string{"65532", "0"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			tr := newTrial(t, enforcing("privileged"), "--ebpf", "require")
			name := "e2e-" + rand.String(8)
			s := start(t, "run", "--provider", tr.provider, "--name", name, "--user", user, "--grace=1s", "--", "sh", "-c",
				`grep CapEff /proc/self/status; ls /var/spool/hodei /etc/hodei 2>&1 | grep -c 'No such'; touch /run/hodei/x 2>&1 | grep `+
					`-c 'Read-only'; exec sleep 300`)
			s.await(t, "running")
			var pod corev1.Pod
			until(t, "a Pod", func(ctx context.Context) (bool, error) {
				pods, err := client.CoreV1().Pods(tr.namespace).List(ctx, metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
				if err == nil && len(pods.Items) == 1 {
					pod = pods.Items[0]
				}
				return pod.Name != "", err
			})
			if status := kubectl(t, "", "exec", "-n", tr.namespace, pod.Name, "-c", "agent", "--", "cat",
				"/proc/1/status"); !allZero.MatchString(status) || !strings.Contains(status, "NoNewPrivs:\t1") ||
				!strings.Contains(status, "Uid:\t0\t0\t0\t0") {
				t.Errorf("the agent's status while the command runs:\n%s", status)
			}
			s.interrupt(t)
			r := s.end(t)
			var effective uint64
			var absent, readOnly int
			if _, err := fmt.Sscanf(r.stdout, "CapEff: %x\n%d\n%d\n", &effective, &absent, &readOnly); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			const netAdmin, perfmon, bpf = 1 << 12, 1 << 38, 1 << 39 // linux/capability.h
			if effective&(netAdmin|perfmon|bpf) != 0 || absent != 2 || readOnly != 1 {
				t.Errorf("the job gets what is the agent's: capabilities %x; %d of its directories absent, the shared one read-only: %d",
					effective, absent, readOnly)
			}
		})
	}
}

// TestEBPFPolicy: with docs/ebpf-policy.yaml a namespace that Pod Security keeps nothing
// out of takes jobs that measure with eBPF, and what would take over its node it does not.
func TestEBPFPolicy(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, enforcing("privileged"), "--ebpf", "require")
	text, err := os.ReadFile("../../docs/ebpf-policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	policy := regexp.MustCompile(`registry\.example\.com/[^']+`).ReplaceAllString(string(text), "hodei-jobs-worker:latest")
	policy = strings.ReplaceAll(policy, "hodei-ebpf", tr.namespace)
	t.Cleanup(func() {
		c := client.AdmissionregistrationV1()
		_ = c.ValidatingAdmissionPolicyBindings().Delete(context.Background(), tr.namespace, metav1.DeleteOptions{})
		if err := c.ValidatingAdmissionPolicies().Delete(context.Background(), tr.namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, policy, "apply", "-f", "-")

	// A Pod of a job as hodei makes it, and what may not be changed in it.
	var job batchv1.Job
	r := succeed(t, "run", "--provider", tr.provider, "--dry-run=client", "-o", "json", "--", "true")
	if err := json.Unmarshal([]byte(r.stdout), &job); err != nil {
		t.Fatal(err)
	}
	made := func(change func(*corev1.PodSpec)) error {
		spec := job.Spec.Template.Spec.DeepCopy()
		change(spec)
		_, err := client.CoreV1().Pods(tr.namespace).Create(t.Context(),
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}, Spec: *spec},
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	yes, no, unmasked := true, false, corev1.UnmaskedProcMount
	until(t, "a policy that refuses", func(context.Context) (bool, error) {
		err := made(func(s *corev1.PodSpec) { s.HostNetwork = true })
		return err != nil && strings.Contains(err.Error(), "no other namespaces than the Pod's own"), nil
	})
	exec := func(command ...string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: command}}
	}
	for _, test := range []struct {
		name   string
		change func(*corev1.PodSpec)
		want   string
	}{
		{"the node's processes", func(s *corev1.PodSpec) { s.HostPID = true }, "no other namespaces"},
		{"sysctls", func(s *corev1.PodSpec) {
			s.SecurityContext.Sysctls = []corev1.Sysctl{{Name: "kernel.msgmax", Value: "1"}}
		}, "no other namespaces"},
		{"no seccomp", func(s *corev1.PodSpec) { s.SecurityContext.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined },
			"no other namespaces"},
		{"files of the node", func(s *corev1.PodSpec) {
			s.Volumes = append(s.Volumes,
				corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}})
		}, "no files of the node"},
		{"one more container before", func(s *corev1.PodSpec) { s.InitContainers = []corev1.Container{{Name: "first", Image: busybox}} },
			"no containers but"},
		{"a privileged job", func(s *corev1.PodSpec) {
			s.Containers[1].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
		}, "no container gets more"},
		{"a job without a word", func(s *corev1.PodSpec) { s.Containers[1].SecurityContext = nil }, "no container gets more"},
		{"the whole of /proc", func(s *corev1.PodSpec) {
			s.HostUsers, s.Containers[1].SecurityContext.ProcMount = &no, &unmasked
		}, "no container gets more"},
		{"a port of the node", func(s *corev1.PodSpec) {
			s.Containers[1].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		}, "no container gets more"},
		{"a job with BPF", func(s *corev1.PodSpec) { s.Containers[1].SecurityContext.Capabilities.Add = []corev1.Capability{"BPF"} },
			"no capabilities, but for the agent"},
		{"an agent with more", func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext.Capabilities.Add = append(s.Containers[0].SecurityContext.Capabilities.Add, "SYS_PTRACE")
		}, "but those of eBPF"},
		{"an agent of another image", func(s *corev1.PodSpec) { s.Containers[0].Image = busybox }, "the agent is the worker's program"},
		{"an agent that is a shell", func(s *corev1.PodSpec) { s.Containers[0].Command = []string{"sh"} },
			"the agent is the worker's program"},
		{"an agent with a mount over its program", func(s *corev1.PodSpec) { s.Containers[0].VolumeMounts[0].MountPath = "/usr/local/bin" },
			"the agent is the worker's program"},
		{"an agent with a hook of another's", func(s *corev1.PodSpec) { s.Containers[0].Lifecycle.PostStart = exec("sh") },
			"the agent is the worker's program"},
		{"an agent with one more hook", func(s *corev1.PodSpec) { s.Containers[0].Lifecycle.PreStop = exec("sh") },
			"the agent is the worker's program"},
		{"an agent with a probe", func(s *corev1.PodSpec) {
			s.Containers[0].LivenessProbe = &corev1.Probe{
				ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"sh"}}},
			}
		}, "the agent is the worker's program"},
		{"an agent that is told things", func(s *corev1.PodSpec) {
			s.Containers[0].Env = append(s.Containers[0].Env, corev1.EnvVar{Name: "SSL_CERT_DIR", Value: "/"})
		}, "the agent is the worker's program"},
	} {
		if err := made(test.change); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if err := made(func(*corev1.PodSpec) {}); err != nil {
		t.Errorf("as hodei makes it: %v", err)
	}
	name := "e2e-" + rand.String(8)
	if r := hodei(t, "run", "-q", "--provider", tr.provider, "--name", name, "--", "echo", "hi"); r != (result{"hi\n", "", 0}) {
		t.Errorf("%+v", r)
	}
	tr.checkAgent(t, name, true)
}
