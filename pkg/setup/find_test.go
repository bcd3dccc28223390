package setup

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

func TestInNamespaces(t *testing.T) {
	both := metav1.Verbs{"list", "delete"}
	got := inNamespaces([]*metav1.APIResourceList{
		{GroupVersion: "v1", APIResources: []metav1.APIResource{
			{Name: "pods", Kind: "Pod", Verbs: both}, {Name: "events", Kind: "Event", Verbs: both},
			{Name: "bindings", Kind: "Binding", Verbs: metav1.Verbs{"create"}},
		}},
		{GroupVersion: "metrics.k8s.io/v1beta1",
			APIResources: []metav1.APIResource{{Name: "pods", Kind: "PodMetrics", Verbs: metav1.Verbs{"list"}}}},
		{GroupVersion: "a/b/c", APIResources: []metav1.APIResource{{Name: "d", Kind: "D", Verbs: both}}},
	})
	if len(got) != 1 || got[0].kind != "Pod" {
		t.Errorf("%+v", got)
	}
}

func TestRemovalDone(t *testing.T) {
	object := func(kind, name, namespace string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetKind(kind)
		u.SetName(name)
		u.SetNamespace(namespace)
		return u
	}
	for _, test := range []struct {
		removal Removal
		want    string
	}{
		{Removal{Object: object("ClusterRole", "r", "")}, "deleted"},
		{Removal{Object: object("Role", "r", "a")}, "deleted in namespace a"},
		{Removal{Object: object("Role", "r", "a"), way: deleteWithNamespace, ours: true}, "deleted with namespace a"},
		{Removal{Object: object("Secret", "mine", "a"), way: deleteWithNamespace}, "deleted with namespace a, though not hodei's"},
		{Removal{Object: object("Namespace", "a", ""), way: releaseNamespace}, "kept, without hodei's labels: hodei has not made it"},
	} {
		if got := test.removal.Done(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// In a namespace that stays, a label alone makes nothing hodei's.
func TestIsOurs(t *testing.T) {
	names, err := manifestNames()
	if err != nil {
		t.Fatal(err)
	}
	both := map[string]string{deploy.LabelName: "hodei", deploy.LabelPartOf: "hodei"}
	byHodei := metav1.ManagedFieldsEntry{Manager: "hodei", Operation: metav1.ManagedFieldsOperationApply}
	byUpdate := metav1.ManagedFieldsEntry{Manager: "hodei", Operation: metav1.ManagedFieldsOperationUpdate}
	for _, test := range []struct {
		kind, name string
		labels     map[string]string
		fields     []metav1.ManagedFieldsEntry
		want       bool
	}{
		{"ServiceAccount", "of-an-older-version", both, []metav1.ManagedFieldsEntry{byHodei}, true},
		{"ServiceAccount", "mine", both, []metav1.ManagedFieldsEntry{byUpdate}, false},
		{"ServiceAccount", "hodei-jobs-worker", both, nil, true}, // kubectl apply -f k8s/rbac.yaml
		{"ServiceAccount", "hodei-jobs-worker", map[string]string{deploy.LabelPartOf: "hodei"}, nil, false},
		{"ResourceQuota", "hodei-jobs", both, nil, true},
		{"Role", "hodei-jobs-worker", both, nil, false}, // not the name of a role
		{"Job", "j", map[string]string{"app.kubernetes.io/managed-by": "hodei"}, nil, true},
		{"Job", "j", both, nil, false},
		{"Secret", "j", map[string]string{"app.kubernetes.io/managed-by": "hodei"}, nil, true},
		{"Secret", "mine", both, nil, false},
		{"Secret", "hodei-client-cert", nil, nil, true},
		{"ConfigMap", "hodei-ca-cert", nil, nil, false},
	} {
		object := &metav1.ObjectMeta{Name: test.name, Labels: test.labels, ManagedFields: test.fields}
		if got := isOurs(test.kind, object, names); got != test.want {
			t.Errorf("%s %s with %v, %v: %t", test.kind, test.name, test.labels, test.fields, got)
		}
	}
}

// A kind that may not be listed is told; one that can't be is passed over.
func TestUninstallLists(t *testing.T) {
	server := setuptest.Server{
		"GET /api/v1/namespaces/a/secrets": "403 no",
		"GET /api/v1/namespaces/a/configmaps": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",` +
			`"items":[{"metadata":{"name":"kube-root-ca.crt","namespace":"a"}},{"metadata":{"name":"mine","namespace":"a"}}]}`,
		"GET /apis/batch/v1/namespaces/a/jobs": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[
			{"metadata":{"name":"j","namespace":"a"}},
			{"metadata":{"name":"owned","namespace":"a","ownerReferences":[
				{"apiVersion":"batch/v1","kind":"CronJob","name":"c","uid":"u","controller":true}]}}]}`,
	}
	inside, unlisted, err := client(t, server).list(t.Context(), "a", []listableKind{
		{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "Secret"},
		{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap"},
		{schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, "Job"},
		{schema.GroupVersionResource{Group: "gone", Version: "v1", Resource: "things"}, "Thing"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range inside {
		names = append(names, describe(r.Object))
	}
	if got, want := strings.Join(names, ", "), "job j in namespace a, configmap mine in namespace a"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if want := []string{"secrets"}; !slices.Equal(unlisted, want) {
		t.Errorf("not listed: %q, want %q", unlisted, want)
	}
}
