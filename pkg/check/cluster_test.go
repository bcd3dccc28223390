package check

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// checkedServer answers as much of an API server's requests as the checks make.
type checkedServer struct {
	version string
	ahead   time.Duration   // of its clock
	noDate  bool            // it does not tell its time
	denied  map[string]bool // "verb resource" that the caller may not
	absent  map[string]bool // paths of objects that are not there
	objects map[string]any  // others than empty ones, by their paths
	warning string          // of a Job
}

// nodes is a list of one node with so much disk for Pods; "": it does not say.
func nodes(name, disk string) map[string]any {
	allocatable := map[string]string{"cpu": "2"}
	if disk != "" {
		allocatable["ephemeral-storage"] = disk
	}
	node := map[string]any{"metadata": map[string]string{"name": name}, "status": map[string]any{"allocatable": allocatable}}
	return map[string]any{"items": []any{node}}
}

func (s *checkedServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat)); s.noDate {
		w.Header()["Date"] = nil
	}
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	path := r.URL.Path
	switch {
	case path == "/version":
		answer(200, map[string]string{"gitVersion": s.version})
	case strings.HasSuffix(path, "/selfsubjectreviews"):
		answer(201, map[string]any{"status": map[string]any{"userInfo": map[string]string{"username": "alice"}}})
	case strings.HasSuffix(path, "/selfsubjectaccessreviews"):
		body, err := io.ReadAll(r.Body) // protobuf, as client-go likes it
		if err != nil {
			return
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		review, ok := object.(*authorizationv1.SelfSubjectAccessReview)
		if err != nil || !ok {
			answer(400, nil)
			return
		}
		a := review.Spec.ResourceAttributes
		resource := a.Resource
		if a.Subresource != "" {
			resource += "/" + a.Subresource
		}
		answer(201, map[string]any{"status": map[string]bool{"allowed": !s.denied[a.Verb+" "+resource]}})
	case s.absent[path]:
		parts := strings.Split(path, "/")
		answer(404, map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
			"message": fmt.Sprintf("%s %q not found", parts[len(parts)-2], parts[len(parts)-1])})
	case r.Method == http.MethodPost:
		if s.warning != "" {
			w.Header().Set("Warning", fmt.Sprintf(`299 - %q`, s.warning))
		}
		answer(201, map[string]any{"metadata": map[string]string{"name": "job"}})
	case s.objects[path] != nil:
		answer(200, s.objects[path])
	default:
		answer(200, map[string]any{"metadata": map[string]string{"name": path[strings.LastIndex(path, "/")+1:]}, "items": []any{}})
	}
}

// examined makes the checks of a cluster that answers as s does.
func examined(t *testing.T, s *checkedServer, c provider.Config) map[string]Result {
	t.Helper()
	if s.version == "" {
		s.version = "v1.35.4"
	}
	server := httptest.NewServer(s)
	defer server.Close()
	c.Type = provider.Kubernetes
	checks, k := OfCluster(t.Context(), &rest.Config{Host: server.URL, BearerToken: "x"}, "p", c.WithDefaults())
	if k == nil {
		t.Fatalf("%+v", checks)
	}
	found := map[string]Result{}
	for _, c := range append(checks, k.Waiting(t.Context())) {
		found[c.Name] = c
	}
	return found
}

