package setup

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Entries as an API server (1.35) has written them.
const (
	byHodei = `{"manager":"hodei","operation":"Apply","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:labels":{"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{}}}}}`
	byCreate = `{"manager":"kubectl-create","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}}}}`
	byFlux = `{"manager":"flux","operation":"Apply","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:labels":{"f:team":{}}}}}`
	byFluxBare = `{"manager":"before-first-apply","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}},"f:spec":{"f:finalizers":{}}}}`
	byLabel = `{"manager":"kubectl-label","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:labels":{"f:x":{}}}}}`
	byKubectl = `{"manager":"kubectl-client-side-apply","operation":"Update","apiVersion":"v1","time":"TIME","fieldsType":"FieldsV1",` +
		`"fieldsV1":{"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},` +
		`"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/part-of":{},"f:kubernetes.io/metadata.name":{}}}}}`
	byController = `{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"TIME","subresource":"status",` +
		`"fieldsType":"FieldsV1","fieldsV1":{"f:status":{"f:conditions":{}}}}`
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
			text := `{"metadata":{"creationTimestamp":"` + at + `","annotations":` + test.annotations + `,"managedFields":[` +
				strings.Join(test.entries, ",") + `]}}`
			if err := json.Unmarshal([]byte(text), namespace); err != nil {
				t.Fatal(err)
			}
			if got := madeByHodei(namespace); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}
