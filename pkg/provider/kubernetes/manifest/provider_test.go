package manifest

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// renderWith renders a spec with a provider's settings, as YAML.
func renderWith(t *testing.T, spec *job.Spec, settings string) *batchv1.Job {
	t.Helper()
	_, c, err := provider.ParseRequest([]byte("type: kubernetes\n" + settings))
	if err != nil {
		t.Fatal(err)
	}
	s := testSettings()
	s.Config = c.WithDefaults()
	j, err := Job(spec, s)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// The Pod's runAsUser would be the agent's too where that has none: it is the
// command's alone, and --user is heard before it.
func TestProviderSecurityContext(t *testing.T) {
	number := func(n *int64) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	own := fmt.Sprint(ownUID(testSettings().Namespace, "hello"))
	for _, test := range []struct{ user, settings, job, agent string }{
		{"", "security_context: {runAsUser: 1000}", "1000:-", "1000:65532"},
		{"", "security_context: {runAsUser: 1000, runAsGroup: 2000}", "1000:2000", "1000:65532"},
		{"", "security_context: {runAsGroup: 2000}", own + ":2000", own + ":65532"},
		{"", "security_context: {fsGroup: 2000}", own + ":65532", own + ":65532"},
		{"5", "security_context: {runAsUser: 1000, runAsGroup: 2000}", "5:-", "5:65532"},
		{"5:6", "security_context: {runAsUser: 1000, runAsGroup: 2000}", "5:6", "5:65532"},
		{"0", "user: 65532", "0:-", "65532:65532"},
		{"0", "user: 0", "0:-", own + ":65532"},
		{"", "host_users: true", own + ":65532", own + ":65532"},
		{"", "host_users: false", "65532:65532", "65532:65532"},
		{"0", "host_users: false", "0:-", "65532:65532"},
		{"7", "host_users: false", "7:-", "7:65532"},
		{job.UserImage, "security_context: {runAsUser: 1000, runAsGroup: 2000}", "-:-", "-:-"},
	} {
		t.Run(test.user+" "+test.settings, func(t *testing.T) {
			spec := minimal()
			spec.User = test.user
			j := renderWith(t, spec, test.settings)
			pod := j.Spec.Template.Spec.SecurityContext
			if pod.RunAsUser != nil || pod.RunAsGroup != nil {
				t.Errorf("the Pod has user %s:%s", number(pod.RunAsUser), number(pod.RunAsGroup))
			}
			if pod.SeccompProfile == nil || pod.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
				t.Errorf("seccomp profile %v", pod.SeccompProfile)
			}
			agent, command := containers(j)
			for _, c := range []struct {
				container corev1.Container
				want      string
			}{{agent, test.agent}, {command, test.job}} {
				sc := c.container.SecurityContext
				root := strings.HasPrefix(c.want, "0:")
				if got := number(sc.RunAsUser) + ":" + number(sc.RunAsGroup); got != c.want || (sc.RunAsNonRoot == nil) != root {
					t.Errorf("%s: user %s, want %s; runAsNonRoot %v", c.container.Name, got, c.want, sc.RunAsNonRoot)
				}
			}
		})
	}
	s := testSettings()
	s.Config.HostUsers = new(false)
	for _, user := range []string{"65536", "0:65536"} {
		spec := minimal()
		spec.User = user
		var failure *job.Failure
		if _, err := Job(spec, s); !errors.As(err, &failure) || failure.Cause != job.ConfigError ||
			failure.Hint != "run it again with a lower one: --user 65532" ||
			!strings.HasPrefix(failure.Message, "user: "+user+": ") {
			t.Errorf("an id outside of the user namespace: %v", err)
		}
	}
	// Root by the provider's word is root by name, as with --user 0.
	_, command := containers(renderWith(t, minimal(), "security_context: {runAsUser: 0}"))
	if sc := command.SecurityContext; sc.RunAsNonRoot != nil || len(sc.Capabilities.Drop) != 1 {
		t.Errorf("root has %+v", sc)
	}
	// Another profile is the provider's to choose.
	j := renderWith(t, minimal(), "security_context: {seccompProfile: {type: Unconfined}}")
	if got := j.Spec.Template.Spec.SecurityContext.SeccompProfile.Type; got != corev1.SeccompProfileTypeUnconfined {
		t.Errorf("seccomp profile %s", got)
	}
}

