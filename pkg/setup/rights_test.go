package setup

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/deploy"
)

func TestDescribeRights(t *testing.T) {
	objects, err := deploy.Objects(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rights := installRights(objects)
	for _, want := range []Right{
		{"create", "", schema.GroupResource{Resource: "namespaces"}, ""},
		{"patch", "hodei-system", schema.GroupResource{Resource: "serviceaccounts"}, "hodei-control-plane"},
		{"delete", "hodei-jobs-workers", schema.GroupResource{Group: "networking.k8s.io", Resource: "networkpolicies"}, ""},
		{"list", "", schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterroles"}, ""},
	} {
		if n := len(slices.DeleteFunc(slices.Clone(rights), func(r Right) bool { return r != want })); n != 1 {
			t.Errorf("%+v is asked %d times", want, n)
		}
	}
	for _, r := range rights {
		if r.Resource.Resource == "namespaces" && (r.Verb == "delete" || r.Verb == "list") || r.Resource.Resource == "secrets" {
			t.Errorf("%+v is asked, and not needed", r)
		}
	}
	got := Rights{
		{"create", "", schema.GroupResource{Resource: "namespaces"}, ""},
		{"get", "", schema.GroupResource{Resource: "namespaces"}, ""},
		{"patch", "", schema.GroupResource{Resource: "namespaces"}, "a"},
		{"patch", "", schema.GroupResource{Resource: "namespaces"}, "b"},
		{"list", "a", schema.GroupResource{Group: "g", Resource: "r"}, ""},
		{"list", "b", schema.GroupResource{Group: "g", Resource: "r"}, ""},
	}.String()
	if want := "create, get and patch namespaces; list r.g in a; list r.g in b"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// reviewer is an API server that says what its caller may. It counts the questions.
func reviewer(t *testing.T, may func(authorizationv1.ResourceAttributes) bool) (*Client, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/version" {
			io.WriteString(w, "{}")
			return
		}
		asked.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
			return
		}
		var review authorizationv1.SelfSubjectAccessReview
		if _, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, &review); err != nil {
			t.Error(err)
			return
		}
		review.Status.Allowed = may(*review.Spec.ResourceAttributes)
		if err := json.NewEncoder(w).Encode(review); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	c, err := NewClient(t.Context(), &rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c, &asked
}

// What would be granted has to be held, unless one may escalate and bind.
func TestMissingToInstall(t *testing.T) {
	objects, err := deploy.Objects(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	granted, err := deploy.Rights(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	exempt := func(a authorizationv1.ResourceAttributes) bool { return a.Verb == "escalate" || a.Verb == "bind" }
	// What the manifests themselves take, and nothing of what they grant.
	applies := func(a authorizationv1.ResourceAttributes) bool {
		return !exempt(a) && !slices.Contains([]string{"batch", "events", "pods", "secrets"}, cmp.Or(a.Group, a.Resource))
	}
	const (
		ofUser = "list and watch events; create, delete, get, list, patch and watch jobs.batch; delete, list and watch pods; get " +
			"pods/log; create and get pods/portforward; create, delete and get secrets"
		ofRole = "list and watch events in hodei-jobs-workers; create, delete, get, list, patch and watch jobs.batch in " +
			"hodei-jobs-workers; delete, list and watch pods in hodei-jobs-workers; " +
			"get pods/log in hodei-jobs-workers; create and get pods/portforward in hodei-jobs-workers; create, delete and get secrets " +
			"in hodei-jobs-workers"
	)
	for _, test := range []struct {
		name  string
		may   func(authorizationv1.ResourceAttributes) bool
		want  string
		asked int32 // 0: it does not matter
	}{
		{"an administrator", func(authorizationv1.ResourceAttributes) bool { return true }, "", 58},
		{"has all that is granted", func(a authorizationv1.ResourceAttributes) bool { return !exempt(a) }, "", 0},
		{"may escalate and bind", func(a authorizationv1.ResourceAttributes) bool { return applies(a) || exempt(a) }, "", 58},
		{"may escalate cluster roles, and bind nothing", func(a authorizationv1.ResourceAttributes) bool {
			return applies(a) || a.Verb == "escalate" && a.Resource == "clusterroles" && a.Name == "hodei-user"
		}, strings.Replace(ofRole, "delete, list and watch pods", "delete, get, list and watch pods", 1), 0},
		{"may escalate, and bind the worker's alone", func(a authorizationv1.ResourceAttributes) bool {
			return applies(a) || a.Verb == "escalate" || a.Verb == "bind" && a.Resource == "roles" && a.Namespace == "hodei-jobs-workers" &&
				a.Name == "hodei-jobs-worker-role"
		}, ofRole, 0},
		{"nothing of it", applies, ofUser + "; " + strings.Replace(ofRole, "delete, list and watch pods",
			"delete, get, list and watch pods", 1), 0},
		{"all but one that is granted, and one that applying takes", func(a authorizationv1.ResourceAttributes) bool {
			return !exempt(a) && (a.Resource != "pods" || a.Subresource != "log" || a.Namespace != "") &&
				(a.Resource != "namespaces" || a.Verb != "create")
		}, "create namespaces; get pods/log", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, asked := reviewer(t, test.may)
			missing, err := c.missingToInstall(t.Context(), objects, granted)
			if got := missing.String(); err != nil || got != test.want {
				t.Errorf("got  %s, error %v\nwant %s", got, err, test.want)
			}
			if n := asked.Load(); test.asked != 0 && n != test.asked {
				t.Errorf("%d questions, want %d", n, test.asked)
			}
		})
	}
}

// All that finding and removing takes is asked before anything is removed.
func TestUninstallRights(t *testing.T) {
	made := corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "made",
		Annotations: map[string]string{deploy.AnnotationCreatedBy: "hodei"}}}
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
