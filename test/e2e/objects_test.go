package e2e

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// objects are all of the cluster's that are in a namespace of hodei's or in none,
// by kind and name, as JSON without what no two have in common.
func objects(t *testing.T, namespaces ...string) map[string]string {
	t.Helper()
	quiet := rest.CopyConfig(config)
	quiet.WarningHandlerWithContext = rest.NoWarnings{} // of kinds that are on their way out
	everything, err := dynamic.NewForConfig(quiet)
	if err != nil {
		t.Fatal(err)
	}
	lists, err := client.Discovery().ServerPreferredResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			// Their content changes by itself.
			if !slices.Contains(r.Verbs, "list") || slices.Contains([]string{"Event", "Node", "Lease", "ComponentStatus"}, r.Kind) {
				continue
			}
			places := namespaces
			if !r.Namespaced {
				places = []string{""}
			}
			for _, namespace := range places {
				all, err := everything.Resource(version.WithResource(r.Name)).Namespace(namespace).List(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for i := range all.Items {
					o := &all.Items[i]
					found[strings.Trim(o.GetKind()+" "+o.GetNamespace()+"/"+o.GetName(), " ")] = normal(t, o)
				}
			}
		}
	}
	return found
}

func normal(t *testing.T, o *unstructured.Unstructured) string {
	t.Helper()
	entries := o.GetManagedFields()
	for i := range entries {
		entries[i].Time = nil
	}
	o.SetManagedFields(entries)
	for _, field := range []string{"uid", "resourceVersion", "creationTimestamp", "generation"} {
		unstructured.RemoveNestedField(o.Object, "metadata", field)
	}
	data, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// withoutFields leaves fields of the metadata out.
func withoutFields(t *testing.T, objects map[string]string, fields ...string) map[string]string {
	t.Helper()
	left := map[string]string{}
	for name, text := range objects {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		for _, field := range fields {
			unstructured.RemoveNestedField(o.Object, "metadata", field)
		}
		left[name] = normal(t, o)
	}
	return left
}

// sameObjects names every object by which two looks differ.
func sameObjects(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	names := maps.Clone(got)
	maps.Copy(names, want)
	for name := range names {
		switch g, w := got[name], want[name]; {
		case g == "":
			t.Errorf("%s: %s is not there", what, name)
		case w == "":
			t.Errorf("%s: %s is there", what, name)
		case g != w:
			t.Errorf("%s: %s is\n%s\nwant\n%s", what, name, g, w)
		}
	}
}
