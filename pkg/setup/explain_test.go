package setup

import (
	"errors"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

func TestDescribeConflict(t *testing.T) {
	object := &unstructured.Unstructured{}
	object.SetKind("NetworkPolicy")
	object.SetName("n")
	object.SetNamespace("a")
	err := apierrors.NewApplyConflict([]metav1.StatusCause{
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "kubectl-edit" using networking.k8s.io/v1`,
			Field: ".spec.egress"},
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "flux"`, Field: ".metadata.labels.x"},
	}, "Apply failed")
	if got, want := describeConflict(problem{object, err}),
		`networkpolicy n in namespace a: .spec.egress by "kubectl-edit" using networking.k8s.io/v1 and .metadata.labels.x `+
			`by "flux"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := describeConflict(problem{object, errors.New("some conflict")}),
		"networkpolicy n in namespace a: some conflict"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// All conflicts are told at once. What to do about labels of Pod Security is told first.
func TestExplainConflicts(t *testing.T) {
	conflict := func(name, field string) problem {
		object := &unstructured.Unstructured{Object: map[string]any{"kind": "Namespace", "metadata": map[string]any{"name": name}}}
		cause := metav1.StatusCause{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "x"`, Field: field}
		return problem{object, apierrors.NewApplyConflict([]metav1.StatusCause{cause}, "")}
	}
	labels, security := conflict("a", ".metadata.labels.team"), conflict("b", ".metadata.labels.pod-security.kubernetes.io/enforce")
	both := Hints{Conflict: "take it", Profile: "say it again"}
	for _, test := range []struct {
		name      string
		hints     Hints
		problems  []problem
		err, hint string
	}{
		{"another label", both, []problem{labels}, `namespace a: .metadata.labels.team by "x"`, "take it"},
		{"Pod Security", both, []problem{labels, security},
			`namespace a: .metadata.labels.team by "x"; namespace b: .metadata.labels.pod-security.kubernetes.io/enforce by "x"`,
			"say it again; take it"},
		{"Pod Security, which was said", Hints{Conflict: "take it"}, []problem{security},
			`namespace b: .metadata.labels.pod-security.kubernetes.io/enforce by "x"`, "take it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := (&Installer{Hints: test.hints}).explain(t.Context(), test.problems)
			if want := "somebody else has set what would be applied: " + test.err; err.Error() != want || job.HintOf(err) != test.hint {
				t.Errorf("got  %v, hint %q\nwant %s, hint %q", err, job.HintOf(err), want, test.hint)
			}
		})
	}
}

// Who has rights that RBAC does not know of is told when they don't count.
func TestInstallEscalation(t *testing.T) {
	role := &unstructured.Unstructured{Object: map[string]any{"kind": "Role", "metadata": map[string]any{"name": "r", "namespace": "a"}}}
	refusal := apierrors.NewForbidden(schema.GroupResource{Resource: "roles"}, "r",
		errors.New("user is attempting to grant RBAC permissions not currently held"))
	i := &Installer{Client: client(t, setuptest.Server{}), Hints: Hints{ByAdministrator: "ask somebody"}}
	err := i.explain(t.Context(), []problem{{role, refusal}})
	const want = "role r in namespace a grants rights that the user of this context does not have, and Kubernetes lets nobody grant more " +
		"than they have"
	if tip, ok := errors.AsType[*job.Hinted](err); !ok || err.Error() != want || tip.Hint != "ask somebody" {
		t.Errorf("got  %+v\nwant %s", err, want)
	}
}
