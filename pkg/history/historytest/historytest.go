// Package historytest has what tests of those who look into the history of jobs share: runs that are kept in a
// store. It is for tests alone.
package historytest

import (
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Start is when the runs of tests began.
var Start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// Metrics is a sample of some CPU time, so many seconds after Start.
func Metrics(seconds int) *hodeipb.Metrics {
	return &hodeipb.Metrics{Time: timestamppb.New(Start.Add(time.Duration(seconds) * time.Second)),
		Usage: &hodeipb.Usage{Source: "cgroup1", CpuNs: new(uint64(seconds) * 1e9), MemoryPeakBytes: new(uint64(100 << 20))}}
}

// Unheard is a Listener to whom it is all the same.
var Unheard coordinator.Listener = unheard{}

type unheard struct{}

func (unheard) Attached(coordinator.Attachment)    {}
func (unheard) State(string, *hodeipb.State)       {}
func (unheard) Metrics(string, *hodeipb.Metrics)   {}
func (unheard) Exited(string, *hodeipb.ExitRecord) {}
func (unheard) Failed(string, error)               {}

// keeper has the store keep a run when its attempt attaches.
type keeper struct {
	unheard
	run *job.Run
	err error
}

func (k *keeper) Attached(a coordinator.Attachment) {
	run := *k.run
	run.Attempt = a.Hello.Attempt
	var text []byte
	if text, k.err = json.Marshal(&run); k.err == nil {
		k.err = a.Log.SetDocument("run", text) // where package history looks for it
	}
}

// Store returns an empty store.
func Store(t *testing.T) *logstore.Store {
	t.Helper()
	s, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Keep has a store keep an attempt with samples, as whoever follows a job does. Without a run only the recorder's
// part is kept, as older versions did; without a record the end is not known.
func Keep(t *testing.T, s *logstore.Store, key logstore.Key, run *job.Run, record *hodeipb.ExitRecord, samples int) {
	t.Helper()
	recorder := &coordinator.Recorder{Store: s, JobUID: key.JobUID, Listener: Unheard}
	hello := &hodeipb.Hello{
		Namespace: key.Namespace, Job: key.Job, Attempt: key.Attempt, AttemptUid: key.AttemptUID, Extent: &hodeipb.Extent{},
	}
	k := &keeper{run: run}
	if run != nil {
		recorder.Listener = k
	}
	if _, err := recorder.Attached(hello); err != nil {
		t.Fatal(err)
	}
	if k.err != nil {
		t.Fatal(k.err)
	}
	for i := range samples {
		recorder.Metrics(key.Attempt, Metrics(i))
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
