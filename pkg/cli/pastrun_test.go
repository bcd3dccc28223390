package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/kubernetestest"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// runStart is when the runs of these tests began.
var runStart = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// metrics is a sample of some CPU time, seconds after runStart.
func metrics(seconds int) *hodeipb.Metrics {
	return &hodeipb.Metrics{Time: timestamppb.New(runStart.Add(time.Duration(seconds) * time.Second)),
		Usage: &hodeipb.Usage{Source: "cgroup1", CpuNs: ptr(uint64(seconds) * 1e9), MemoryPeakBytes: ptr(uint64(100 << 20))}}
}

// unheard is a Listener to whom it is all the same.
type unheard struct{}

func (unheard) Attached(coordinator.Attachment)    {}
func (unheard) State(string, *hodeipb.State)       {}
func (unheard) Metrics(string, *hodeipb.Metrics)   {}
func (unheard) Exited(string, *hodeipb.ExitRecord) {}
func (unheard) Failed(string, error)               {}

// keepRun has a store keep an attempt with samples, as a session does.
func keepRun(t *testing.T, s *logstore.Store, key logstore.Key, run *job.Run, record *hodeipb.ExitRecord, samples int) {
	t.Helper()
	recorder := &coordinator.Recorder{Store: s, JobUID: key.JobUID, Listener: unheard{}}
	hello := &hodeipb.Hello{Namespace: key.Namespace, Job: key.Job, Attempt: key.Attempt, AttemptUid: key.AttemptUID, Extent: &hodeipb.Extent{}}
	if run != nil {
		r := &runRecord{Listener: recorder.Listener}
		r.run = *run
		r.run.Attempt = "" // it attaches now
		recorder.Listener = r
	}
	if _, err := recorder.Attached(hello); err != nil {
		t.Fatal(err)
	}
	if r, ok := recorder.Listener.(*runRecord); ok {
		r.mu.Lock()
		r.run.Phases = run.Phases
		r.save()
		r.mu.Unlock()
		r.over(run.Outcome)
	}
	for i := range samples {
		recorder.Metrics(key.Attempt, metrics(i))
	}
	if record != nil {
		if err := recorder.Exited(key.Attempt, record); err != nil {
			t.Fatal(err)
		}
	}
	if err := recorder.Close(); err != nil {
		t.Fatal(err)
	}
}

func testRunStore(t *testing.T) *logstore.Store {
	t.Helper()
	s, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestPastRun puts together what is known here and there.
func TestPastRun(t *testing.T) {
	spec := &job.Spec{Name: "x", Command: []string{"make", "a b"}, Env: []job.EnvVar{{Name: "TOKEN", Value: "secret"}}}
	seen := []job.Event{{Phase: job.Submitted, Time: runStart}, {Phase: job.AgentUp, Time: runStart}, {Phase: job.Running, Time: runStart}}
	told := []job.Event{{Phase: job.Submitted, Time: runStart}, {Phase: job.Running, Time: runStart}}
	record := &hodeipb.ExitRecord{Cause: "Completed", Started: timestamppb.New(runStart), Finished: timestamppb.New(runStart.Add(9 * time.Second)),
		Usage: &hodeipb.Usage{Source: "cgroup1", CpuNs: ptr(uint64(9e9)), RunQueueWaits: []uint64{1, 2}}}
	unclear := &hodeipb.ExitRecord{Finished: timestamppb.New(runStart.Add(9 * time.Second)), Usage: record.Usage}
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
		{"followed, and there", &job.Run{Spec: spec, Phases: seen}, record, 5, &kubernetes.Attempt{Ended: true, Outcome: short, Phases: told}, job.OOMKilled, 2, 3, 6, "", false, false},
		{"the record can't tell", &job.Run{Spec: spec, Phases: seen, Outcome: &job.Outcome{Cause: job.OOMKilled, Code: 137}}, unclear, 0, nil, job.OOMKilled, 2, 3, 1, "", false, false},
		{"no samples", &job.Run{Spec: spec, Phases: seen}, nil, 0, nil, "", 0, 3, 0, "no samples came from its agent", false, false},
		{"stored by an older version", nil, record, 2, nil, job.Completed, 2, 0, 3, "", false, false},
		{"nobody followed it", nil, nil, -1, &kubernetes.Attempt{Ended: true, Outcome: short, Phases: told}, job.OOMKilled, 0, 2, 0, "nobody followed this run", true, false},
		{"it runs", nil, nil, -1, &kubernetes.Attempt{Running: true, Phases: told}, "", 0, 2, 0, "nobody followed this run", true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := testRunStore(t)
			o := &logsOptions{store: &place.Store{Store: s}, namespace: "ns", name: "x", cluster: &kubernetes.Provider{}}
			if test.samples >= 0 {
				keepRun(t, s, recordKey, test.stored, test.record, test.samples)
			}
			stored, err := s.Find("ns", "x")
			if err != nil {
				t.Fatal(err)
			}
			a := &knownAttempt{name: "x-1", uid: "1", pod: test.pod}
			if len(stored) == 1 {
				a.stored = &stored[0]
			}
			j := &knownJob{name: "x"}
			if test.pod != nil {
				o.cluster = kubernetestest.Cluster(t, nil)
				j.found = &kubernetes.Found{Spec: spec}
			}
			p := o.pastRun(j, a)
			if got := p.Outcome; (got == nil) != (test.cause == "") || got != nil && got.Cause != test.cause {
				t.Errorf("outcome %+v, want %s", got, test.cause)
			} else if got != nil && len(got.Usage.RunQueueWaits) != test.waits {
				t.Errorf("%d waits, want %d", len(got.Usage.RunQueueWaits), test.waits)
			}
			if len(p.Phases) != test.phases || p.coarse != test.coarse || p.running != test.running {
				t.Errorf("%d phases, coarse %t, running %t", len(p.Phases), p.coarse, p.running)
			}
			if len(p.Samples) != test.count || !strings.HasPrefix(p.missing, test.missing) || (p.missing == "") != (test.missing == "") {
				t.Errorf("%d samples, missing %q", len(p.Samples), p.missing)
			}
			if p.Namespace != "ns" || p.Attempt != "x-1" {
				t.Errorf("got %+v", p.Run)
			}
			if p.Spec != nil && (p.Spec.Env[0].Name != "TOKEN" || p.Spec.Env[0].Value != "") {
				t.Errorf("variables %+v", p.Spec.Env)
			}
		})
	}
	if text, err := json.Marshal(withoutValues(spec)); err != nil || strings.Contains(string(text), `"value"`) {
		t.Errorf("what is not shown looks as if it were empty: %s, %v", text, err)
	}
	if spec.Env[0].Value != "secret" {
		t.Error("the run's own spec was changed")
	}
}

func TestBestOutcome(t *testing.T) {
	usage := &job.Usage{Source: "cgroup2"}
	known, unknown := &job.Outcome{Cause: job.Error, Code: 7}, &job.Outcome{Cause: job.Unknown, Usage: usage, Started: runStart}
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
			if got == nil || got.Cause != test.cause || (got.Usage != nil) != test.usage || test.usage && got.Started != runStart {
				t.Errorf("got %+v", got)
			}
		})
	}
	if known.Usage != nil {
		t.Error("an account was changed")
	}
}

func TestCommandLine(t *testing.T) {
	if got, want := shell.Line([]string{"sh", "-c", "echo 'x' > y"}), `sh -c 'echo '\''x'\'' > y'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := shell.Line(nil); got != "" {
		t.Errorf("got %q", got)
	}
}
