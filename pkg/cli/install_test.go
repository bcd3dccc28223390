package cli

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hodei-jobs/hodei/deploy"
)

// Entries as an API server (1.35) has written them.
const (
	byHodei      = `{"manager":"hodei","operation":"Apply","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{}}}}}`
	byCreate     = `{"manager":"kubectl-create","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}}}}`
	byFlux       = `{"manager":"flux","operation":"Apply","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:team":{}}}}}`
	byFluxBare   = `{"manager":"before-first-apply","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}},"f:spec":{"f:finalizers":{}}}}`
	byLabel      = `{"manager":"kubectl-label","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:x":{}}}}}`
	byKubectl    = `{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:kubernetes.io/metadata.name":{}}}}}`
	byController = `{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"TIME","subresource":"status","fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{}}}}`
)

func TestMadeByHodei(t *testing.T) {
	const at, later = "2026-11-23T08:05:16Z", "2026-11-23T08:05:17Z"
	when := func(entry, at string) string { return strings.Replace(entry, "TIME", at, 1) }
	for _, test := range []struct {
		name        string
		annotations string
		entries     []string
		want        bool
	}{
		{"noted", `{"hodei.io/created-by":"hodei"}`, []string{when(byHodei, later), when(byFlux, later)}, true},
		{"noted by another", `{"hodei.io/created-by":"me"}`, []string{when(byCreate, at)}, false},
		{"server-side apply of the manifests", `{}`, []string{when(byHodei, at)}, true},
		{"and labelled later", `{}`, []string{when(byHodei, at), when(byLabel, later), when(byController, later)}, true},
		{"and applied with changes since", `{}`, []string{when(byHodei, later)}, false},
		{"kubectl apply of the manifests", `{}`, []string{when(byKubectl, at)}, true},
		{"and hodei install since", `{}`, []string{when(byHodei, later), when(byKubectl, at)}, true},
		{"kubectl apply to one that was there", `{}`, []string{when(byKubectl, later)}, false},
		{"kubectl create namespace, before", `{}`, []string{when(byHodei, later), when(byCreate, at)}, false},
		{"in the same second", `{}`, []string{when(byHodei, at), when(byCreate, at)}, false},
		{"another's server-side apply, before", `{}`, []string{when(byFlux, at), when(byHodei, at)}, false},
		{"one that said nothing", `{}`, []string{when(byHodei, at), when(byFluxBare, at)}, false},
		{"nobody knows", `{}`, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := &metav1.PartialObjectMetadata{}
			text := `{"metadata":{"creationTimestamp":"` + at + `","annotations":` + test.annotations + `,"managedFields":[` + strings.Join(test.entries, ",") + `]}}`
			if err := json.Unmarshal([]byte(text), namespace); err != nil {
				t.Fatal(err)
			}
			if got := madeByHodei(namespace); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestDescribeRights(t *testing.T) {
	objects, err := deploy.Objects(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rights := installRights(objects)
	for _, want := range []right{
		{"create", "", schema.GroupResource{Resource: "namespaces"}},
		{"patch", "hodei-system", schema.GroupResource{Resource: "serviceaccounts"}},
		{"delete", "hodei-jobs-workers", schema.GroupResource{Group: "networking.k8s.io", Resource: "networkpolicies"}},
		{"list", "", schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}},
	} {
		if n := len(slices.DeleteFunc(slices.Clone(rights), func(r right) bool { return r != want })); n != 1 {
			t.Errorf("%+v is asked %d times", want, n)
		}
	}
	for _, r := range rights {
		if r.resource.Resource == "namespaces" && (r.verb == "delete" || r.verb == "list") || r.resource.Resource == "secrets" {
			t.Errorf("%+v is asked, and not needed", r)
		}
	}
	got := describeRights([]right{
		{"create", "", schema.GroupResource{Resource: "namespaces"}},
		{"get", "", schema.GroupResource{Resource: "namespaces"}},
		{"patch", "", schema.GroupResource{Resource: "namespaces"}},
		{"list", "a", schema.GroupResource{Group: "g", Resource: "r"}},
		{"list", "b", schema.GroupResource{Group: "g", Resource: "r"}},
	})
	if want := "create, get and patch namespaces; list r.g in a; list r.g in b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDescribeConflict(t *testing.T) {
	object := &unstructured.Unstructured{}
	object.SetKind("NetworkPolicy")
	object.SetName("n")
	object.SetNamespace("a")
	err := apierrors.NewApplyConflict([]metav1.StatusCause{
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "kubectl-edit" using networking.k8s.io/v1`, Field: ".spec.egress"},
		{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "flux"`, Field: ".metadata.labels.x"},
	}, "Apply failed")
	if got, want := describeConflict(problem{object, err}), `networkpolicy n in namespace a: .spec.egress by "kubectl-edit" using networking.k8s.io/v1 and .metadata.labels.x by "flux"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := describeConflict(problem{object, errors.New("some conflict")}), "networkpolicy n in namespace a: some conflict"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestInParallel(t *testing.T) {
	var now, most, calls atomic.Int32
	full := make(chan struct{})
	inParallel(3*atOnce, func(i int) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == atOnce && i < atOnce {
			close(full) // the first ones are all under way
		}
		<-full
		calls.Add(1)
		now.Add(-1)
	})
	if most.Load() != atOnce || calls.Load() != 3*atOnce {
		t.Errorf("%d calls, %d at once", calls.Load(), most.Load())
	}
}

func TestInNamespaces(t *testing.T) {
	both := metav1.Verbs{"list", "delete"}
	got := inNamespaces([]*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Kind: "Pod", Verbs: both}, {Name: "events", Kind: "Event", Verbs: both}, {Name: "bindings", Kind: "Binding", Verbs: metav1.Verbs{"create"}},
		}},
		{GroupVersion: "metrics.k8s.io/v1beta1", APIResources: []metav1.APIResource{{Name: "pods", Kind: "PodMetrics", Verbs: metav1.Verbs{"list"}}}},
		{GroupVersion: "a/b/c", APIResources: []metav1.APIResource{{Name: "d", Kind: "D", Verbs: both}}},
	})
	if len(got) != 1 || got[0].kind != "Pod" {
		t.Errorf("%+v", got)
	}
}

func TestRemovalDone(t *testing.T) {
	object := func(kind, name, namespace, partOf string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetKind(kind)
		u.SetName(name)
		u.SetNamespace(namespace)
		u.SetLabels(map[string]string{"app.kubernetes.io/part-of": partOf})
		return u
	}
	for _, test := range []struct {
		removal removal
		want    string
	}{
		{removal{object: object("ClusterRole", "r", "", "hodei")}, "deleted"},
		{removal{object: object("Role", "r", "a", "hodei")}, "deleted in namespace a"},
		{removal{object: object("Role", "r", "a", "hodei"), how: withNamespace}, "deleted with namespace a"},
		{removal{object: object("Secret", "mine", "a", "me"), how: withNamespace}, "deleted with namespace a, though not hodei's"},
		{removal{object: object("Secret", "hodei-ca-key", "a", ""), how: withNamespace}, "deleted with namespace a"},
		{removal{object: object("Namespace", "a", "", "hodei"), how: release}, "kept, without hodei's labels: hodei has not made it"},
	} {
		if got := test.removal.done(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
