package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
)

// TestProviderSettings: what a provider says, the Pod has, and the command finds.
func TestProviderSettings(t *testing.T) {
	t.Parallel()
	needsImages(t)
	provider := "settings-" + rand.String(5)
	class := &schedulingv1.PriorityClass{ObjectMeta: metav1.ObjectMeta{Name: provider}, Value: 7}
	if _, err := client.SchedulingV1().PriorityClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.SchedulingV1().PriorityClasses().Delete(context.Background(), provider, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	settings := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: provider}, Data: map[string]string{"colour": "green"}}
	if _, err := client.CoreV1().ConfigMaps(workers).Create(t.Context(), settings, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().ConfigMaps(workers).Delete(context.Background(), provider, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	add := command(t.Context(), "provider", "add", "-f", "-", "--label", "example.com/team=a", "--ttl", "10m")
	add.Stdin = strings.NewReader(fmt.Sprintf(`
type: kubernetes
name: %[1]s
config:
  namespace: %[2]s
  image_pull_policy: IfNotPresent
  cpu: 20m
  memory: 32Mi
  memory_limit: 64Mi
  ephemeral_storage: 1Gi
  user: 1000:2000
  priority_class: %[1]s
  annotations: {example.com/owner: "me, too"}
  node_selector: {kubernetes.io/os: linux}
  tolerations: [{key: example.com/batch, operator: Exists, effect: NoSchedule}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/os, operator: NotIn, values: [windows]}]}]
  topology_spread:
  - maxSkew: 5
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {app.kubernetes.io/name: hodei-worker}}
  security_context: {fsGroup: 3000, supplementalGroups: [4000]}
  volumes:
  - {name: scratch, mountPath: /scratch, emptyDir: {sizeLimit: 16Mi}}
  - {name: settings, mountPath: /etc/settings, readOnly: true, configMap: {name: %[1]s}}
`, provider, workers))
	if r := run(t, add); r.code != 0 {
		t.Fatalf("%+v", r)
	}

	name := jobName(t)
	r := hodei(t, "run", "--provider", provider, "--image", busybox, "--name", name, "--memory", "48Mi", "--",
		"sh", "-c", "cat /etc/settings/colour; echo; echo x >/scratch/x && id -u && id -g && id -G")
	if want := "green\n1000\n2000\n2000 3000 4000\n"; r.code != 0 || r.stdout != want {
		t.Errorf("exit %d, stdout %q, want %q\n%s", r.code, r.stdout, want, r.stderr)
	}
	p := pod(t, name, func(*corev1.Pod) bool { return true })
	if p.Labels["example.com/team"] != "a" || p.Annotations["example.com/owner"] != "me, too" {
		t.Errorf("labels %v, annotations %v", p.Labels, p.Annotations)
	}
	if p.Spec.NodeSelector["kubernetes.io/os"] != "linux" || p.Spec.PriorityClassName != provider || *p.Spec.Priority != 7 {
		t.Errorf("node selector %v, priority class %s", p.Spec.NodeSelector, p.Spec.PriorityClassName)
	}
	toleration := corev1.Toleration{Key: "example.com/batch", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}
	if !slices.Contains(p.Spec.Tolerations, toleration) || p.Spec.Affinity == nil || len(p.Spec.TopologySpreadConstraints) != 1 {
		t.Errorf("tolerations %v, affinity %v, %d constraints", p.Spec.Tolerations, p.Spec.Affinity, len(p.Spec.TopologySpreadConstraints))
	}
	agent, command := p.Spec.Containers[0], p.Spec.Containers[1]
	for got, want := range map[string]string{
		command.Resources.Requests.Cpu().String(): "20m", command.Resources.Limits.Memory().String(): "64Mi",
		command.Resources.Requests.Memory().String():         "48Mi",
		command.Resources.Limits.StorageEphemeral().String(): "1Gi",
	} {
		if got != want {
			t.Errorf("got %s, want %s of %+v", got, want, command.Resources)
		}
	}
	for _, m := range agent.VolumeMounts {
		if !strings.HasPrefix(m.Name, "hodei-") {
			t.Errorf("the agent mounts %s", m.Name)
		}
	}
	j, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if j.Labels["example.com/team"] != "a" || *j.Spec.TTLSecondsAfterFinished != 600 {
		t.Errorf("labels %v, ttl %d", j.Labels, *j.Spec.TTLSecondsAfterFinished)
	}

	// A change is for the jobs to come, and touches nothing in the cluster.
	if r := hodei(t, "provider", "set", provider, "--unset", "labels,volumes", "--user", "image"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	again, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil || !reflect.DeepEqual(again.Spec, j.Spec) || !reflect.DeepEqual(again.Labels, j.Labels) {
		t.Errorf("the job has changed, or %v", err)
	}
}

// TestImageUsers: whatever an image says of its user, a command runs in it, and where
// the user is left to it, it runs as that one, or what to type is said.
func TestImageUsers(t *testing.T) {
	t.Parallel()
	needsImages(t)
	const hint = "hint: run it again with a user id: --user 65532\n"
	for _, tt := range []struct{ image, uid, err string }{
		{image: busybox, err: "container has runAsNonRoot and image will run as root"},
		{image: "registry.local/user-nobody:1", err: "image has non-numeric user (nobody), cannot verify user is non-root"},
		{image: "registry.local/user-65534:1", uid: "65534\n"},
		{image: "registry.local/user-1234:1", uid: "1234\n"},
		{uid: "65532\n"}, // the worker's own
	} {
		t.Run("image "+tt.image, func(t *testing.T) {
			t.Parallel()
			name := jobName(t)
			r := hodei(t, "run", "--user", "image", "--image", tt.image, "--name", name, "--", "id", "-u")
			switch {
			case tt.err == "" && (r.code != 0 || r.stdout != tt.uid):
				t.Errorf("exit %d, stdout %q, want %q\n%s", r.code, r.stdout, tt.uid, r.stderr)
			case tt.err != "" && (r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, tt.err) ||
				!strings.HasSuffix(r.stderr, hint)):
				t.Errorf("exit %d, stdout %q, want %q\n%s", r.code, r.stdout, tt.err, r.stderr)
			}
			if tt.err != "" {
				nothingLeft(t, name)
			}
			for _, user := range []string{"", "4321"} {
				name := jobName(t)
				r := hodei(t, "run", "--user", user, "--image", tt.image, "--name", name, "--", "id", "-u")
				want := user + "\n"
				if user == "" {
					want = ownUID(t, name) + "\n"
				}
				if r.code != 0 || r.stdout != want {
					t.Errorf("--user %q: exit %d, stdout %q, want %q\n%s", user, r.code, r.stdout, want, r.stderr)
				}
			}
		})
	}
}

// TestHostUsers: each Pod has a user namespace of its own, or it is said that the node has
// none to give.
func TestHostUsers(t *testing.T) {
	t.Parallel()
	provider := "namespaced-" + rand.String(5)
	if r := hodei(t, "provider", "add", provider, "--namespace", workers, "--image-pull-policy", "IfNotPresent",
		"--host-users=false"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	r := hodei(t, "run", "--provider", provider, "--name", jobName(t), "--", "sh", "-c", "id -u; cat /proc/self/uid_map")
	if r.code != 0 {
		checkFailure(t, r, "the node can't give the Pod a user namespace: ")
		if !strings.HasSuffix(r.stderr, "\nhint: hodei provider set "+provider+" --host-users\n") {
			t.Errorf("no hint in:\n%s", r.stderr)
		}
		return
	}
	if f := strings.Fields(r.stdout); len(f) != 4 || f[0] != "65532" || f[1] != "0" || f[2] == "0" || f[3] != "65536" {
		t.Errorf("its user namespace: %q", r.stdout)
	}
}

// TestQueue: a job that a queue holds, as Kueue does, waits for longer than the start
// timeout, and runs when it is let go.
func TestQueue(t *testing.T) {
	t.Parallel()
	namespace := newNamespace(t)
	admit(t, namespace, "batch", "jobs", func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var j batchv1.Job
		if err := json.Unmarshal(r.Object.Raw, &j); err != nil || j.Labels["kueue.x-k8s.io/queue-name"] != "team-a" {
			return &admissionv1.AdmissionResponse{Allowed: err == nil}
		}
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, PatchType: &kind,
			Patch: []byte(`[{"op":"add","path":"/spec/suspend","value":true}]`)}
	})
	provider := "queue-" + rand.String(5)
	if r := hodei(t, "provider", "add", provider, "--namespace", namespace, "--service-account", "default", "--image-pull-policy",
		"IfNotPresent",
		"--queue", "team-a", "--start-timeout", "10s"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	s := start(t, "run", "--provider", provider, "--name", "queued", "--", "echo", "here")
	s.await(t, "queue team-a has not admitted the job yet")
	until(t, "the start timeout's end", func(ctx context.Context) (bool, error) {
		j, err := client.BatchV1().Jobs(namespace).Get(ctx, "queued", metav1.GetOptions{})
		return err == nil && time.Since(j.CreationTimestamp.Time) > 12*time.Second, err
	})
	if r := hodei(t, "jobs", "-n", namespace); !strings.Contains(r.stdout, "Suspended") {
		t.Errorf("%+v", r)
	}
	suspend := func(name string, suspended bool) {
		t.Helper()
		if _, err := client.BatchV1().Jobs(namespace).Patch(t.Context(), name, types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"suspend":%t}}`, suspended), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	suspend("queued", false)
	if r := s.end(t); r.code != 0 || r.stdout != "here\n" {
		t.Errorf("%+v", r)
	}

	// Taken back under way it is, and run again.
	s = start(t, "run", "--provider", provider, "--name", "taken", "--", "sh", "-c", "echo here; sleep 10; echo there")
	s.await(t, "queue team-a has not admitted the job yet")
	suspend("taken", false)
	s.await(t, "running:")
	suspend("taken", true)
	if r := s.end(t); r.code != 125 || !strings.Contains(r.stderr, "Preempted") ||
		!strings.Contains(r.stderr, "the job was suspended under way") ||
		!strings.Contains(r.stderr, "attach --provider "+provider+" taken") {
		t.Errorf("%+v", r)
	}
	suspend("taken", false)
	if r := hodei(t, "attach", "taken", "-n", namespace); r.code != 0 || !strings.HasSuffix(r.stdout, "here\nthere\n") {
		t.Errorf("%+v", r)
	}
}
