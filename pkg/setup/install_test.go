package setup

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

// bareServer is a cluster that has nothing of hodei but a network policy of an older
// version, and takes what is applied.
func bareServer(t *testing.T, objects []*unstructured.Unstructured) setuptest.Server {
	t.Helper()
	const policies = "/apis/networking.k8s.io/v1/namespaces/hodei-jobs-workers/networkpolicies"
	server := setuptest.Server{
		"POST /api/v1/namespaces": `{"kind":"Namespace","apiVersion":"v1"}`,
		"GET " + policies: `{"kind":"NetworkPolicyList","apiVersion":"networking.k8s.io/v1","items":[
			{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1",
				"metadata":{"name":"of-old","namespace":"hodei-jobs-workers","uid":"1",
					"managedFields":[{"manager":"hodei","operation":"Apply"}]}},
			{"kind":"NetworkPolicy","apiVersion":"networking.k8s.io/v1",
				"metadata":{"name":"mine","namespace":"hodei-jobs-workers","uid":"2"}}]}`,
		"DELETE " + policies + "/of-old": `{"kind":"Status","apiVersion":"v1","status":"Success"}`,
	}
	for _, kind := range prunable {
		resource := manifestResources[kind.kind]
		for _, namespace := range []string{"", "hodei-system", "hodei-jobs-workers"} {
			list := "GET " + path(kind.kind, namespace)
			if _, there := server[list]; !there {
				server[list] = `{"kind":"` + kind.kind + `List","apiVersion":"` + resource.GroupVersion().String() + `","items":[]}`
			}
		}
	}
	for _, object := range objects {
		data, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		server["PATCH "+path(object.GetKind(), object.GetNamespace())+"/"+object.GetName()] = string(data)
	}
	return server
}

// path is where the API keeps objects of a kind.
func path(kind, namespace string) string {
	resource := manifestResources[kind]
	root := "/apis/" + resource.GroupVersion().String()
	if resource.Group == "" {
		root = "/api/" + resource.Version
	}
	if namespace != "" {
		root += "/namespaces/" + namespace
	}
	return root + "/" + resource.Resource
}

// What is planned is what is applied, in the order of the manifests, and what an older
// version has left goes.
func TestInstall(t *testing.T) {
	objects, err := deploy.Objects(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, object := range objects {
		want = append(want, describe(object))
	}
	const stale = "networkpolicy of-old in namespace hodei-jobs-workers"
	i := &Installer{Client: client(t, bareServer(t, objects))}
	plan, err := i.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := plan.Differing(); err != nil || !slices.Equal(got, append(slices.Clone(want), stale)) {
		t.Errorf("differing: %q, error %v", got, err)
	}
	diff, err := plan.Diff()
	for _, line := range []string{
		"+++ installed/namespace/hodei-system\n", "+    hodei.io/created-by: hodei\n", "--- live/hodei-jobs-workers/networkpolicy/of-old\n",
	} {
		if err != nil || !strings.Contains(string(diff), line) {
			t.Errorf("no line %q, error %v, in\n%s", line, err, diff)
		}
	}
	var applied, pruned []string
	err = i.Apply(t.Context(), plan, func(object *unstructured.Unstructured) error {
		applied = append(applied, describe(object))
		return nil
	})
	if err != nil || !slices.Equal(applied, want) {
		t.Errorf("applied %q, error %v", applied, err)
	}
	err = i.Prune(t.Context(), plan, func(object *unstructured.Unstructured) error {
		pruned = append(pruned, describe(object))
		return nil
	})
	if err != nil || !slices.Equal(pruned, []string{stale}) {
		t.Errorf("pruned %q, error %v", pruned, err)
	}
}

// A text in the cluster that could command a terminal is escaped in a diff, on both sides alike.
func TestDiffHostile(t *testing.T) {
	object := func(name, value string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": name, "annotations": map[string]any{"a": value}},
		}}
	}
	for _, hostile := range []string{"\u009b2J", "\x7f", "\u202eb", "\uffff", "\x1b[2J"} {
		plan := &Plan{
			Steps: []Step{{Live: object("x", hostile), Result: object("x", "ours")}},
			Prune: []*unstructured.Unstructured{object(hostile, "")},
		}
		diff, err := plan.Diff()
		if err != nil || strings.ContainsFunc(string(diff), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
			t.Errorf("%q: %q, error %v", hostile, diff, err)
		}
		if n := strings.Count(string(diff), "\n+"); n != 3 { // two headers, and what differs
			t.Errorf("%q: %d lines are added in\n%s", hostile, n, diff)
		}
	}
}

// Whoever is told can end it.
func TestApplyStops(t *testing.T) {
	objects, err := deploy.Objects(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	i := &Installer{Client: client(t, bareServer(t, objects))}
	plan, err := i.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	full, calls := errors.New("disk full"), 0
	err = i.Apply(t.Context(), plan, func(*unstructured.Unstructured) error {
		calls++
		return full
	})
	if !errors.Is(err, full) || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}
