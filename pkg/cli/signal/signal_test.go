package signal

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

func TestNoCommand(t *testing.T) {
	const notYet = "the command of job x has not started: there is nothing to signal yet"
	const waits = "{hodei} wait --for running x"
	for _, test := range []struct {
		name      string
		attempts  []kubernetes.Attempt
		finished  *job.Outcome
		err, hint string
	}{
		{name: "no Pod", err: notYet, hint: waits},
		{name: "pending", attempts: []kubernetes.Attempt{{}}, err: notYet, hint: waits},
		{name: "its Pod has just got its node", attempts: []kubernetes.Attempt{{MayRun: true}}},
		{name: "its agent runs", attempts: []kubernetes.Attempt{{Running: true}}},
		{name: "runs", attempts: []kubernetes.Attempt{{Running: true, Started: true}}},
		{name: "runs, again", attempts: []kubernetes.Attempt{{Ended: true}, {Running: true, Started: true}}},
		{name: "only its output is left", attempts: []kubernetes.Attempt{{Running: true, Left: true}},
			err: "the command of job x has ended"},
		{name: "between two attempts", attempts: []kubernetes.Attempt{{Ended: true}}, err: "the command of job x has ended"},
		{name: "ended", finished: &job.Outcome{Cause: job.Error, Code: 3}, err: "job x has ended: exit 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := noCommand(&kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "x"}, Attempts: test.attempts,
				Finished: test.finished != nil, Outcome: test.finished})
			said := ""
			if err != nil {
				said = err.Error()
			}
			if said != test.err || job.HintOf(err) != test.hint {
				t.Errorf("got %q, hint %q", said, job.HintOf(err))
			}
		})
	}
}
