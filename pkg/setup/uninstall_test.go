package setup

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
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
		{GroupVersion: "metrics.k8s.io/v1beta1", APIResources: []metav1.APIResource{{Name: "pods", Kind: "PodMetrics", Verbs: metav1.Verbs{"list"}}}},
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

func TestReleasedFields(t *testing.T) {
	const entry = `{"manager":"MANAGER","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:PARTOF":{},"f:pod-security.kubernetes.io/enforce":{}}}}}`
	for _, test := range []struct {
		name, manager, partOf string
		want                  []string
	}{
		{"kubectl apply of the manifests", "kubectl-client-side-apply", deploy.LabelPartOf,
			[]string{"annotations kubectl.kubernetes.io/last-applied-configuration", "labels pod-security.kubernetes.io/enforce"}},
		{"kubectl apply of something else", "kubectl-client-side-apply", "team", nil},
		{"kubectl label", "kubectl-label", deploy.LabelPartOf, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := &metav1.PartialObjectMetadata{}
			text := `{"metadata":{"managedFields":[` + strings.NewReplacer("MANAGER", test.manager, "PARTOF", test.partOf).Replace(entry) + `]}}`
			if err := json.Unmarshal([]byte(text), namespace); err != nil {
				t.Fatal(err)
			}
			var got []string
			for field, removed := range releasedFields(namespace) {
				for name := range removed.(map[string]any) {
					got = append(got, field+" "+name)
				}
			}
			want := slices.Concat(test.want, []string{"labels " + deploy.LabelName, "labels " + deploy.LabelPartOf})
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// All that finding and removing takes is asked before anything is removed.
func TestUninstallRights(t *testing.T) {
	made := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "made", Annotations: map[string]string{deploy.AnnotationCreatedBy: "hodei"}}}
	kept := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
	want := "list clusterrolebindings.rbac.authorization.k8s.io; list clusterroles.rbac.authorization.k8s.io; " +
		"list rolebindings.rbac.authorization.k8s.io; " +
		"list jobs.batch in kept; list limitranges in kept; list networkpolicies.networking.k8s.io in kept; list resourcequotas in kept; " +
		"list rolebindings.rbac.authorization.k8s.io in kept; list roles.rbac.authorization.k8s.io in kept; list secrets in kept; " +
		"list serviceaccounts in kept; list jobs.batch in made"
	if got := findRights([]corev1.Namespace{made, kept}, true).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := findRights([]corev1.Namespace{made}, false).String(); got != "list jobs.batch in made" {
		t.Errorf("got %s", got)
	}
	object := func(kind listableKind, namespace, name string, way removalWay) Removal {
		return Removal{
			Object:   metadataOf(kind.resource.GroupVersion().WithKind(kind.kind), &metav1.ObjectMeta{Name: name, Namespace: namespace}),
			resource: kind.resource, way: way,
		}
	}
	namespaces := listableKind{manifestResources["Namespace"], "Namespace"}
	removals := []Removal{
		object(secretKind, "kept", "hodei-ca-cert", deleteObject), object(namespaces, "", "kept", releaseNamespace),
		object(secretKind, "made", "mine", deleteWithNamespace), object(namespaces, "", "made", deleteObject),
	}
	rights := removalRights(removals, true)
	if got, want := rights.String(), "delete, get and patch namespaces; list pods in kept; delete and get secrets in kept"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !slices.Contains(rights, Right{"patch", "", schema.GroupResource{Resource: "namespaces"}, "kept"}) {
		t.Errorf("%+v", rights)
	}
	if got, want := removalRights(removals, false).String(), "delete namespaces; delete secrets in kept"; got != want {
		t.Errorf("without waiting: got  %s\nwant %s", got, want)
	}
}

// A kind that may not be listed is told; one that can't be is passed over.
func TestUninstallLists(t *testing.T) {
	server := setuptest.Server{
		"GET /api/v1/namespaces/a/secrets":    "403 no",
		"GET /api/v1/namespaces/a/configmaps": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"kube-root-ca.crt","namespace":"a"}},{"metadata":{"name":"mine","namespace":"a"}}]}`,
		"GET /apis/batch/v1/namespaces/a/jobs": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"j","namespace":"a"}},
			{"metadata":{"name":"owned","namespace":"a","ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"c","uid":"u","controller":true}]}}]}`,
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

// What holds a namespace back is said.
func TestUninstallAwait(t *testing.T) {
	namespace := func(name string) Removal {
		kind := listableKind{manifestResources["Namespace"], "Namespace"}
		return Removal{
			Object:   metadataOf(kind.resource.GroupVersion().WithKind(kind.kind), &metav1.ObjectMeta{Name: name, UID: "1"}),
			resource: kind.resource,
		}
	}
	pods := `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"p"}}]}`
	none := `{"kind":"SecretList","apiVersion":"v1","items":[]}`
	for _, test := range []struct {
		name   string
		server setuptest.Server
		want   string // "": all is gone
	}{
		{"gone", setuptest.Server{"GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"made anew", setuptest.Server{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"2"}}`, "GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"still there", setuptest.Server{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"1"},"status":{"conditions":[{"type":"A","status":"False","message":"fine"},{"type":"B","status":"True","message":"pods. has 1"}]}}`},
			"still there after 50ms: namespace a (pods. has 1); the cluster goes on deleting"},
		{"pods of jobs", setuptest.Server{"GET /api/v1/namespaces/kept/pods": pods, "GET /api/v1/namespaces/kept/secrets": none},
			"still there after 50ms: pods and secrets of jobs in namespace kept (1); the cluster goes on deleting"},
		{"an API server with a bad second", setuptest.Server{"GET /api/v1/namespaces/a": "500 etcdserver: leader changed"},
			"still there after 50ms: etcdserver: leader changed; the cluster goes on deleting"},
		{"refused", setuptest.Server{"GET /api/v1/namespaces/a": "403 not you"}, "not you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			timeout := time.Minute
			if strings.Contains(test.want, "50ms") {
				timeout = 50 * time.Millisecond
			}
			u := &Uninstaller{Client: client(t, test.server)}
			err := u.Await(t.Context(), &Found{Removals: []Removal{namespace("a")}, Released: []Removal{namespace("kept")}}, timeout)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
