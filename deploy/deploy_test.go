package deploy

import (
	"bufio"
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

// objects reads every manifest; a key that Kubernetes doesn't know fails.
func objects(t *testing.T) []runtime.Object {
	t.Helper()
	decode := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	var all []runtime.Object
	for _, manifest := range Manifests {
		reader := yaml.NewYAMLReader(bufio.NewReader(strings.NewReader(manifest)))
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
		if o.GetLabels()["app.kubernetes.io/part-of"] != "hodei" {
			t.Errorf("%s is not labelled as part of hodei", o.GetName())
		}
		if !namespaces[o.GetNamespace()] {
			t.Errorf("%s comes before its namespace %s", o.GetName(), o.GetNamespace())
		}
		switch o := object.(type) {
		case *corev1.Namespace:
			namespaces[o.Name] = true
			if o.Name == WorkersNamespace && o.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				t.Errorf("%s does not enforce Pod Security restricted", o.Name)
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

// What hodei asks of the API server, a person with hodei-user may do.
func TestUserRights(t *testing.T) {
	var rules []rbacv1.PolicyRule
	for _, object := range objects(t) {
		if role, ok := object.(*rbacv1.ClusterRole); ok && role.Name == "hodei-user" {
			rules = role.Rules
		}
	}
	for _, right := range []struct{ group, resource, verbs string }{
		{"batch", "jobs", "create get list watch patch delete"},
		{"", "pods", "get list watch delete"},
		{"", "pods/portforward", "get create"},
		{"", "pods/log", "get"},
		{"", "secrets", "create delete get"},
		{"", "events", "list watch"},
	} {
		for verb := range strings.FieldsSeq(right.verbs) {
			if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool {
				return slices.Contains(r.APIGroups, right.group) && slices.Contains(r.Resources, right.resource) && slices.Contains(r.Verbs, verb)
			}) {
				t.Errorf("it may not %s %s", verb, right.resource)
			}
		}
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
