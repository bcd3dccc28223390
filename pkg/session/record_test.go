package session

import (
	"context"
	"errors"
	"io"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// recordKey is of the attempt that is followed.
var recordKey = logstore.Key{Namespace: "ns", Job: "x", JobUID: "uid", Attempt: "x-1", AttemptUID: "1"}

// A session keeps its run beside the output.
func TestSessionRecords(t *testing.T) {
	kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	a := newBeside(io.Discard, io.Discard)
	o := a.config(a.screen(true), nil)
	o.Follow = true
	log, err := kept.Create(recordKey, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	j := followtest.NewJob()
	o.Job, o.Store = j, &place.Store{Store: kept, Dir: "/store"}
	s := newSession(o)
	s.record.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1"}, Log: log})
	s.record.State("x-1", ran)
	j.Ends <- &job.Outcome{Cause: job.Error, Code: 7, Attempt: "x-1"}
	err = s.run(context.WithoutCancel(t.Context()))
	if exit, ok := errors.AsType[*job.ExitError](err); !ok || exit.Code != 7 {
		t.Fatalf("got %v", err)
	}
	run, err := history.StoredRun(kept, recordKey)
	if err != nil || run.Outcome == nil || run.Outcome.Code != 7 || !history.Started(run.Phases) {
		t.Errorf("got %+v, %v", run, err)
	}
}
