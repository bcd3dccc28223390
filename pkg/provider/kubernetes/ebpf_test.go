package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

func TestPodSecurityForbids(t *testing.T) {
	forbidden := apierrors.NewForbidden(corev1.Resource("namespaces"), "ns",
		errors.New(`User "me" cannot get resource "namespaces" in API group "" in the namespace "ns"`))
	for _, test := range []struct {
		name     string
		security PodSecurity
		forbids  string // part of it; "": nothing
		says     string
	}{
		{"no label", PodSecurity{}, "", "namespace ns has no Pod Security label: the cluster's default counts, which can't be read"},
		{"only warns", PodSecurity{Warn: "restricted"}, "", "namespace ns has no Pod Security label"},
		{"privileged", PodSecurity{Enforce: "privileged", Warn: "restricted"}, "", `namespace ns enforces Pod Security "privileged"`},
		{"baseline", PodSecurity{Enforce: "baseline"}, `namespace ns enforces Pod Security "baseline", which forbids`,
			`namespace ns enforces Pod Security "baseline"`},
		{"restricted", PodSecurity{Enforce: "restricted"}, `enforces Pod Security "restricted"`, `enforces Pod Security "restricted"`},
		{"a level of another version", PodSecurity{Enforce: "Strict\x1b[31m"}, `enforces Pod Security "Strict [31m"`,
			`enforces Pod Security "Strict [31m"`},
		{"not ours to read", PodSecurity{Err: forbidden}, `can't be read: forbidden: user "me" may not get namespaces in namespace "ns"`,
			"can't be read"},
		{"no answer", PodSecurity{Err: errors.New("connection refused")}, "can't be read: connection refused", "can't be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.security.Namespace = "ns"
			if got := test.security.Forbids(); (got == "") != (test.forbids == "") || !strings.Contains(got, test.forbids) {
				t.Errorf("forbids %q, want %q", got, test.forbids)
			}
			if got := test.security.String(); !strings.Contains(got, test.says) {
				t.Errorf("says %q, want %q", got, test.says)
			}
		})
	}
}

// clusterOf answers as much of an API server's requests as Plan makes.
type clusterOf struct {
	labels  map[string]string
	code    int    // of the namespace, if it is not there to read
	warning string // of a Job
	refusal int    // of a Job, if it is not taken

	mu       sync.Mutex
	requests []string
}

func (c *clusterOf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.requests = append(c.requests, r.Method+" "+r.URL.RequestURI())
	c.mu.Unlock()
	switch {
	case r.Method == http.MethodGet && c.code != 0:
		respond(w, c.code,
			metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(c.code),
				Message: "no"})
	case r.Method == http.MethodGet:
		respond(w, 200,
			corev1.Namespace{TypeMeta: metav1.TypeMeta{Kind: "Namespace", APIVersion: "v1"},
				ObjectMeta: metav1.ObjectMeta{Name: "ns", Labels: c.labels}})
	default:
		w.Header().Set("Warning", fmt.Sprintf("299 - %q", c.warning))
		if c.refusal != 0 {
			respond(w, c.refusal,
				metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
					Code: int32(c.refusal), Message: "no"})
			return
		}
		var j batchv1.Job
		_ = json.NewDecoder(r.Body).Decode(&j)
		respond(w, 201, j)
	}
}

