package cancel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/selection"
)

// fakeAPI is an API server with the jobs a and b, of which no Pod was made, and c, which is over. It keeps what it is
// told.
type fakeAPI struct {
	mu   sync.Mutex
	told []string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path[strings.Index(r.URL.Path, "/namespaces/ns/")+len("/namespaces/ns/"):], "jobs/")
	w.Header().Set("Content-Type", "application/json")
	if r.Method != http.MethodGet {
		f.mu.Lock()
		f.told = append(f.told, strings.ToLower(r.Method)+" "+path)
		f.mu.Unlock()
	}
	jobOf := func(name string) *batchv1.Job {
		spec, _ := json.Marshal(&job.Spec{Name: name, Command: []string{"true"}})
		j := &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: name,
			Namespace: "ns", UID: "1", Annotations: map[string]string{kubernetes.AnnotationSpec: string(spec)}}}
		if name == "c" {
			j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: "True"}}
		}
		return j
	}
	switch {
	case path == "pods":
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"PodList","items":[]}`)
	case path == "jobs":
		list := &batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}
		for _, name := range []string{"a", "b", "c"} {
			list.Items = append(list.Items, *jobOf(name))
		}
		_ = json.NewEncoder(w).Encode(list)
	case slices.Contains([]string{"a", "b", "c"}, path) && r.Method == http.MethodDelete:
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Status","status":"Success"}`)
	case slices.Contains([]string{"a", "b", "c"}, path):
		_ = json.NewEncoder(w).Encode(jobOf(path))
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"NotFound","code":404}`)
	}
}

func TestRun(t *testing.T) {
	const unstarted = " by deleting it: its command has not started"
	for _, test := range []struct {
		name    string
		options Options
		printed []string
		notes   []string
		failed  []string
		told    []string
	}{
		{name: "one that has not started", options: Options{Selection: selection.Selection{Names: []string{"a"}}},
			printed: []string{"a" + unstarted}, told: []string{"patch a", "delete a"}},
		{name: "one that is missing, and another", options: Options{Selection: selection.Selection{Names: []string{"z", "a"}}},
			printed: []string{"a" + unstarted}, failed: []string{`job "z" not found in namespace ns`},
			told: []string{"patch a", "delete a"}},
		{name: "one that is over", options: Options{Selection: selection.Selection{Names: []string{"c"}}},
			notes: []string{"job c has ended already: Unknown (exit 125): the job ended without an exit record"}},
		{name: "all that are not over", options: Options{Selection: selection.Selection{All: true}},
			printed: []string{"a" + unstarted, "b" + unstarted}, told: []string{"delete a", "delete b", "patch a", "patch b"}},
		{name: "by force", options: Options{Selection: selection.Selection{Names: []string{"a"}}, Force: true},
			printed: []string{"a by deleting it at once"}, told: []string{"delete a", "patch a"}},
		{name: "not really", options: Options{Selection: selection.Selection{Names: []string{"a", "c"}}, DryRun: command.DryRunClient},
			printed: []string{"a" + unstarted},
			notes:   []string{"job c has ended already: Unknown (exit 125): the job ended without an exit record"}},
		{name: "checked by the server",
			options: Options{Selection: selection.Selection{Names: []string{"a"}}, DryRun: command.DryRunServer},
			printed: []string{"a" + unstarted}, told: []string{"delete a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := &fakeAPI{}
			o := test.options
			if o.DryRun == "" {
				o.DryRun = command.DryRunNone
			}
			var mu sync.Mutex
			var printed, notes, failed []string
			keep := func(list *[]string, text string) {
				mu.Lock()
				defer mu.Unlock()
				*list = append(*list, text)
			}
			o.Cluster = kubernetestest.Cluster(t, api.ServeHTTP)
			o.Print = func(j *batchv1.Job, how string) error { keep(&printed, j.Name+how); return nil }
			o.Note = func(text string) { keep(&notes, text) }
			o.Fail = func(err error) { keep(&failed, err.Error()) }
			err := o.Run(t.Context())
			exit, ok := errors.AsType[*job.ExitError](err)
			if len(test.failed) > 0 != (err != nil) || err != nil && (!ok || exit.Code != 1) {
				t.Errorf("ended with %v", err)
			}
			slices.Sort(printed)
			slices.Sort(api.told)
			slices.Sort(test.told)
			for _, c := range []struct {
				what      string
				got, want []string
			}{
				{"printed", printed, test.printed}, {"noted", notes, test.notes},
				{"failed", failed, test.failed}, {"told", api.told, test.told},
			} {
				if !slices.Equal(c.got, c.want) {
					t.Errorf("%s %q, want %q", c.what, c.got, c.want)
				}
			}
		})
	}
}

func TestGrace(t *testing.T) {
	found := &kubernetes.Found{Spec: &job.Spec{Grace: 30 * time.Second}}
	if got := (&Options{}).grace(found); got != 30*time.Second {
		t.Errorf("got %s", got)
	}
	if got := (&Options{Grace: new(time.Duration(0))}).grace(found); got != 0 {
		t.Errorf("got %s", got)
	}
}
