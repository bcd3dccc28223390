package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// listed are four jobs as an API server lists them, by their names.
func listed() []row {
	made := func(name string, age time.Duration, status batchv1.JobStatus, pod *corev1.Pod) row {
		j := &batchv1.Job{Status: status}
		j.Name, j.Namespace, j.CreationTimestamp = name, "ns", metav1.NewTime(noon.Add(-age))
		return newRow(j, pod, noon)
	}
	running := podWith(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	complete := condition(batchv1.JobComplete)
	complete.Succeeded = 1
	failed := condition(batchv1.JobFailed)
	failed.Failed = 11
	return []row{
		made("a", time.Hour, complete, nil),
		made("b", time.Minute, batchv1.JobStatus{Active: 1}, running),
		made("c", 2*time.Hour, failed, nil),
		made("d", time.Minute, batchv1.JobStatus{Active: 1}, heldBy("istio-proxy")),
	}
}

func namesOf(rows []row) string {
	var names []string
	for _, r := range rows {
		names = append(names, r.job.Name)
	}
	return strings.Join(names, " ")
}

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		name    string
		options Options
		want    string
		missing string
	}{
		{"all, the latest first", Options{}, "b d a c", ""},
		{"in the order of the names", Options{names: []string{"c", "nope", "a", "b"}}, "c a b", "nope"},
		{"of one status", Options{statuses: []string{"running"}}, "b", ""},
		{"of several", Options{statuses: []string{"FAILED", "Complete"}}, "a c", ""},
		{"held by any container", Options{statuses: []string{"heldby"}}, "d", ""},
		{"of no job's status", Options{statuses: []string{"ImagePullBackOff"}}, "", ""},
		{"made since", Options{from: noon.Add(-time.Hour)}, "b d a", ""},
		{"made since, and failed", Options{from: noon.Add(-time.Hour), statuses: []string{"Failed"}}, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			rows := test.options.choose(listed())
			if got := namesOf(rows); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if got := strings.Join(test.options.missing(rows), " "); got != test.missing {
				t.Errorf("missing %q, want %q", got, test.missing)
			}
		})
	}
}

// Every word that the column shows for itself is one that --status takes.
func TestCheckStatus(t *testing.T) {
	for _, r := range listed() {
		if word, _, _ := strings.Cut(statusOf(r.job, r.pod), ":"); !slices.Contains(statuses, word) {
			t.Errorf("the column shows %s, which is not listed", word)
		}
	}
	for word, ok := range map[string]bool{
		"running": true, "STARTTIMEOUT": true, "ErrImagePull": true, "imagepullbackoff": true, "runing": false, "": false,
	} {
		if err := checkStatus(word); (err == nil) != ok {
			t.Errorf("%q: %v", word, err)
		}
	}
}

func TestSortBy(t *testing.T) {
	for _, test := range []struct {
		by, want, err string
	}{
		{".metadata.name", "a b c d", ""},
		{"metadata.name", "a b c d", ""},
		{"{.metadata.creationTimestamp}", "c a b d", ""},
		{".status.failed", "b d a c", ""}, // those without it stay in their order
		{".status.active", "a c b d", ""},
		{".status.conditions[0].type", "b d a c", ""},
		{".metadata.nope", "", `couldn't find any field with path "{.metadata.nope}" in the list of objects`},
		{".metadata", "", "--sort-by {.metadata}: job b has no single value there"},
		{".status.conditions", "", "--sort-by {.status.conditions}: job a has no single value there"},
	} {
		t.Run(test.by, func(t *testing.T) {
			f, err := parseField(test.by)
			if err != nil {
				t.Fatal(err)
			}
			rows := (&Options{}).choose(listed())
			err = f.sort(rows)
			if test.err != "" {
				if err == nil || err.Error() != test.err || job.HintOf(err) == "" {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if got := namesOf(rows); err != nil || got != test.want {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
	for _, bad := range []string{"{.metadata.name", "{.x[}"} {
		if _, err := parseField(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if err := (field{}).sort(listed()); err != nil {
		t.Error(err)
	}
}

func TestCompareValues(t *testing.T) {
	for _, test := range []struct {
		a, b any
		want int
	}{
		{nil, nil, 0}, {nil, "a", -1}, {"a", nil, 1}, {"a", "b", -1},
		{int64(9), int64(10), -1}, {1.5, int64(1), 1}, {"1Gi", "512Mi", 1}, {"9", "10", -1}, {"1Gi", "b", -1}, {false, true, -1},
	} {
		if got := compareValues(test.a, test.b); got != test.want {
			t.Errorf("%v and %v: got %d, want %d", test.a, test.b, got, test.want)
		}
	}
}

// TestNames shows the jobs that are there, tells of those that are not, and fails.
func TestNames(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		list := &batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}
		if !strings.HasSuffix(r.URL.Path, "/pods") {
			for _, row := range listed() {
				list.Items = append(list.Items, *row.job)
			}
		}
		_ = json.NewEncoder(w).Encode(list)
	}))
	defer server.Close()
	client, err := clientset.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var said []string
	o := &Options{
		Out: &out, client: client, namespace: "ns", table: true, names: []string{"nope", "c", "a", "neither"},
		printer:   printers.NewTablePrinter(printers.PrintOptions{NoHeaders: true}),
		width:     func() int { return 0 },
		openStore: func() (*place.Store, error) { return nil, errors.New("there is none") },
		showError: func(err error) { said = append(said, err.Error()) },
	}
	err = o.Run(t.Context())
	if exit, ok := errors.AsType[*job.ExitError](err); !ok || exit.Code != 1 || exit.Err != nil {
		t.Errorf("ended with %v", err)
	}
	want := `[job "nope" not found in namespace ns job "neither" not found in namespace ns]`
	if got := fmt.Sprint(said); got != want {
		t.Errorf("said %s, want %s", got, want)
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		names = append(names, strings.Fields(line)[0])
	}
	if got := strings.Join(names, " "); got != "c a" {
		t.Errorf("shows %q", got)
	}
}
