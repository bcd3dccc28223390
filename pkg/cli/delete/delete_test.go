package delete

import (
	"testing"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

func TestGoes(t *testing.T) {
	whole, part := &logstore.Attempt{Exit: &hodeipb.ExitRecord{}}, &logstore.Attempt{End: 5}
	runs := &kubernetes.Attempt{Running: true, Started: true}
	left := &kubernetes.Attempt{Running: true, Started: true, Left: true}
	ended := func(bytes uint64) *kubernetes.Attempt {
		return &kubernetes.Attempt{Started: true, Ended: true, Outcome: &job.Outcome{Cause: job.Completed, OutputBytes: bytes}}
	}
	never := &kubernetes.Attempt{Ended: true, Outcome: &job.Outcome{Cause: job.AgentLost, NeverStarted: true}}
	const unkept = "output that is not stored on this machine"
	for _, test := range []struct {
		name     string
		attempts []history.Attempt
		kept     bool
		want     string
		isKept   bool // all of them
	}{
		{name: "no Pod", want: "", isKept: true},
		{name: "pending", attempts: []history.Attempt{{Pod: &kubernetes.Attempt{}}}, want: " with its Pod", isKept: true},
		{name: "runs", attempts: []history.Attempt{{Pod: runs}}, want: " with its Pod, the command that runs in it and " + unkept},
		{name: "runs, and was looked at", attempts: []history.Attempt{{Pod: runs, Stored: part}},
			want: " with its Pod, the command that runs in it and " + unkept, isKept: true},
		{name: "runs, and its output was kept", attempts: []history.Attempt{{Pod: runs, Stored: part}}, kept: true,
			want: " with its Pod and the command that runs in it", isKept: true},
		{name: "ended, as only the store knows yet", attempts: []history.Attempt{{Pod: runs, Stored: whole}}, want: " with its Pod",
			isKept: true},
		{name: "only its output is left, and stored", attempts: []history.Attempt{{Pod: left, Stored: whole}}, want: " with its Pod",
			isKept: true},
		{name: "only its output is left", attempts: []history.Attempt{{Pod: left}}, want: " with its Pod and " + unkept},
		{name: "ended", attempts: []history.Attempt{{Pod: ended(5)}}, want: " with its Pod and " + unkept},
		{name: "ended, and half of it is stored", attempts: []history.Attempt{{Pod: ended(10), Stored: part}},
			want: " with its Pod and " + unkept},
		{name: "ended, and stored", attempts: []history.Attempt{{Pod: ended(5), Stored: whole}}, want: " with its Pod", isKept: true},
		{name: "printed nothing", attempts: []history.Attempt{{Pod: ended(0)}}, want: " with its Pod", isKept: true},
		{name: "never started", attempts: []history.Attempt{{Pod: never}}, want: " with its Pod", isKept: true},
		{name: "retried", attempts: []history.Attempt{{Stored: part}, {Pod: ended(5), Stored: whole}, {Pod: ended(0)}},
			want: " with its 2 Pods", isKept: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := &history.Job{Name: "x", Attempts: test.attempts}
			if got := goes(j, test.kept); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			all := true
			for i := range j.Attempts {
				all = all && isKept(&j.Attempts[i])
			}
			if all != test.isKept {
				t.Errorf("kept %t, want %t", all, test.isKept)
			}
		})
	}
}
