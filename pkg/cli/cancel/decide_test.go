package cancel

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

func TestDecide(t *testing.T) {
	deleted := func(f *kubernetes.Found) { f.Job.DeletionTimestamp = &metav1.Time{} }
	finished := func(f *kubernetes.Found) { f.Finished, f.Outcome = true, &job.Outcome{Cause: job.Error, Code: 3} }
	retries := func(f *kubernetes.Found) { f.Spec.Retries = 2 }
	failedBefore := func(f *kubernetes.Found) { f.Spec.Retries, f.Job.Status.Failed = 2, 1 }
	exit := func(code int) *job.Outcome {
		if code == 0 {
			return &job.Outcome{Cause: job.Completed}
		}
		return &job.Outcome{Cause: job.Error, Code: code}
	}
	pending := kubernetes.Attempt{}
	starting := kubernetes.Attempt{Running: true}
	runs := kubernetes.Attempt{Running: true, Started: true}
	failed := kubernetes.Attempt{Started: true, Ended: true, Outcome: exit(3)}
	succeeded := kubernetes.Attempt{Started: true, Ended: true, Outcome: exit(0)}
	neverStarted := kubernetes.Attempt{Ended: true, Outcome: &job.Outcome{Cause: job.AgentLost, NeverStarted: true}}
	left := func(code int) kubernetes.Attempt {
		return kubernetes.Attempt{Running: true, Started: true, Left: true, LeftCode: code}
	}
	agentLost := kubernetes.Attempt{Started: true}
	for _, test := range []struct {
		name     string
		change   func(*kubernetes.Found)
		attempts []kubernetes.Attempt
		force    bool
		want     way
		why      string
	}{
		{name: "no Pod yet, or suspended, or not scheduled by a quota", want: deleteIt},
		{name: "pending", attempts: []kubernetes.Attempt{pending}, want: deleteIt},
		{name: "its agent is there: it knows whether the command has started", attempts: []kubernetes.Attempt{starting}, want: askAgent},
		{name: "runs", attempts: []kubernetes.Attempt{runs}, want: askAgent},
		{name: "its Pod has just got its node", attempts: []kubernetes.Attempt{{MayRun: true}}, want: askAgent},
		{name: "runs, again", change: retries, attempts: []kubernetes.Attempt{failed, runs}, want: askAgent},
		{name: "between two attempts", change: retries, attempts: []kubernetes.Attempt{failed}, want: endRetries},
		{name: "between two attempts, whose Pods are gone", change: failedBefore, want: endRetries},
		{name: "the next attempt is pending", change: retries, attempts: []kubernetes.Attempt{failed, pending}, want: endRetries},
		{name: "the first attempt of several is pending", change: retries, attempts: []kubernetes.Attempt{pending}, want: deleteIt},
		{name: "an attempt has failed, and its agent keeps the output", change: retries, attempts: []kubernetes.Attempt{left(3)},
			want: endRetries},
		{name: "its launcher did not come, and another Pod follows", attempts: []kubernetes.Attempt{neverStarted}, want: deleteIt},
		{name: "its agent was lost, and the Pod ends", attempts: []kubernetes.Attempt{agentLost}, want: deleteNow},
		{name: "ended", change: finished, attempts: []kubernetes.Attempt{failed}, want: leaveIt, why: "job x has ended already: exit 3"},
		{name: "ended, by force", change: finished, attempts: []kubernetes.Attempt{failed}, force: true, want: leaveIt,
			why: "job x has ended already: exit 3"},
		{name: "ended, and its Job does not know yet", attempts: []kubernetes.Attempt{failed}, want: leaveIt,
			why: "job x has ended already: exit 3"},
		{name: "succeeded, and would be retried had it failed", change: retries, attempts: []kubernetes.Attempt{succeeded}, want: leaveIt,
			why: "job x has ended already: exit 0"},
		{name: "only its output is left", attempts: []kubernetes.Attempt{left(3)}, want: leaveIt,
			why: "the command of job x has ended already; its agent still keeps the output"},
		{name: "succeeded, only its output is left", change: retries, attempts: []kubernetes.Attempt{left(0)}, want: leaveIt,
			why: "the command of job x has ended already; its agent still keeps the output"},
		{name: "being deleted", change: deleted, attempts: []kubernetes.Attempt{runs}, want: leaveIt,
			why: "job x is being deleted already"},
		{name: "being deleted, and that hangs", change: deleted, attempts: []kubernetes.Attempt{runs}, force: true, want: deleteNow},
		{name: "runs, by force", attempts: []kubernetes.Attempt{runs}, force: true, want: deleteNow},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "x"}, Attempts: test.attempts}
			if test.change != nil {
				test.change(f)
			}
			if w, why := decide(f, test.force); w != test.want || why != test.why {
				t.Errorf("%s (%q), want %s (%q)", w, why, test.want, test.why)
			}
		})
	}
	for _, w := range []way{askAgent, endRetries, deleteIt, deleteNow} {
		if planned[w] == "" {
			t.Errorf("a dry run has no words for: %s", w)
		}
	}
}

func TestPlanning(t *testing.T) {
	suspended := &kubernetes.Found{Job: &batchv1.Job{Spec: batchv1.JobSpec{Suspend: new(true)}}}
	resumed := &kubernetes.Found{Job: &batchv1.Job{Spec: batchv1.JobSpec{Suspend: new(false)}}}
	if got := planning(suspended, deleteIt); got != " by deleting it: it is suspended, and no command of it runs" {
		t.Errorf("got %q", got)
	}
	for _, w := range []way{askAgent, endRetries, deleteIt, deleteNow} {
		if got := planning(resumed, w); got != planned[w] {
			t.Errorf("got %q", got)
		}
	}
}

func TestEnded(t *testing.T) {
	for _, test := range []struct {
		outcome job.Outcome
		want    string
	}{
		{job.Outcome{Code: 137, Signal: 9}, "was killed after its grace"},
		{job.Outcome{Code: 143, Signal: 15}, "ended by SIGTERM"},
		{job.Outcome{Code: 0}, "ended with exit code 0"},
		{job.Outcome{Code: 7}, "ended with exit code 7"},
	} {
		if got := ended(&test.outcome); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}
