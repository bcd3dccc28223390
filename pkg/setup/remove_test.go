package setup

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/setup/setuptest"
)

func TestReleasedFields(t *testing.T) {
	const entry = `{"manager":"MANAGER","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:annotations":{".":{},` +
		`"f:kubectl.kubernetes.io/last-applied-configuration":{}},"f:labels":{".":{},"f:PARTOF":{},` +
		`"f:pod-security.kubernetes.io/enforce":{}}}}}`
	for _, test := range []struct {
		name, manager, partOf string
		want                  []string
	}{
		{"kubectl apply of the manifests", "kubectl-client-side-apply", deploy.LabelPartOf,
			[]string{"annotations kubectl.kubernetes.io/last-applied-configuration", "labels pod-security.kubernetes.io/enforce"}},
		{"kubectl apply of something else", "kubectl-client-side-apply", "team", nil},
		{"kubectl label", "kubectl-label", deploy.LabelPartOf, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			namespace := &metav1.PartialObjectMetadata{}
			text := `{"metadata":{"managedFields":[` + strings.NewReplacer("MANAGER", test.manager, "PARTOF",
				test.partOf).Replace(entry) + `]}}`
			if err := json.Unmarshal([]byte(text), namespace); err != nil {
				t.Fatal(err)
			}
			var got []string
			for field, removed := range releasedFields(namespace) {
				for name := range removed.(map[string]any) {
					got = append(got, field+" "+name)
				}
			}
			want := slices.Concat(test.want, []string{"labels " + deploy.LabelName, "labels " + deploy.LabelPartOf})
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
}

// What holds a namespace back is said.
func TestUninstallAwait(t *testing.T) {
	namespace := func(name string) Removal {
		kind := listableKind{manifestResources["Namespace"], "Namespace"}
		return Removal{
			Object:   metadataOf(kind.resource.GroupVersion().WithKind(kind.kind), &metav1.ObjectMeta{Name: name, UID: "1"}),
			resource: kind.resource,
		}
	}
	pods := `{"kind":"PodList","apiVersion":"v1","items":[{"metadata":{"name":"p"}}]}`
	none := `{"kind":"SecretList","apiVersion":"v1","items":[]}`
	for _, test := range []struct {
		name   string
		server setuptest.Server
		want   string // "": all is gone
	}{
		{"gone", setuptest.Server{"GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"made anew", setuptest.Server{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"2"}}`,
			"GET /api/v1/namespaces/kept/pods": none, "GET /api/v1/namespaces/kept/secrets": none}, ""},
		{"still there",
			setuptest.Server{"GET /api/v1/namespaces/a": `{"kind":"Namespace","apiVersion":"v1","metadata":{"uid":"1"},` +
				`"status":{"conditions":[{"type":"A","status":"False","message":"fine"},{"type":"B","status":"True",` +
				`"message":"pods. has 1"}]}}`},
			"still there after 2s: namespace a (pods. has 1); the cluster goes on deleting"},
		{"pods of jobs", setuptest.Server{"GET /api/v1/namespaces/kept/pods": pods, "GET /api/v1/namespaces/kept/secrets": none},
			"still there after 2s: pods and secrets of jobs in namespace kept (1); the cluster goes on deleting"},
		{"an API server with a bad second", setuptest.Server{"GET /api/v1/namespaces/a": "500 etcdserver: leader changed"},
			"still there after 2s: etcdserver: leader changed; the cluster goes on deleting"},
		{"refused", setuptest.Server{"GET /api/v1/namespaces/a": "403 not you"}, "not you"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if strings.Contains(test.want, "2s") {
				timeout = 2 * time.Second
			}
			u := &Uninstaller{Client: client(t, test.server)}
			err := u.Await(t.Context(), &Found{Removals: []Removal{namespace("a")}, Released: []Removal{namespace("kept")}}, timeout)
			if test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}
