package history

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history/historytest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
)

// recordKey is of the attempt that the tests of Record follow.
var recordKey = logstore.Key{Namespace: "ns", Job: "x", JobUID: "uid", Attempt: "x-1", AttemptUID: "1"}

// newRecord is that of a job whose attempts are kept in a store, or nowhere.
func newRecord(s *logstore.Store) *Record {
	return &Record{Listener: historytest.Unheard, Store: s, Run: job.Run{Namespace: "ns", Spec: &job.Spec{Name: "x"}}}
}

// phaseNames are those of events, waiting ones left out.
func phaseNames(events []job.Event) (names []string) {
	for _, e := range events {
		if !e.Waiting {
			names = append(names, e.Phase.String())
		}
	}
	return names
}

// A run is kept as soon as its agent attaches, with what is known by then, and again
// at its end.
func TestRecord(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := kept.Create(recordKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r := newRecord(kept)
	command := []string{"make", "test"}
	r.Run.Spec.Command, r.Run.Spec.Env = command, []job.EnvVar{{Name: "TOKEN", Value: "secret"}}
	begun := time.Now()
	r.Phase(job.Event{Phase: job.Submitted, Time: begun})
	r.Phase(job.Event{Phase: job.Scheduled, Time: begun, Detail: "no room", Waiting: true})
	r.Phase(job.Event{Phase: job.Scheduled, Time: begun, Detail: "node1"})
	if _, err := StoredRun(kept, recordKey); err == nil {
		t.Error("something is kept before there is a log")
	}
	hello := &hodeipb.Hello{Namespace: "ns", Job: "x", Attempt: "x-1", AttemptUid: "1"}
	r.attached(coordinator.Attachment{Hello: hello, Log: log})
	r.attached(coordinator.Attachment{Hello: hello, Log: log}) // the connection was lost
	r.writes.Wait()
	run, err := StoredRun(kept, recordKey)
	if err != nil || run.Attempt != "x-1" || run.Spec == nil || !slices.Equal(run.Spec.Command, command) {
		t.Fatalf("got %+v, %v", run, err)
	}
	if len(run.Spec.Env) != 1 || run.Spec.Env[0].Value != "" || r.Run.Spec.Env[0].Value != "secret" {
		t.Errorf("variables %+v are kept", run.Spec.Env)
	}
	if got, want := phaseNames(run.Phases), []string{"submitted", "scheduled", "agent up"}; !slices.Equal(got,
		want) || len(run.Phases) != 4 {
		t.Errorf("phases %q, want %q", got, want)
	}
	r.runs("x-0") // of another attempt
	r.runs("x-1")
	r.runs("x-1")
	r.Over(&job.Outcome{Cause: job.OOMKilled, Attempt: "x-0"})
	r.Over(nil)
	if run, err = StoredRun(kept, recordKey); err != nil || run.Outcome != nil || !slices.Equal(phaseNames(run.Phases)[3:],
		[]string{"running"}) {
		t.Errorf("got %+v, %v", run, err)
	}
	r.Over(&job.Outcome{Cause: job.OOMKilled, Code: 137, Attempt: "x-1"})
	if run, err = StoredRun(kept, recordKey); err != nil || run.Outcome == nil || run.Outcome.Cause != job.OOMKilled {
		t.Errorf("got %+v, %v", run, err)
	}

	// The next attempt is a run of its own.
	next := recordKey
	next.Attempt, next.AttemptUID = "x-2", "2"
	second, err := kept.Create(next, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	r.attached(coordinator.Attachment{Hello: &hodeipb.Hello{Namespace: "ns", Job: "x", Attempt: "x-2", AttemptUid: "2"}, Log: second})
	r.writes.Wait()
	if run, err = StoredRun(kept, next); err != nil || !slices.Equal(phaseNames(run.Phases), []string{"agent up"}) {
		t.Errorf("got %+v, %v", run, err)
	}
}

// What is only looked at, or can't be written, is not kept and ends nothing.
func TestRecordUnkept(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	closed, err := kept.Create(recordKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name       string
		attachment coordinator.Attachment
	}{
		{"silent", coordinator.Attachment{}},
		{"temporary", coordinator.Attachment{Log: outputtest.NewLog(t, "x-1", 0), Temporary: errors.New("in use")}},
		{"closed", coordinator.Attachment{Log: closed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRecord(nil)
			test.attachment.Hello = &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1"}
			r.attached(test.attachment)
			r.runs("x-1")
			r.Over(&job.Outcome{Cause: job.Completed})
			if _, err := StoredRun(kept, recordKey); err == nil {
				t.Error("it is kept")
			}
		})
	}
}

// Whoever attaches later does not make the start begin when it came.
func TestRecordAttached(t *testing.T) {
	long := time.Now().Add(-time.Hour).Round(time.Second)
	ran := []job.Event{{Phase: job.Submitted, Time: long}, {Phase: job.Running, Time: long.Add(time.Second)}}
	for _, test := range []struct {
		name   string
		kept   []job.Event // by who ran it here
		before []job.Event
		want   []string
	}{
		{"seen here", []job.Event{{Phase: job.Submitted, Time: long}, {Phase: job.AgentUp, Time: long}, {Phase: job.Running,
			Time: long}}, ran, []string{"submitted", "agent up", "running"}},
		{"by its Pod", nil, ran, []string{"submitted", "running"}},
		{"on its way", nil, ran[:1], []string{"submitted", "scheduled", "agent up", "running"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			log, err := kept.Create(recordKey, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			if test.kept != nil {
				first := newRecord(kept)
				first.Run.Attempt, first.Run.Phases, first.log = "x-1", test.kept, log
				first.mu.Lock()
				first.save()
				first.mu.Unlock()
				first.writes.Wait()
			}
			r := newRecord(kept)
			r.Before = map[string][]job.Event{"x-1": test.before}
			r.Phase(job.Event{Phase: job.Submitted, Time: time.Now()})
			r.Phase(job.Event{Phase: job.Scheduled, Time: time.Now()})
			r.attached(coordinator.Attachment{Hello: &hodeipb.Hello{Namespace: "ns", Job: "x", Attempt: "x-1", AttemptUid: "1"}, Log: log})
			r.runs("x-1")
			r.writes.Wait()
			run, err := StoredRun(kept, recordKey)
			if err != nil {
				t.Fatal(err)
			}
			if got := phaseNames(run.Phases); !slices.Equal(got, test.want) {
				t.Errorf("phases %q, want %q", got, test.want)
			}
			if !run.Phases[0].Time.Equal(long) {
				t.Errorf("submitted %s, want %s", run.Phases[0].Time, long)
			}
		})
	}
}

// A run says so much of its start, and no more.
func TestRecordBounded(t *testing.T) {
	r := newRecord(nil)
	for range 10 * maxPhases {
		r.Phase(job.Event{Phase: job.Scheduled, Detail: "waiting", Waiting: true})
	}
	if len(r.Run.Phases) != maxPhases {
		t.Errorf("%d phases", len(r.Run.Phases))
	}
}