// Whatever hodei puts on a Job and its Pod, a provider may not.
func TestReserved(t *testing.T) {
	j := renderWith(t, minimal(), "queue: team-a")
	j.Annotations[AnnotationRun] = "x"
	for _, meta := range []struct{ labels, annotations map[string]string }{
		{j.Labels, j.Annotations}, {j.Spec.Template.Labels, j.Spec.Template.Annotations},
	} {
		for key := range meta.labels {
			if err := (provider.Config{Type: provider.Kubernetes, Labels: map[string]string{key: "x"}}).Validate(); err == nil {
				t.Errorf("label %s was taken", key)
			}
		}
		for key := range meta.annotations {
			if err := (provider.Config{Type: provider.Kubernetes, Annotations: map[string]string{key: "x"}}).Validate(); err == nil {
				t.Errorf("annotation %s was taken", key)
			}
		}
	}
	// Even one that came past the check changes nothing of ours.
	s := testSettings()
	s.Config.Labels = map[string]string{LabelJob: "another"}
	j, err := Job(minimal(), s)
	if err != nil || j.Labels[LabelJob] != "hello" || s.Config.Labels[LabelJob] != "another" {
		t.Errorf("%v, labels %v", err, j.Labels)
	}
}

func TestQueue(t *testing.T) {
	j := renderWith(t, minimal(), "queue: team-a\nlabels: {example.com/team: a}")
	secret := Secret(j, minimal(), &certs.JobCerts{})
	if j.Labels[LabelQueue] != "team-a" || j.Spec.Template.Labels[LabelQueue] != "" || secret.Labels[LabelQueue] != "" {
		t.Errorf("labels %v, of the Pod %v, of the Secret %v", j.Labels, j.Spec.Template.Labels, secret.Labels)
	}
	if j.Labels["example.com/team"] != "a" || secret.Labels[LabelJob] != "hello" {
		t.Errorf("labels %v, of the Secret %v", j.Labels, secret.Labels)
	}
}

func TestGPU(t *testing.T) {
	for _, test := range []struct {
		settings, resource string
	}{{"", "nvidia.com/gpu"}, {"gpu_resource: amd.com/gpu", "amd.com/gpu"}} {
		spec := minimal()
		spec.GPU = 2
		agent, command := containers(renderWith(t, spec, test.settings))
		for _, l := range []corev1.ResourceList{command.Resources.Requests, command.Resources.Limits} {
			if q := l[corev1.ResourceName(test.resource)]; q.Value() != 2 {
				t.Errorf("%s: %s", test.resource, &q)
			}
		}
		for _, l := range []corev1.ResourceList{agent.Resources.Requests, agent.Resources.Limits} {
			if _, ok := l[corev1.ResourceName(test.resource)]; ok {
				t.Errorf("the agent has %s", test.resource)
			}
		}
	}
}

// A volume of the provider's is the job's; the agent and the launcher have their own.
func TestProviderVolumes(t *testing.T) {
	j := renderWith(t, full(),
		"volumes: [{name: data, mountPath: /data, subPath: a, readOnly: true, persistentVolumeClaim: {claimName: data}}]")
	agent, command := containers(j)
	want := corev1.VolumeMount{Name: "data", MountPath: "/data", SubPath: "a", ReadOnly: true}
	if len(command.VolumeMounts) != 3 || !reflect.DeepEqual(command.VolumeMounts[2], want) {
		t.Errorf("the job mounts %+v", command.VolumeMounts)
	}
	if len(agent.VolumeMounts) != 4 {
		t.Errorf("the agent mounts %+v", agent.VolumeMounts)
	}
	if v := j.Spec.Template.Spec.Volumes; len(v) != 6 || v[5].PersistentVolumeClaim == nil {
		t.Errorf("volumes %+v", v)
	}
}