func TestPlan(t *testing.T) {
	const read, dry = "GET /api/v1/namespaces/ns", "POST /apis/batch/v1/namespaces/ns/jobs?dryRun=All"
	const warning = `would violate PodSecurity "baseline:latest": non-default capabilities (container "agent" must not include "BPF", ` +
		`"NET_ADMIN", "PERFMON" in securityContext.capabilities.add)`
	label := func(kind, level string) map[string]string {
		return map[string]string{"pod-security.kubernetes.io/" + kind: level}
	}
	for _, test := range []struct {
		name    string
		ebpf    provider.Switch
		user    string
		cluster *clusterOf // nil: one that allows all and has no labels
		told    string     // the agent
		without string     // part of it; "": nothing
		asked   []string
	}{
		{name: "nothing said", asked: nil},
		{name: "off", ebpf: "off", cluster: &clusterOf{labels: label("enforce", "privileged")}},
		{name: "require asks nobody", ebpf: "require", cluster: &clusterOf{labels: label("enforce", "restricted")}, told: "require"},
		{name: "privileged", ebpf: "auto", cluster: &clusterOf{labels: label("enforce", "privileged"), warning: warning}, told: "auto",
			asked: []string{read}},
		{name: "baseline", ebpf: "auto", cluster: &clusterOf{labels: label("enforce", "baseline")},
			without: `enforces Pod Security "baseline"`, asked: []string{read}},
		{name: "restricted", ebpf: "auto", cluster: &clusterOf{labels: label("enforce", "restricted")},
			without: `enforces Pod Security "restricted"`, asked: []string{read}},
		{name: "not ours to read", ebpf: "auto", cluster: &clusterOf{code: 403}, without: "can't be read: no", asked: []string{read}},
		{name: "no label", ebpf: "auto", told: "auto", asked: []string{read, dry}},
		{name: "no label, and warned of by default", ebpf: "auto", cluster: &clusterOf{warning: warning},
			without: "the API server warns that Pod Security forbids", asked: []string{read, dry}},
		{name: "no label, and warned of something else", ebpf: "auto",
			cluster: &clusterOf{
				warning: `would violate PodSecurity "restricted:latest": runAsNonRoot != true (container "job" must set it)`,
			}, told: "auto", asked: []string{read, dry}},
		{name: "no label, and a webhook that takes no dry run", ebpf: "auto", cluster: &clusterOf{refusal: 400, warning: warning},
			told: "auto", asked: []string{read, dry}},
		{name: "only warns", ebpf: "auto", cluster: &clusterOf{labels: label("warn", "restricted"), warning: warning}, told: "auto",
			asked: []string{read}},
		{name: "the cluster's user", ebpf: "auto", user: job.UserImage, without: "the user is left to the cluster"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.cluster == nil {
				test.cluster = &clusterOf{}
			}
			server := httptest.NewTLSServer(test.cluster)
			defer server.Close()
			config := configOf(server)
			config.ContentType = "application/json"
			p, err := New(Options{Config: config, Name: "k8s",
				Provider: provider.Config{Type: provider.Kubernetes, Namespace: "ns", EBPF: test.ebpf}.WithDefaults()})
			if err != nil {
				t.Fatal(err)
			}
			spec := minimal()
			spec.User = test.user
			j, without, err := p.Plan(t.Context(), spec)
			if err != nil {
				t.Fatal(err)
			}
			agent, _ := containers(j)
			told := ""
			for _, e := range agent.Env {
				if e.Name == contract.EnvEBPF {
					told = e.Value
				}
			}
			if has := len(agent.SecurityContext.Capabilities.Add) > 0; told != test.told || has != (test.told != "") {
				t.Errorf("the agent is told %q, want %q; its capabilities: %v", told, test.told, has)
			}
			if (without == "") != (test.without == "") || !strings.Contains(without, test.without) ||
				j.Annotations[manifest.AnnotationEBPF] != without {
				t.Errorf("without it because %q, want %q; the Job says %q", without, test.without, j.Annotations[manifest.AnnotationEBPF])
			}
			if !slices.Equal(test.cluster.requests, test.asked) {
				t.Errorf("asked %q, want %q", test.cluster.requests, test.asked)
			}
		})
	}
}

// A required eBPF that can't be had is the configuration's fault, and of the agent's word.
func TestEBPFMissing(t *testing.T) {
	for _, test := range []struct{ name, message, want string }{
		{"said", "network: no BTF\x1b[31m\nhere", "eBPF is required, and can't be had: network: no BTF [31m here"},
		{"not said", "", "eBPF is required, and can't be had: the agent has not said why"},
		{"a record is not believed", `{"cause":"Completed"}`, `eBPF is required, and can't be had: {"cause":"Completed"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
				container("agent", "w", terminated(contract.ExitNoEBPF, "Error", test.message)),
				container("job", "i", terminated(125, "Error", "")),
			}}}
			o := podOutcome(pod)
			if o.Cause != job.ConfigError || o.ExitCode() != job.ExitFailed || o.Message != test.want {
				t.Errorf("got %+v", o)
			}
			p := &Provider{settings: manifest.Settings{Provider: "prod"}}
			if hint := p.EBPFHint(o); !strings.Contains(hint, "{hodei} provider set prod --ebpf auto") {
				t.Errorf("hint %q", hint)
			}
		})
	}
	if hint := (&Provider{}).EBPFHint(&job.Outcome{Cause: job.ConfigError, Message: "secret not found"}); hint != "" {
		t.Errorf("a hint for something else: %q", hint)
	}
}
