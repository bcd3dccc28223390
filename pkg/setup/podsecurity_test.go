package setup

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/deploy"
)

// Nobody's Pods are refused from now on without a word.
func TestPodSecurity(t *testing.T) {
	namespace := func(profile string, annotations map[string]string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetKind("Namespace")
		u.SetName("n")
		u.SetLabels(map[string]string{deploy.PodSecurityLabels[0]: profile})
		u.SetAnnotations(annotations)
		return u
	}
	warned := []string{"existing pods violate", "p: runs as root"}
	const refusal = `namespace n was there before hodei, and would begin to enforce Pod Security "restricted", which Pods in it do not ` +
		`meet: existing pods violate; p: runs as root`
	for _, test := range []struct {
		name      string
		live      *unstructured.Unstructured
		profile   string
		warned    []string
		err, note string // "": neither
	}{
		{"a new one", nil, "restricted", warned, "", ""},
		{"of hodei's", namespace("", map[string]string{deploy.AnnotationCreatedBy: "hodei"}), "restricted", warned, "", ""},
		{"that does already", namespace("restricted", nil), "restricted", warned, "", ""},
		{"whose Pods meet it", namespace("", nil), "restricted", nil,
			"", `namespace n was there before hodei: with it, everybody's Pods there have to meet Pod Security "restricted"`},
		{"whose Pods don't", namespace("", nil), "restricted", warned, refusal, ""},
		{"that lets all in", namespace("restricted", nil), "privileged", warned,
			"", "namespace n was there before hodei: with it, Pod Security keeps no Pod out of it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := &Plan{Steps: []Step{{Object: namespace(test.profile, nil), Live: test.live, warned: test.warned}}}
			changes := plan.PodSecurity()
			if test.err+test.note == "" {
				if len(changes) != 0 {
					t.Errorf("got %+v", changes)
				}
				return
			}
			if len(changes) != 1 {
				t.Fatalf("got %+v", changes)
			}
			switch err := changes[0].Err(); {
			case test.err != "" && (err == nil || err.Error() != test.err):
				t.Errorf("error %v, want %s", err, test.err)
			case test.err == "" && (err != nil || changes[0].Note() != test.note):
				t.Errorf("error %v, note %q, want %q", err, changes[0].Note(), test.note)
			}
		})
	}
}
