package setup

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
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
		ofUser = "list and watch events; create, delete, get, list, patch and watch jobs.batch; delete, list and watch pods; get pods/log; create and get pods/portforward; create, delete and get secrets"
		ofRole = "list and watch events in hodei-jobs-workers; create, delete, get, list, patch and watch jobs.batch in hodei-jobs-workers; delete, list and watch pods in hodei-jobs-workers; " +
			"get pods/log in hodei-jobs-workers; create and get pods/portforward in hodei-jobs-workers; create, delete and get secrets in hodei-jobs-workers"
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
			return applies(a) || a.Verb == "escalate" || a.Verb == "bind" && a.Resource == "roles" && a.Namespace == "hodei-jobs-workers" && a.Name == "hodei-jobs-worker-role"
		}, ofRole, 0},
		{"nothing of it", applies, ofUser + "; " + strings.Replace(ofRole, "delete, list and watch pods", "delete, get, list and watch pods", 1), 0},
		{"all but one that is granted, and one that applying takes", func(a authorizationv1.ResourceAttributes) bool {
			return !exempt(a) && (a.Resource != "pods" || a.Subresource != "log" || a.Namespace != "") && (a.Resource != "namespaces" || a.Verb != "create")
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
	failed := errors.New("one of them")
	err := inParallel(3*atOnce, func(i int) error {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == atOnce && i < atOnce {
			close(full) // the first ones are all under way
		}
		<-full
		calls.Add(1)
		now.Add(-1)
		if i == 1 {
			return failed
		}
		return nil
	})
	if most.Load() != atOnce || calls.Load() != 3*atOnce || !errors.Is(err, failed) {
		t.Errorf("%d calls, %d at once, error %v", calls.Load(), most.Load(), err)
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
			`namespace a: .metadata.labels.team by "x"; namespace b: .metadata.labels.pod-security.kubernetes.io/enforce by "x"`, "say it again; take it"},
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
	refusal := apierrors.NewForbidden(schema.GroupResource{Resource: "roles"}, "r", errors.New("user is attempting to grant RBAC permissions not currently held"))
	i := &Installer{Client: client(t, setuptest.Server{}), Hints: Hints{ByAdministrator: "ask somebody"}}
	err := i.explain(t.Context(), []problem{{role, refusal}})
	const want = "role r in namespace a grants rights that the user of this context does not have, and Kubernetes lets nobody grant more than they have"
	if tip, ok := errors.AsType[*job.Hinted](err); !ok || err.Error() != want || tip.Hint != "ask somebody" {
		t.Errorf("got  %+v\nwant %s", err, want)
	}
}

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
	const refusal = `namespace n was there before hodei, and would begin to enforce Pod Security "restricted", which Pods in it do not meet: existing pods violate; p: runs as root`
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
