package deploy

import (
	"bufio"
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

var strict = serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// objects reads every manifest; a key that Kubernetes doesn't know fails.
func objects(t *testing.T) []runtime.Object {
	t.Helper()
	decode := strict
	var all []runtime.Object
	for _, manifest := range [][]byte{rbac, networkPolicy} {
		reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
		for {
			document, err := reader.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			object, _, err := decode.Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%v in:\n%s", err, document)
			}
			all = append(all, object)
		}
	}
	return all
}

func TestManifests(t *testing.T) {
	namespaces := map[string]bool{"": true}
	kinds := map[string]int{}
	for _, object := range objects(t) {
		kinds[object.GetObjectKind().GroupVersionKind().Kind]++
		o, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		if o.GetLabels()[LabelPartOf] != "hodei" {
			t.Errorf("%s is not labelled as part of hodei", o.GetName())
		}
		if !namespaces[o.GetNamespace()] {
			t.Errorf("%s comes before its namespace %s", o.GetName(), o.GetNamespace())
		}
		switch o := object.(type) {
		case *corev1.Namespace:
			namespaces[o.Name] = true
			for _, mode := range []string{"enforce", "warn", "audit"} {
				if o.Labels["pod-security.kubernetes.io/"+mode] != "restricted" {
					t.Errorf("%s does not %s Pod Security restricted", o.Name, mode)
				}
			}
		case *corev1.ServiceAccount:
			if o.AutomountServiceAccountToken == nil || *o.AutomountServiceAccountToken {
				t.Errorf("%s mounts its token", o.Name)
			}
		case *rbacv1.Role:
			refuseWildcards(t, o.Name, o.Rules)
		case *rbacv1.ClusterRole:
			refuseWildcards(t, o.Name, o.Rules)
		case *networkingv1.NetworkPolicy:
			if !slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) || len(o.Spec.Ingress) > 0 {
				t.Errorf("%s lets something in", o.Name)
			}
		}
	}
	if !namespaces[SystemNamespace] || !namespaces[WorkersNamespace] {
		t.Errorf("namespaces: %v", namespaces)
	}
	for _, kind := range []string{"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "NetworkPolicy"} {
		if kinds[kind] == 0 {
			t.Errorf("no %s", kind)
		}
	}
}

// What package kubernetes asks of the API server, both that ask it may do, and
// nothing else; test/e2e shows that it is enough for either.
func TestRights(t *testing.T) {
	rights, err := Rights(Options{})
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{} // role, resource, verb
	for _, right := range rights {
		for _, verb := range right.Verbs {
			granted[right.Role+" "+right.Group+"/"+right.Resource+" "+verb] = true
		}
	}
	for _, asked := range []string{
		"batch/jobs create get list watch patch delete",
		"/pods list watch delete",
		"/pods/portforward get create",
		"/pods/log get",
		"/secrets create get delete",
		"/namespaces get",
		"/events list watch",
	} {
		resource, verbs, _ := strings.Cut(asked, " ")
		for verb := range strings.FieldsSeq(verbs) {
			for _, role := range []string{"hodei-user", "hodei-control-plane-role"} {
				right := role + " " + resource + " " + verb
				if !granted[right] {
					t.Errorf("not granted: %s", right)
				}
				delete(granted, right)
			}
		}
	}
	for right := range granted {
		if !strings.HasPrefix(right, "hodei-jobs-worker-role ") {
			t.Errorf("granted, and asked by nobody: %s", right)
		}
	}
	for _, right := range rights {
		want := map[string]string{
			"hodei-jobs-worker-role":   "hodei-jobs-workers/hodei-jobs-worker",
			"hodei-control-plane-role": "hodei-system/hodei-control-plane",
			"hodei-user":               "",
		}
		if subject, ok := want[right.Role]; !ok || right.Subject != subject {
			t.Errorf("%s is bound to %q, want %q", right.Role, right.Subject, subject)
		}
	}
}

func TestRightsElsewhere(t *testing.T) {
	rights, err := Rights(Options{WorkersNamespace: "build"})
	if err != nil {
		t.Fatal(err)
	}
	if r := rights[0]; r.Namespace != "build" || r.Subject != "build/hodei-jobs-worker" || !slices.Equal(r.Verbs, []string{"get"}) {
		t.Errorf("%+v", r)
	}
	if _, err := Rights(Options{WorkersNamespace: SystemNamespace}); err == nil {
		t.Error("the coordinator's namespace was taken for the workers")
	}
}

func TestRuleWithoutReason(t *testing.T) {
	manifest := strings.Replace(string(rbac), "# Why a Pod waits.\n", "", 1)
	_, err := rights([]byte(manifest), WorkersNamespace)
	if err == nil || !strings.Contains(err.Error(), "no comment above the rule gives its reason") ||
		!strings.Contains(err.Error(), "Role hodei-control-plane-role: line ") {
		t.Errorf("error %v", err)
	}
}

func refuseWildcards(t *testing.T, name string, rules []rbacv1.PolicyRule) {
	t.Helper()
	for _, rule := range rules {
		if slices.Contains(slices.Concat(rule.Verbs, rule.Resources, rule.APIGroups), "*") {
			t.Errorf("%s grants everything: %v", name, rule)
		}
	}
}
