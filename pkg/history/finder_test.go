package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history/historytest"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Cluster and store know of different attempts, and the store of other jobs of the
// name.
func TestKnown(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []logstore.Key{
		{Job: "x", JobUID: "before", Attempt: "x-0", AttemptUID: "0"},
		{Job: "x", JobUID: "now", Attempt: "x-1", AttemptUID: "1"},
		{Job: "x", JobUID: "now", Attempt: "x-2", AttemptUID: "2"},
		{Job: "y", JobUID: "now", Attempt: "y-1", AttemptUID: "4"},
	} {
		key.Namespace = "ns"
		log, err := kept.Create(key, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f := &Finder{Store: kept, Namespace: "ns"}
	found := &kubernetes.Found{
		Job: &batchv1.Job{ObjectMeta: metav1.ObjectMeta{UID: "now"}}, Spec: &job.Spec{Name: "x"},
		Attempts: []kubernetes.Attempt{{Name: "x-2", UID: "2"}, {Name: "x-3", UID: "3"}},
	}
	names := func(j *Job) (names []string) {
		for _, a := range j.Attempts {
			name := a.Name
			if a.Pod != nil {
				name += " pod"
			}
			if a.Stored != nil {
				name += " stored"
			}
			names = append(names, name)
		}
		return names
	}
	if got, want := names(f.Known(found)), []string{"x-1 stored", "x-2 pod stored", "x-3 pod"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	gone, err := f.Find(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := names(gone), []string{"x-1 stored", "x-2 stored"}; !slices.Equal(got, want) {
		t.Errorf("without a cluster: got %q, want %q", got, want)
	}
}

// What is stored of a job's only attempt is better than an end that the cluster knows
// nothing of; of one among several it is not.
func TestEndOf(t *testing.T) {
	unknown, oom := &job.Outcome{Cause: job.Unknown}, &job.Outcome{Cause: job.OOMKilled}
	evicted := &job.Outcome{Cause: job.Evicted}
	failed := func(n int32) *batchv1.Job { return &batchv1.Job{Status: batchv1.JobStatus{Failed: n}} }
	for _, test := range []struct {
		name     string
		found    kubernetes.Found
		attempts []*job.Outcome
		want     job.Cause
	}{
		{"its record is stored", kubernetes.Found{Job: failed(1), Finished: true, Outcome: unknown}, []*job.Outcome{oom}, job.OOMKilled},
		{"nothing is", kubernetes.Found{Job: failed(1), Finished: true, Outcome: unknown}, []*job.Outcome{nil}, job.Unknown},
		{"the cluster knows", kubernetes.Found{Job: failed(1), Finished: true, Outcome: evicted}, []*job.Outcome{oom}, job.Evicted},
		{"two attempts", kubernetes.Found{Job: failed(2), Finished: true, Outcome: unknown}, []*job.Outcome{evicted, oom}, job.Unknown},
		{"one of two is known", kubernetes.Found{Job: failed(2), Finished: true, Outcome: unknown}, []*job.Outcome{oom}, job.Unknown},
		{"it runs", kubernetes.Found{Job: failed(1)}, []*job.Outcome{oom}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := EndOf(&test.found, len(test.attempts), test.attempts[len(test.attempts)-1])
			if (got == nil) != (test.want == "") || got != nil && got.Cause != test.want {
				t.Errorf("got %+v, want %s", got, test.want)
			}
		})
	}
}

// The latest runs count, and no more of them than are read at once.
func TestRunsBounded(t *testing.T) {
	c := Command{}
	for i := range 3 * maxPastRuns {
		c.Runs = append(c.Runs, job.Run{Attempt: fmt.Sprint(i),
			Outcome: &job.Outcome{Finished: historytest.Start.Add(time.Duration(i) * time.Minute)}})
	}
	c.Runs = append(c.Runs, job.Run{Attempt: "unknown"}, job.Run{Attempt: "phases",
		Phases: []job.Event{{Time: historytest.Start.Add(1000 * time.Hour)}}})
	c.settle()
	if len(c.Runs) != maxPastRuns || c.Runs[0].Attempt != "phases" || c.Runs[1].Attempt != fmt.Sprint(3*maxPastRuns-1) {
		t.Errorf("%d runs, the first %s, %s", len(c.Runs), c.Runs[0].Attempt, c.Runs[1].Attempt)
	}
}

// TestFindNothing holds the hints where neither cluster nor store has a job.
func TestFindNothing(t *testing.T) {
	unreachable := errors.New("no kubeconfig")
	f := &Finder{Store: historytest.Store(t), Namespace: "local", Context: func() string { return "prod" }}
	for _, test := range []struct {
		name        string
		unreachable error
		find        func(context.Context, string) (*Job, error)
		err, hint   string
	}{
		{"output", nil, f.Find, `no output of a job "x" is stored on this machine`, "{hodei} logs --context prod x"},
		{"a run", nil, f.FindRun, `no run of a job "x" is stored on this machine`, "{hodei} run --provider local --name x -- COMMAND"},
		{"no cluster", unreachable, f.FindRun, "no kubeconfig", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f.Unreachable = test.unreachable
			_, err := test.find(t.Context(), "x")
			if err == nil || err.Error() != test.err || job.HintOf(err) != test.hint {
				t.Errorf("got %v, hint %q", err, job.HintOf(err))
			}
		})
	}
}
