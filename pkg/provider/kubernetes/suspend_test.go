package kubernetes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// The end of a Pod may be seen before the suspension that brought it about.
func TestSuspendedUnseen(t *testing.T) {
	another := suspended("")
	another.UID = otherJob.UID
	for _, test := range []struct {
		name   string
		job    *batchv1.Job // nil: the cluster does not say
		change func(*corev1.Pod)
		gone   bool
		want   string
	}{
		{"suspended", suspended(""), isDeleted, false, "outcome Preempted 0: " + suspendedByHand},
		{"suspended, and the Pod is gone", suspended(""), isDeleted, true, "outcome Preempted 0: " + suspendedByHand},
		{"a Pod that nobody deleted", suspended(""), func(*corev1.Pod) {}, false,
			"outcome AgentLost 0: the agent ended with exit code 137 (Error)"},
		{"not suspended", thisJob, isDeleted, false, "outcome AgentLost 0: the agent ended with exit code 137 (Error)"},
		{"another of the name", another, isDeleted, false, "outcome AgentLost 0: the agent ended with exit code 137 (Error)"},
		{"no answer", nil, isDeleted, false, "outcome AgentLost 0: the agent ended with exit code 137 (Error)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.job == nil || r.URL.Path != "/apis/batch/v1/namespaces/ns/jobs/x" {
					http.Error(w, "no", http.StatusForbidden)
					return
				}
				w.Header().Set("Content-Type", "application/json")
				j := test.job.DeepCopy()
				j.APIVersion, j.Kind = "batch/v1", "Job"
				if err := json.NewEncoder(w).Encode(j); err != nil {
					t.Error(err)
				}
			}))
			defer server.Close()
			p, err := New(Options{Config: &rest.Config{Host: server.URL}, Name: "k8s", Provider: provider.Config{Namespace: "ns"}})
			if err != nil {
				t.Fatal(err)
			}
			w, _ := testWatcher(t, 0)
			w.run.provider, w.started = p, true
			w.attempts["x-1"] = &attempt{bound: true, ran: true}
			pod := podOf(thisJob, "x-1", runs, test.change)
			if !test.gone {
				with(terminated(137, "Error", ""), terminated(137, "Error", ""))(pod)
				pod.Status.Phase = corev1.PodFailed
			}
			o, err := w.take(t.Context(), podUpdate{pod, test.gone})
			if got := endText(o, err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestSuspendedWords(t *testing.T) {
	queued := jobWith()
	queued.Labels = map[string]string{manifest.LabelQueue: "team-a"}
	for _, test := range []struct {
		name    string
		job     *batchv1.Job
		retries int32
		want    string
	}{
		{"by hand", jobWith(), 0, suspendedByHand},
		{"by hand, with retries", jobWith(), 1, suspendedUnderWay},
		{"by its queue", queued, 0, suspendedUnderWay},
	} {
		r := &Run{job: test.job, spec: &job.Spec{Retries: test.retries}}
		if got := r.suspendedWords(); got != test.want {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

func TestResumeHint(t *testing.T) {
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		want    string
	}{
		{"suspended", *suspendedOutcome(podOf(thisJob, "x-1"), suspendedUnderWay), "follow it on: {hodei} attach x"},
		{"suspended, and ended by it", *suspendedOutcome(podOf(thisJob, "x-1"), suspendedByHand), ""},
		{"preempted", job.Outcome{Cause: job.Preempted, Message: "Preempted in order to admit critical pod"}, ""},
		{"another cause", job.Outcome{Cause: job.Error, Message: suspendedUnderWay}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := ResumeHint(&test.outcome, "x"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFoundSuspended(t *testing.T) {
	found := func(labels map[string]string, suspend *bool) *Found {
		return &Found{Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "ns", Labels: labels},
			Spec: batchv1.JobSpec{Suspend: suspend}}}
	}
	for _, test := range []struct {
		found *Found
		hint  string // empty: it is not suspended
	}{
		{found(nil, nil), ""}, {found(nil, new(false)), ""},
		{found(nil, new(true)), `resume it: kubectl patch job x -n ns --type merge -p '{"spec":{"suspend":false}}'`},
		{found(map[string]string{manifest.LabelQueue: "q"}, new(true)), "{hodei} wait --for running x"},
	} {
		err := test.found.Suspended()
		if (err != nil) != (test.hint != "") || err != nil && job.HintOf(err) != test.hint {
			t.Errorf("%v, hint %q, want %q", err, job.HintOf(err), test.hint)
		}
	}
}
