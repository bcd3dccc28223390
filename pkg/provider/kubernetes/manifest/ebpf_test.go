package manifest

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// The agent alone gets the capabilities, and is root for nothing else.
func TestEBPFManifest(t *testing.T) {
	for _, test := range []struct {
		name, settings, user string
		want                 string // what the agent is told
	}{
		{"nothing said", "", "", ""},
		{"off", "ebpf: off", "", ""},
		{"auto", "ebpf: auto", "", "auto"},
		{"require", "ebpf: require", "", "require"},
		{"root", "ebpf: require", "0", "require"},
		{"the cluster's user", "ebpf: require", job.UserImage, "require"},
		{"a user of the provider's", "ebpf: require\nsecurity_context: {runAsUser: 7, runAsNonRoot: true, fsGroup: 9}", "", "require"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := minimal()
			spec.User = test.user
			with := renderWith(t, spec, test.settings)
			without := renderWith(t, spec,
				strings.NewReplacer("ebpf: require", "ebpf: off", "ebpf: auto", "ebpf: off").Replace(test.settings))
			agent, command := containers(with)
			plain, want := containers(without)
			if !reflect.DeepEqual(command, want) {
				t.Errorf("the job's container differs:\n%+v\n%+v", command, want)
			}
			told := ""
			if i := slices.IndexFunc(agent.Env, func(e corev1.EnvVar) bool { return e.Name == contract.EnvEBPF }); i >= 0 {
				told = agent.Env[i].Value
				agent.Env = slices.Delete(agent.Env, i, i+1)
			}
			if told != test.want {
				t.Errorf("the agent is told %q, want %q", told, test.want)
			}
			expected := plain.SecurityContext.DeepCopy()
			if test.want != "" {
				root, group, no := int64(0), int64(65532), false
				expected.RunAsUser, expected.RunAsGroup, expected.RunAsNonRoot = &root, &group, &no
				expected.Capabilities.Add = []corev1.Capability{"BPF", "PERFMON", "NET_ADMIN"}
			}
			if !reflect.DeepEqual(agent.SecurityContext, expected) {
				t.Errorf("the agent's is %+v, want %+v", agent.SecurityContext, expected)
			}
			if sc := agent.SecurityContext; *sc.AllowPrivilegeEscalation || !*sc.ReadOnlyRootFilesystem ||
				!slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("the agent keeps %+v", sc)
			}
			// And nothing else of the Pod is another.
			agent.SecurityContext = plain.SecurityContext
			with.Spec.Template.Spec.Containers[0] = agent
			if !reflect.DeepEqual(with, without) {
				t.Error("more than the agent's container differs")
			}
		})
	}
}
