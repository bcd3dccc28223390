package wait

import (
	"testing"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

func TestStanding(t *testing.T) {
	runs := kubernetes.Attempt{Running: true, Started: true}
	left := func(code int) kubernetes.Attempt {
		return kubernetes.Attempt{Running: true, Started: true, Left: true, LeftCode: code}
	}
	over := func(o *job.Outcome) func(*kubernetes.Found) {
		return func(f *kubernetes.Found) { f.Finished, f.Outcome = true, o }
	}
	retries := func(f *kubernetes.Found) { f.Spec.Retries = 1 }
	for _, test := range []struct {
		name     string
		until    string
		change   func(*kubernetes.Found)
		attempts []kubernetes.Attempt
		over     bool
		code     int
		how, err string
	}{
		{name: "pending", until: forEnded},
		{name: "runs", until: forEnded, attempts: []kubernetes.Attempt{runs}},
		{name: "succeeded", until: forEnded, change: over(&job.Outcome{Cause: job.Completed}), over: true, how: "ended: exit 0"},
		{name: "failed", until: forEnded, change: over(&job.Outcome{Cause: job.Error, Code: 3}), over: true, code: 3, how: "ended: exit 3"},
		{name: "cancelled", until: forEnded, change: over(&job.Outcome{Cause: job.Cancelled, Code: 143, Signal: 15}), over: true, code: 130,
			how: "ended: Cancelled (exit 130)"},
		{name: "timed out", until: forEnded, change: over(&job.Outcome{Cause: job.DeadlineExceeded, Code: 143}), over: true, code: 124,
			how: "ended: DeadlineExceeded (exit 124)"},
		{name: "its node was lost", until: forEnded, change: over(&job.Outcome{Cause: job.NodeLost}), over: true, code: 125,
			how: "ended: NodeLost (exit 125)"},
		{name: "only its output is left", until: forEnded, attempts: []kubernetes.Attempt{left(3)}, over: true, code: 3,
			how: "ended: exit 3"},
		{name: "failed, and another attempt follows", until: forEnded, change: retries, attempts: []kubernetes.Attempt{left(3)}},
		{name: "succeeded after an attempt", until: forEnded, change: retries, attempts: []kubernetes.Attempt{{Ended: true}, left(0)},
			over: true, how: "ended: exit 0"},
		{name: "its container ended before the command", until: forEnded,
			attempts: []kubernetes.Attempt{{Running: true, Left: true, LeftCode: 128}}},
		{name: "is to run, pending", until: forRunning, attempts: []kubernetes.Attempt{{}}},
		{name: "is to run, its agent runs", until: forRunning, attempts: []kubernetes.Attempt{{Running: true}}},
		{name: "is to run, runs", until: forRunning, attempts: []kubernetes.Attempt{runs}, over: true, how: "running"},
		{name: "is to run, has run", until: forRunning, attempts: []kubernetes.Attempt{left(0)}, over: true, code: 1,
			err: "job x does not run any more: exit 0"},
		{name: "is to run, has ended", until: forRunning, change: over(&job.Outcome{Cause: job.Error, Code: 3}), over: true, code: 1,
			err: "job x does not run any more: exit 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "x"}, Attempts: test.attempts}
			if test.change != nil {
				test.change(f)
			}
			e, over := standing(f, test.until)
			said := ""
			if e.err != nil {
				said = e.err.Error()
			}
			if over != test.over || e.code != test.code || e.how != test.how || said != test.err {
				t.Errorf("over %t, code %d, %q, error %q", over, e.code, e.how, said)
			}
		})
	}
}

func TestCode(t *testing.T) {
	at := func(at, code int) end { return end{over: true, at: at, code: code} }
	for _, test := range []struct {
		name    string
		ends    []end
		anyJob  bool
		missing int
		want    int
	}{
		{name: "one", ends: []end{at(0, 3)}, want: 3},
		{name: "all succeeded", ends: []end{at(1, 0), at(0, 0)}},
		{name: "the first that failed, by name", ends: []end{at(2, 0), at(1, 4), at(0, 5)}, want: 4},
		{name: "a name without a job", ends: []end{at(0, 0)}, missing: 1, want: 125},
		{name: "a name without a job, and one that failed", ends: []end{at(0, 4)}, missing: 1, want: 4},
		{name: "names without jobs", missing: 2, want: 125},
		{name: "the first to end", ends: []end{{}, at(1, 4), at(0, 5)}, anyJob: true, want: 5},
		{name: "the first to end succeeded", ends: []end{at(1, 4), at(0, 0)}, anyJob: true, missing: 1},
		{name: "any of no job", anyJob: true, missing: 1, want: 125},
	} {
		if got := code(test.ends, test.anyJob, test.missing); got != test.want {
			t.Errorf("%s: %d, want %d", test.name, got, test.want)
		}
	}
}

// A job that can't run any more does not end the wait for any that runs.
func TestAnyRunning(t *testing.T) {
	over := &kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "over"}, Finished: true,
		Outcome: &job.Outcome{Cause: job.Completed}}
	runs := &kubernetes.Found{Job: &batchv1.Job{}, Spec: &job.Spec{Name: "runs"},
		Attempts: []kubernetes.Attempt{{Running: true, Started: true}}}
	told := ""
	o := &Options{For: forRunning, Any: true, Fail: func(err error) { told += err.Error() },
		Print: func(_ *batchv1.Job, how string) error { told += how; return nil }}
	if got := code(o.awaitAll(t.Context(), []*kubernetes.Found{over, runs}), true, 0); got != 0 || told != "running" {
		t.Errorf("one that runs: code %d, %q", got, told)
	}
	told = ""
	got := code(o.awaitAll(t.Context(), []*kubernetes.Found{over, over}), true, 0)
	if got != 1 || told != "job over does not run any more: exit 0" {
		t.Errorf("none: code %d, %q", got, told)
	}
}
