package history

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/history/historytest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
)

// TestPastRun puts together what is known here and there.
func TestPastRun(t *testing.T) {
	spec := &job.Spec{Name: "x", Command: []string{"make", "a b"}, Env: []job.EnvVar{{Name: "TOKEN", Value: "secret"}}}
	seen := []job.Event{{Phase: job.Submitted, Time: historytest.Start}, {Phase: job.AgentUp, Time: historytest.Start},
		{Phase: job.Running, Time: historytest.Start}}
	told := []job.Event{{Phase: job.Submitted, Time: historytest.Start}, {Phase: job.Running, Time: historytest.Start}}
	record := &hodeipb.ExitRecord{Cause: "Completed", Started: timestamppb.New(historytest.Start),
		Finished: timestamppb.New(historytest.Start.Add(9 * time.Second)),
		Usage:    &hodeipb.Usage{Source: "cgroup1", CpuNs: new(uint64(9e9)), RunQueueWaits: []uint64{1, 2}}}
	unclear := &hodeipb.ExitRecord{Finished: timestamppb.New(historytest.Start.Add(9 * time.Second)), Usage: record.Usage}
	short := &job.Outcome{Cause: job.OOMKilled, Code: 137, Usage: &job.Usage{Source: "cgroup1"}}
	for _, test := range []struct {
		name    string
		stored  *job.Run // nil: nothing is stored
		record  *hodeipb.ExitRecord
		samples int
		pod     *kubernetes.Attempt
		cause   job.Cause // empty: no outcome
		waits   int
		phases  int
		count   int
		missing string
		coarse  bool
		running bool
	}{
		{"followed, and gone", &job.Run{Spec: spec, Phases: seen}, record, 5, nil, job.Completed, 2, 3, 6, "", false, false},
		{"followed, and there", &job.Run{Spec: spec, Phases: seen}, record, 5,
			&kubernetes.Attempt{Ended: true, Outcome: short, Phases: told}, job.OOMKilled, 2, 3, 6, "", false, false},
		{"the record can't tell", &job.Run{Spec: spec, Phases: seen, Outcome: &job.Outcome{Cause: job.OOMKilled, Code: 137}},
			unclear, 0, nil, job.OOMKilled, 2, 3, 1, "", false, false},
		{"no samples", &job.Run{Spec: spec, Phases: seen}, nil, 0, nil, "", 0, 3, 0, "no samples came from its agent", false, false},
		{"stored by an older version", nil, record, 2, nil, job.Completed, 2, 0, 3, "", false, false},
		{"nobody followed it", nil, nil, -1, &kubernetes.Attempt{Ended: true, Outcome: short, Phases: told}, job.OOMKilled, 0, 2, 0,
			"nobody followed this run", true, false},
		{"it runs", nil, nil, -1, &kubernetes.Attempt{Running: true, Phases: told}, "", 0, 2, 0, "nobody followed this run", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := historytest.Store(t)
			f := &Finder{Store: s, Namespace: "ns", Cluster: &kubernetes.Provider{}}
			if test.samples >= 0 {
				historytest.Keep(t, s, recordKey, test.stored, test.record, test.samples)
			}
			stored, err := s.Find("ns", "x")
			if err != nil {
				t.Fatal(err)
			}
			a := &Attempt{Name: "x-1", UID: "1", Pod: test.pod}
			if len(stored) == 1 {
				a.Stored = &stored[0]
			}
			j := &Job{Name: "x"}
			if test.pod != nil {
				f.Cluster = kubernetestest.Cluster(t, nil)
				j.Found = &kubernetes.Found{Spec: spec}
			}
			p := f.PastRun(j, a)
			if got := p.Outcome; (got == nil) != (test.cause == "") || got != nil && got.Cause != test.cause {
				t.Errorf("outcome %+v, want %s", got, test.cause)
			} else if got != nil && len(got.Usage.RunQueueWaits) != test.waits {
				t.Errorf("%d waits, want %d", len(got.Usage.RunQueueWaits), test.waits)
			}
			if len(p.Phases) != test.phases || p.Coarse != test.coarse || p.Running != test.running {
				t.Errorf("%d phases, coarse %t, running %t", len(p.Phases), p.Coarse, p.Running)
			}
			if len(p.Samples) != test.count || !strings.HasPrefix(p.Missing, test.missing) || (p.Missing == "") != (test.missing == "") {
				t.Errorf("%d samples, missing %q", len(p.Samples), p.Missing)
			}
			if p.Namespace != "ns" || p.Attempt != "x-1" {
				t.Errorf("got %+v", p.Run)
			}
			if p.Spec != nil && (p.Spec.Env[0].Name != "TOKEN" || p.Spec.Env[0].Value != "") {
				t.Errorf("variables %+v", p.Spec.Env)
			}
		})
	}
	if text, err := json.Marshal(WithoutValues(spec)); err != nil || strings.Contains(string(text), `"value"`) {
		t.Errorf("what is not shown looks as if it were empty: %s, %v", text, err)
	}
	if spec.Env[0].Value != "secret" {
		t.Error("the run's own spec was changed")
	}
}

func TestBestOutcome(t *testing.T) {
	usage := &job.Usage{Source: "cgroup2"}
	known, unknown := &job.Outcome{Cause: job.Error, Code: 7}, &job.Outcome{Cause: job.Unknown, Usage: usage, Started: historytest.Start}
	told, evicted := &job.Outcome{Cause: job.Error, Code: 1, PodEnded: true}, &job.Outcome{Cause: job.Evicted, Code: 1, PodEnded: true}
	for _, test := range []struct {
		name  string
		of    []*job.Outcome
		cause job.Cause
		usage bool
	}{
		{"none", []*job.Outcome{nil, nil}, "", false},
		{"one", []*job.Outcome{nil, known}, job.Error, false},
		{"the one that knows", []*job.Outcome{unknown, nil, known}, job.Error, true},
		{"none knows", []*job.Outcome{unknown, nil}, job.Unknown, true},
		{"the one that knows who ended the Pod", []*job.Outcome{nil, evicted, told}, job.Evicted, false},
		{"who ended the Pod comes last", []*job.Outcome{told, {Cause: job.Evicted}}, job.Evicted, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := bestOutcome(test.of...)
			if test.cause == "" {
				if got != nil {
					t.Errorf("got %+v", got)
				}
				return
			}
			if got == nil || got.Cause != test.cause || (got.Usage != nil) != test.usage || test.usage && got.Started != historytest.Start {
				t.Errorf("got %+v", got)
			}
		})
	}
	if known.Usage != nil {
		t.Error("an account was changed")
	}
}
