package submission

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/session"
)

func TestStanding(t *testing.T) {
	ran := []job.Event{{Phase: job.Running}}
	for _, test := range []struct {
		found kubernetes.Found
		want  string
	}{
		{kubernetes.Found{}, "the cluster has not seen it start"},
		{kubernetes.Found{Attempts: []kubernetes.Attempt{{}}}, "the cluster has not seen it start"},
		{kubernetes.Found{Attempts: []kubernetes.Attempt{{Running: true, Phases: ran}}}, "it runs"},
		{kubernetes.Found{Attempts: []kubernetes.Attempt{{Running: true, Left: true, Phases: ran}}},
			"its command has ended, and its Pod waits for somebody to fetch the output"},
		{kubernetes.Found{Attempts: []kubernetes.Attempt{{Ended: true, Outcome: &job.Outcome{Cause: job.Error, Code: 7}, Phases: ran}}},
			"its latest attempt has ended (exit 7)"},
		{kubernetes.Found{Finished: true, Outcome: &job.Outcome{Cause: job.Error, Code: 7, Message: "\x1b[2Jno"}},
			"it has ended (exit 7: [2Jno)"},
	} {
		if got := standing(&test.found); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// cluster is an API server with one job and its Pod, both of which go when the Job is deleted.
type cluster struct {
	mu   sync.Mutex
	job  *batchv1.Job
	told []string // what was deleted
	pod  *corev1.Pod
	exec string // the job that Secret x-exec belongs to; empty: there is none
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := func(code int, o any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(o)
	}
	_, path, _ := strings.Cut(r.URL.Path, "/namespaces/ns/")
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodDelete:
		c.told = append(c.told, path)
		if path == "jobs/x" {
			c.job, c.pod = nil, nil
		}
		answer(http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
	case r.Method == http.MethodPatch:
		c.told = append(c.told, "note "+path)
		answer(http.StatusOK, c.job)
	case query.Get("sendInitialEvents") != "":
		answer(http.StatusUnprocessableEntity, metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: 422})
	case query.Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		c.mu.Unlock()
		<-r.Context().Done()
		c.mu.Lock()
	case path == "jobs/x" && c.job != nil:
		answer(http.StatusOK, c.job)
	case path == "secrets/x-exec" && c.exec != "":
		owner := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: c.exec, UID: "owner"}}
		answer(http.StatusOK, corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: "x-exec", Namespace: "ns", OwnerReferences: []metav1.OwnerReference{
				*metav1.NewControllerRef(owner, batchv1.SchemeGroupVersion.WithKind("Job"))}}})
	case path == "jobs":
		list := batchv1.JobList{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "JobList"}}
		if list.ResourceVersion = "1"; c.job != nil {
			list.Items = append(list.Items, *c.job)
		}
		answer(http.StatusOK, list)
	case path == "pods":
		list := corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
		if list.ResourceVersion = "1"; c.pod != nil {
			list.Items = append(list.Items, *c.pod)
		}
		answer(http.StatusOK, list)
	default:
		answer(http.StatusNotFound, metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonNotFound, Code: 404,
			Message: path + " not found"})
	}
}

// named returns a Job of hodei's and its Pod.
func named(t *testing.T, spec *job.Spec) (*batchv1.Job, *corev1.Pod) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: spec.Name, Namespace: "ns", UID: "old",
		Annotations: map[string]string{"hodei.io/spec": string(text)}}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: spec.Name + "-1", Namespace: "ns", UID: "pod",
		Labels:          map[string]string{kubernetes.LabelJob: spec.Name},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(j, batchv1.SchemeGroupVersion.WithKind("Job"))}}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{
		{Name: "job", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}},
	}
	return j, pod
}

func TestReplace(t *testing.T) {
	ended := func(c *cluster) {
		c.job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	}
	for _, test := range []struct {
		name   string
		off    bool
		change func(*cluster)
		told   string
		said   string
		err    string
	}{
		{name: "not asked for", off: true},
		{name: "there is none", change: func(c *cluster) { c.job = nil }},
		{name: "one that runs", told: "[note jobs/x jobs/x]", said: "deleting job x first: it runs"},
		{name: "one that has ended", change: ended, told: "[jobs/x pods/x-1]",
			said: "deleting job x first: it has ended (Unknown (exit 125)"},
		{name: "one that allows exec, as this one does", change: func(c *cluster) { c.exec = "x" },
			told: "[note jobs/x jobs/x]", said: "deleting job x first: it runs"},
		{name: "one beside a job x-exec", change: func(c *cluster) { c.exec = "x-exec" },
			err: `job x can't allow exec: it needs a secret "x-exec", and that is job x-exec's`},
		{name: "one of somebody else", change: func(c *cluster) { c.job.Annotations = nil }, err: `job "x" was not made by hodei`},
	} {
		t.Run(test.name, func(t *testing.T) {
			there := &cluster{}
			there.job, there.pod = named(t, &job.Spec{Name: "x", Command: []string{"true"}})
			if test.change != nil {
				test.change(there)
			}
			c := &Config{Replace: !test.off, Teller: session.Teller{Spec: &job.Spec{Name: "x", Exec: true},
				Place: place.Cluster{Provider: kubernetestest.Cluster(t, there.ServeHTTP)}}}
			said := ""
			err := c.replace(t.Context(), func(text string) { said = text })
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.HasPrefix(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if !strings.HasPrefix(said, test.said) || (said == "") != (test.said == "") {
				t.Errorf("said %q, want %q", said, test.said)
			}
			slices.Sort(there.told[min(len(there.told), 1):]) // the rest is deleted at the same time
			if got := fmt.Sprint(there.told); got != cmp.Or(test.told, "[]") {
				t.Errorf("told %s, want %s", got, test.told)
			}
		})
	}
}

// A job whose Pod stays is not waited for for ever, and not after a Ctrl-C.
func TestAwaitGone(t *testing.T) {
	there := &cluster{}
	_, there.pod = named(t, &job.Spec{Name: "x"})
	at := place.Cluster{Provider: kubernetestest.Cluster(t, there.ServeHTTP)}
	old, _ := named(t, &job.Spec{Name: "x"})
	found := &kubernetes.Found{Job: old, Spec: &job.Spec{Name: "x"}}
	err := awaitGone(t.Context(), at, found, time.Millisecond)
	if err == nil || err.Error() != "job x was deleted to be replaced, and is not gone after 1ms" ||
		job.HintOf(err) != "see what is left: kubectl get pods -n ns -l hodei.io/job=x -o wide" {
		t.Errorf("got %v, hint %q", err, job.HintOf(err))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := awaitGone(ctx, at, found, time.Hour); err != context.Canceled {
		t.Errorf("interrupted: %v", err)
	}
}
