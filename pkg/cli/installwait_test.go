package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/hodei-jobs/hodei/deploy"
)

// apiServer answers requests, by method and path, with JSON; a status before it
// is one of an error. What it does not know is not found.
type apiServer map[string]string

func (s apiServer) start(t *testing.T) *manifestClient {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer, ok := s[r.Method+" "+r.URL.Path]
		if !ok {
			answer = "404 "
		}
		for code, reason := range map[int]metav1.StatusReason{http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusForbidden: metav1.StatusReasonForbidden} {
			if rest, ok := strings.CutPrefix(answer, fmt.Sprint(code, " ")); ok {
				w.WriteHeader(code)
				answer = fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":%q,"code":%d,"message":%q}`, reason, code, rest)
			}
		}
		io.WriteString(w, answer)
	}))
	t.Cleanup(server.Close)
	s["GET /version"] = "{}"
	kube := genericclioptions.NewConfigFlags(false)
	kube.APIServer = &server.URL
	c, err := newManifestClient(t.Context(), kube)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	reviews  = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews"
	accounts = "GET /api/v1/namespaces/%s/serviceaccounts/%s"
	review   = `{"kind":"SubjectAccessReview","apiVersion":"authorization.k8s.io/v1","status":{"allowed":%t}}`
)

// installedServer has everything.
func installedServer() apiServer {
	return apiServer{
		"GET /api/v1/namespaces/hodei-system":                                 `{"kind":"Namespace","apiVersion":"v1","status":{"phase":"Active"}}`,
		"GET /api/v1/namespaces/hodei-jobs-workers":                           `{"kind":"Namespace","apiVersion":"v1","status":{"phase":"Active"}}`,
		fmt.Sprintf(accounts, "hodei-system", "hodei-control-plane"):          `{"kind":"ServiceAccount","apiVersion":"v1"}`,
		fmt.Sprintf(accounts, "hodei-jobs-workers", "hodei-jobs-worker"):      `{"kind":"ServiceAccount","apiVersion":"v1"}`,
		"GET /api/v1/namespaces/hodei-jobs-workers/resourcequotas/hodei-jobs": `{"kind":"ResourceQuota","apiVersion":"v1","spec":{"hard":{"pods":"5"}},"status":{"hard":{"pods":"5"}}}`,
		reviews: fmt.Sprintf(review, true),
	}
}

func TestInstallAwait(t *testing.T) {
	quota, err := deploy.ParseQuota("pods=5")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, request, answer string
		want                  string // "": usable
	}{
		{"all there", "", "", ""},
		{"nobody may ask for others' rights", reviews, "403 no", ""},
		{"a namespace that goes", "GET /api/v1/namespaces/hodei-system", `{"kind":"Namespace","apiVersion":"v1","status":{"phase":"Terminating"}}`,
			"installed, but not usable after 50ms: namespace hodei-system is Terminating"},
		{"an account that is gone", fmt.Sprintf(accounts, "hodei-jobs-workers", "hodei-jobs-worker"), "404 no",
			"installed, but not usable after 50ms: serviceaccount hodei-jobs-worker in namespace hodei-jobs-workers is gone again"},
		{"a quota that does not count", "GET /api/v1/namespaces/hodei-jobs-workers/resourcequotas/hodei-jobs", `{"kind":"ResourceQuota","apiVersion":"v1","spec":{"hard":{"pods":"5"}}}`,
			"installed, but not usable after 50ms: resourcequota hodei-jobs in namespace hodei-jobs-workers does not count yet"},
		{"a role that does not hold", reviews, fmt.Sprintf(review, false),
			"installed, but not usable after 50ms: service account hodei-jobs-workers/hodei-jobs-worker may not get pods in hodei-jobs-workers yet"},
		{"a question that is refused", "GET /api/v1/namespaces/hodei-system", "403 not you", "not you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := installedServer()
			if test.request != "" {
				server[test.request] = test.answer
			}
			o := &installOptions{app: &app{}, choices: deploy.Options{Quota: quota}, timeout: time.Minute}
			if strings.Contains(test.want, "50ms") {
				o.timeout = 50 * time.Millisecond
			}
			objects, err := deploy.Objects(o.choices)
			if err != nil {
				t.Fatal(err)
			}
			err = o.await(t.Context(), server.start(t), objects)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// A kind that may not be listed is said; one that can't be is passed over.
func TestUninstallLists(t *testing.T) {
	server := apiServer{
		"GET /api/v1/namespaces/a/secrets":    "403 no",
		"GET /api/v1/namespaces/a/configmaps": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"kube-root-ca.crt","namespace":"a"}},{"metadata":{"name":"mine","namespace":"a"}}]}`,
		"GET /apis/batch/v1/namespaces/a/jobs": `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","items":[{"metadata":{"name":"j","namespace":"a"}},
			{"metadata":{"name":"owned","namespace":"a","ownerReferences":[{"apiVersion":"batch/v1","kind":"CronJob","name":"c","uid":"u","controller":true}]}}]}`,
	}
	found := &installed{}
	inside, err := server.start(t).list(t.Context(), "a", []listed{
		{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "Secret"},
		{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap"},
		{schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, "Job"},
		{schema.GroupVersionResource{Group: "gone", Version: "v1", Resource: "things"}, "Thing"},
	}, found)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range inside {
		names = append(names, describe(r.object))
	}
	if got, want := strings.Join(names, ", "), "job j in namespace a, configmap mine in namespace a"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if want := "not looked at: secrets in namespace a, which may not be listed"; len(found.notes) != 1 || found.notes[0] != want {
		t.Errorf("notes %q, want %q", found.notes, want)
	}
}

// What holds a namespace back is said.
func TestUninstallAwait(t *testing.T) {
	object := removal{resource: manifestResources["Namespace"], how: deleted}
	object.object = partial(listed{manifestResources["Namespace"], "Namespace"}, &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "a", UID: "1"}})
	pods := `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"p"}}]}`
	none := `{"kind":"SecretList","apiVersion":"v1","items":[]}`
	for _, test := range []struct {
		name   string
		server apiServer
		want   string // "": all is gone
	}{
		{"gone", apiServer{"GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"made anew", apiServer{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"2"}}`, "GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"still there", apiServer{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"1"},"status":{"conditions":[{"type":"A","status":"False","message":"fine"},{"type":"B","status":"True","message":"pods. has 1"}]}}`},
			"still there after 50ms: namespace a (pods. has 1); the cluster goes on deleting"},
		{"pods of jobs", apiServer{"GET /api/v1/namespaces/kept/pods": pods, "GET /api/v1/namespaces/kept/secrets": none},
			"still there after 50ms: pods and secrets of jobs in namespace kept (1); the cluster goes on deleting"},
		{"refused", apiServer{"GET /api/v1/namespaces/a": "403 not you"}, "not you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &uninstallOptions{timeout: time.Minute}
			if strings.Contains(test.want, "50ms") {
				o.timeout = 50 * time.Millisecond
			}
			err := o.await(t.Context(), test.server.start(t), &installed{removals: []removal{object}, kept: []string{"kept"}})
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