func TestClusterChecks(t *testing.T) {
	const workers = "/api/v1/namespaces/hodei-jobs-workers"
	const binding = "/apis/rbac.authorization.k8s.io/v1/namespaces/hodei-jobs-workers/rolebindings/hodei-jobs-worker-binding"
	old := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	deleted := map[string]any{"metadata": map[string]string{"name": "hodei-jobs-workers", "deletionTimestamp": old}}
	pods := map[string]any{"items": []any{map[string]any{"metadata": map[string]any{"creationTimestamp": old,
		"labels": map[string]string{"hodei.io/job": "train-x2x4f"}}}}}
	const violation = `would violate PodSecurity "restricted:latest": seccompProfile`
	const capabilities = `would violate PodSecurity "baseline:latest": non-default capabilities (container "agent" must not include ` +
		`"BPF", "NET_ADMIN", "PERFMON" in securityContext.capabilities.add)`
	enforces := func(level string) map[string]any {
		labels := map[string]string{"pod-security.kubernetes.io/enforce": level}
		return map[string]any{workers: map[string]any{"metadata": map[string]any{"labels": labels}}}
	}
	for _, test := range []struct {
		name, Result string
		server       checkedServer
		config       provider.Config
		status       Status
		want         string // in the detail
		hint         string // in the hint
	}{
		{"version", "cluster", checkedServer{}, provider.Config{}, OK, "Kubernetes v1.35.4 at http", ""},
		{"old version", "cluster", checkedServer{version: "v1.25.9"}, provider.Config{}, Error,
			"Kubernetes v1.25.9 is too old: want 1.26 or later", "--context"},
		{"oldest version", "cluster", checkedServer{version: "v1.26.0-gke.1"}, provider.Config{}, OK, "", ""},
		{"no version", "cluster", checkedServer{version: "x"}, provider.Config{}, Warning, `"x"`, ""},
		{"same clock", "clock", checkedServer{}, provider.Config{}, OK, "the same as the API server's", ""},
		{"a little ahead", "clock", checkedServer{ahead: -20 * time.Second}, provider.Config{}, OK, "s ahead of the API server's", ""},
		{"a little behind", "clock", checkedServer{ahead: 20 * time.Second}, provider.Config{}, OK, "s behind the API server's", ""},
		{"minutes", "clock", checkedServer{ahead: 2 * time.Minute}, provider.Config{}, Warning, "this machine's clock says ",
			"timedatectl"},
		{"an hour", "clock", checkedServer{ahead: -time.Hour}, provider.Config{}, Error, "certificates made here are not valid there",
			"timedatectl"},
		{"no clock", "clock", checkedServer{noDate: true}, provider.Config{}, Skipped, "does not tell", ""},
		{"all rights", "rights", checkedServer{}, provider.Config{}, OK, `user "alice" may do all`, ""},
		{"no tunnel", "rights", checkedServer{denied: map[string]bool{"create pods/portforward": true}}, provider.Config{}, Warning,
			`user "alice" may not create pods/portforward in hodei-jobs-workers`,
			"--clusterrole=hodei-user --user=alice -n hodei-jobs-workers"},
		{"no jobs", "rights", checkedServer{denied: map[string]bool{"create jobs": true, "get secrets": true}}, provider.Config{}, Error,
			"create jobs.batch in hodei-jobs-workers; get secrets", "--user=alice"},
		{"namespace", "namespace", checkedServer{}, provider.Config{}, OK, "hodei-jobs-workers", ""},
		{"no namespace", "namespace", checkedServer{absent: map[string]bool{workers: true}}, provider.Config{}, Error,
			"namespace hodei-jobs-workers does not exist", "{hodei} install"},
		{"namespace on its way out", "namespace", checkedServer{objects: map[string]any{workers: deleted}}, provider.Config{}, Error,
			"is being deleted", "wait"},
		{"no account", "service account", checkedServer{absent: map[string]bool{workers + "/serviceaccounts/x": true}},
			provider.Config{ServiceAccount: "x"}, Error, `serviceaccount "x" not found`,
			"kubectl create serviceaccount x -n hodei-jobs-workers"},
		{"no default account", "service account",
			checkedServer{absent: map[string]bool{"/api/v1/namespaces/team/serviceaccounts/hodei-jobs-worker": true}},
			provider.Config{Namespace: "team"}, Error, `serviceaccount "hodei-jobs-worker" not found`,
			"{hodei} install --workers-namespace=team"},
		{"no namespace of another name", "namespace", checkedServer{absent: map[string]bool{"/api/v1/namespaces/team": true}},
			provider.Config{Namespace: "team"}, Error, "namespace team does not exist", "{hodei} install --workers-namespace=team, or"},
		{"account of another's", "role", checkedServer{}, provider.Config{ServiceAccount: "x"}, Skipped, "not the installed one", ""},
		{"no role", "role",
			checkedServer{absent: map[string]bool{binding: true}}, provider.Config{}, Warning, "is not there", "{hodei} install"},
		{"no policy", "network policy", checkedServer{}, provider.Config{}, Warning, "none in namespace hodei-jobs-workers",
			"{hodei} install"},
		{"no pull secret", "pull secrets", checkedServer{absent: map[string]bool{workers + "/secrets/two": true}},
			provider.Config{ImagePullSecrets: []string{"one", "two"}}, Error, `secret "two" not found`, "docker-registry two"},
		{"pull secrets", "pull secrets", checkedServer{}, provider.Config{ImagePullSecrets: []string{"one", "two"}}, OK, "one and two", ""},
		{"no priority class", "priority class",
			checkedServer{absent: map[string]bool{"/apis/scheduling.k8s.io/v1/priorityclasses/high": true}},
			provider.Config{PriorityClass: "high"}, Error, `"high" not found`, "kubectl get priorityclasses"},
		{"volume limits", "volume limits", checkedServer{objects: map[string]any{"/api/v1/nodes": nodes("n1", "10Gi")}}, provider.Config{},
			OK, "enforced on every node (1 looked at)", ""},
		{"no volume limits", "volume limits", checkedServer{objects: map[string]any{"/api/v1/nodes": nodes("n1", "")}}, provider.Config{},
			Warning, "not enforced on n1: ", "localStorageCapacityIsolation"},
		{"runtime class", "runtime class", checkedServer{}, provider.Config{RuntimeClass: "gvisor"}, OK, "gvisor", ""},
		{"no eBPF", "ebpf", checkedServer{objects: enforces("restricted")}, provider.Config{EBPF: "off"}, Skipped,
			"the provider does not ask for it", ""},
		{"eBPF where it may be", "ebpf", checkedServer{objects: enforces("privileged")}, provider.Config{EBPF: "auto"}, OK,
			`namespace hodei-jobs-workers enforces Pod Security "privileged"; whether the nodes can do it`, ""},
		{"eBPF where nothing is said", "ebpf", checkedServer{}, provider.Config{EBPF: "require"}, OK, "has no Pod Security label", ""},
		{"eBPF that is left out", "ebpf", checkedServer{objects: enforces("restricted")}, provider.Config{EBPF: "auto"}, Warning,
			`jobs run without it: namespace hodei-jobs-workers enforces Pod Security "restricted"`,
			"{hodei} install --workers-namespace=hodei-ebpf --profile=privileged"},
		{"eBPF that is left out with the user", "ebpf", checkedServer{objects: enforces("privileged")},
			provider.Config{EBPF: "auto", User: "image"}, Warning, "jobs run without it: the user is left to the cluster",
			"{hodei} provider set p --ebpf off"},
		{"eBPF that is left out for a warning", "ebpf", checkedServer{warning: capabilities}, provider.Config{EBPF: "auto"}, Warning,
			"jobs run without it: the API server warns", "{hodei} install --workers-namespace=hodei-ebpf --profile=privileged"},
		{"eBPF that is required and forbidden", "ebpf", checkedServer{objects: enforces("baseline")}, provider.Config{EBPF: "require"},
			Error, `enforces Pod Security "baseline"; no job starts`, "{hodei} provider set p --ebpf off"},
		{"eBPF that is required where we may not look", "ebpf", checkedServer{absent: map[string]bool{workers: true}},
			provider.Config{EBPF: "require"}, Warning, "can't be read", ""},
		{"a job with eBPF that is refused", "job", checkedServer{warning: capabilities, objects: enforces("baseline")},
			provider.Config{EBPF: "require"}, Error, "the namespace refuses its Pods: ", ""},
		{"a job", "job", checkedServer{}, provider.Config{}, OK, "accepts", ""},
		{"a job that is refused", "job", checkedServer{warning: violation, objects: enforces("restricted")}, provider.Config{}, Error,
			"the namespace refuses its Pods: " + violation, "--profile baseline"},
		{"a job that is below baseline", "job", checkedServer{warning: `would violate PodSecurity "baseline:v1.35": hostPath`,
			objects: enforces("baseline")}, provider.Config{}, Error, "the namespace refuses its Pods: ", "provider set"},
		{"a job that is below baseline, and more is kept", "job",
			checkedServer{warning: `would violate PodSecurity "baseline:v1.35": hostPath`, objects: enforces("restricted")},
			provider.Config{}, Error, "the namespace refuses its Pods: ", "--profile baseline"},
		{"a job that is taken all the same", "job", checkedServer{warning: violation, objects: enforces("baseline")}, provider.Config{},
			Warning, "warns of its Pods, and takes them: " + violation, ""},
		{"a job, and nothing is said of what is kept", "job", checkedServer{warning: violation}, provider.Config{}, Warning,
			"warns of its Pods, and may refuse them: " + violation, "{hodei} provider test"},
		{"a job, and what is kept can't be seen", "job", checkedServer{warning: violation, absent: map[string]bool{workers: true}},
			provider.Config{}, Warning, "may refuse them", "{hodei} provider test"},
		{"a job that is warned of", "job", checkedServer{warning: "something else"}, provider.Config{}, OK, "", ""},
		{"nothing waits", "jobs", checkedServer{}, provider.Config{}, OK, "none waits", ""},
		{"one waits", "jobs", checkedServer{objects: map[string]any{workers + "/pods": pods}}, provider.Config{}, Warning,
			"for more than 5m0s: train-x2x4f", "{hodei} jobs train-x2x4f"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := examined(t, &test.server, test.config)[test.Result]
			if got.Status != test.status || !strings.Contains(got.Detail, test.want) || !strings.Contains(got.Hint, test.hint) ||
				(got.Hint == "") != (test.hint == "") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCheckFacts(t *testing.T) {
	now := time.Now()
	good := certs.Fact{Source: "certs/ca.crt", NotAfter: now.Add(1000 * time.Hour), DaysLeft: 41}
	sooner := certs.Fact{Source: "certs/server.crt", NotAfter: now.Add(900 * time.Hour), DaysLeft: 37}
	soon := certs.Fact{Source: "certs/client.crt", NotAfter: now.Add(time.Hour), Warning: "ends today"}
	bad := certs.Fact{Source: "certs/client.crt", Problem: "certificate expired"}
	for _, test := range []struct {
		name   string
		facts  []certs.Fact
		status Status
		detail string
	}{
		{"none", nil, Skipped, "no certificates"},
		{"good", []certs.Fact{good, sooner}, OK, "2 certificates; certs/server.crt is the first to end, in 37 days"},
		{"soon", []certs.Fact{good, soon}, Warning, "certs/client.crt: ends today"},
		{"bad", []certs.Fact{soon, bad, good}, Error, "certs/client.crt: certificate expired"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ofCertificates("certificates", test.facts, func(certs.Fact) string { return "hint" }); got.Status != test.status ||
				got.Detail != test.detail {
				t.Errorf("got %+v", got)
			}
		})
	}
}
