package follow

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// runStart is when the attempt of these tests began.
var runStart = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// metrics is a sample, so many seconds after runStart.
func metrics(seconds int) *hodeipb.Metrics {
	cpu := uint64(seconds) * 1e9
	at := runStart.Add(time.Duration(seconds) * time.Second)
	return &hodeipb.Metrics{Time: timestamppb.New(at), Usage: &hodeipb.Usage{Source: "cgroup2", CpuNs: &cpu}}
}

// attach has the attempt x-1 attach, whose uid is 1.
func (h *historian) attach() {
	h.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1", AttemptUid: "1"}})
}

// TestHistory takes what an agent has, and waits no longer than it must.
func TestHistory(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name    string
		act     func(h *historian, ended func(*job.Outcome, error), unserved context.CancelCauseFunc)
		samples int
		exited  bool
		err     string
		after   time.Duration
	}{
		{"at once", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.attach()
			for i := range 5 {
				h.Metrics("x-1", metrics(i))
			}
		}, 5, false, "", historyPause},
		{"over a slow path", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.attach()
			for i := range 3 {
				time.Sleep(historyPause - time.Millisecond)
				h.Metrics("x-1", metrics(i))
			}
		}, 3, false, "", 3*(historyPause-time.Millisecond) + historyPause},
		{"for ever", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.attach()
			for i := range 1000 {
				time.Sleep(historyPause / 10)
				h.Metrics("x-1", metrics(i))
			}
		}, -1, false, "", historyWait},
		{"nothing", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) { h.attach() }, 0, false, "", historyPause},
		{"of another attempt", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-0", AttemptUid: "0"}})
			h.Metrics("x-0", metrics(0))
			h.Exited("x-0", &hodeipb.ExitRecord{})
			h.attach()
		}, 0, false, "", historyPause},
		{"it attaches twice", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.attach()
			h.attach()
			h.Metrics("x-1", metrics(0))
		}, 1, false, "", historyPause},
		{"it ends", func(h *historian, _ func(*job.Outcome, error), _ context.CancelCauseFunc) {
			h.attach()
			h.Metrics("x-1", metrics(0))
			h.Exited("x-1", &hodeipb.ExitRecord{Cause: "Completed"})
			h.Exited("x-1", &hodeipb.ExitRecord{Cause: "Completed"})
		}, 1, true, "", -1},
		{"not met", func(*historian, func(*job.Outcome, error), context.CancelCauseFunc) {}, 0, false, "not within 30s", MeetWait},
		{"over before", func(_ *historian, ended func(*job.Outcome, error), _ context.CancelCauseFunc) {
			ended(&job.Outcome{}, nil)
		}, 0, false, "the agent was not met", 0},
		{"not to be watched", func(_ *historian, ended func(*job.Outcome, error), _ context.CancelCauseFunc) {
			ended(nil, broken)
		}, 0, false, "broken", 0},
		{"not to be served", func(_ *historian, _ func(*job.Outcome, error), unserved context.CancelCauseFunc) {
			unserved(broken)
		}, 0, false, "broken", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistorian("1")
				over, ended := NewEnd()
				begun := time.Now()
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var work sync.WaitGroup
				defer work.Wait()
				work.Go(func() { test.act(h, ended, cancel) })
				record, err := h.await(ctx, &Events{Over: over})
				if took := time.Since(begun); test.after >= 0 && took != test.after {
					t.Errorf("after %s, want %s", took, test.after)
				}
				if (record != nil) != test.exited || err == nil && test.err != "" || err != nil && err.Error() != test.err {
					t.Errorf("record %v, error %v, want %q", record, err, test.err)
				}
				if n := len(h.taken()); test.samples >= 0 && n != test.samples || test.samples < 0 && n == 0 {
					t.Errorf("%d samples, want %d", n, test.samples)
				}
			})
		})
	}
}

// Certificates that are refused are told at once, and an agent that is slow to come is.
func TestHistoryRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHistorian("1")
		var slow atomic.Bool
		h.slow = func() { slow.Store(true) }
		refused := make(chan *job.Failure, 1)
		time.AfterFunc(meetSay+time.Second, func() { refused <- &job.Failure{Message: "bad certificate"} })
		over, ended := NewEnd()
		defer ended(nil, nil)
		begun := time.Now()
		_, err := h.await(t.Context(), &Events{Refused: refused, Over: over})
		if err == nil || err.Error() != "bad certificate" || time.Since(begun) != meetSay+time.Second || !slow.Load() {
			t.Errorf("got %v after %s, slow: %v", err, time.Since(begun), slow.Load())
		}
	})
}

// An agent that sends without an end has no more kept than any other.
func TestHistoryBounded(t *testing.T) {
	h := newHistorian("1")
	h.attach()
	for i := range 10 * hodeipb.MaxSamples {
		h.Metrics("x-1", &hodeipb.Metrics{Time: timestamppb.New(runStart.Add(time.Duration(i) * time.Millisecond))})
	}
	if n := len(h.taken()); n == 0 || n > hodeipb.MaxSamples {
		t.Errorf("%d samples", n)
	}
}

// What the agent of the attempt has comes to who asks, and that it has ended meanwhile.
func TestInquiry(t *testing.T) {
	server, agent := followtest.Certs(t, jobID)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), MeetWait)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() {
		client, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(agent)))
		if err != nil {
			t.Error(err)
			return
		}
		defer client.Close()
		stream, err := hodeipb.NewCoordinatorClient(client).Attach(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range []*hodeipb.FromAgent{
			{Message: &hodeipb.FromAgent_Hello{Hello: &hodeipb.Hello{
				Protocol: hodeipb.Protocol, Namespace: jobID.Namespace, Job: jobID.Job, Attempt: "x-1", AttemptUid: "1",
				Extent: &hodeipb.Extent{}, State: &hodeipb.State{Phase: hodeipb.Phase_RUNNING},
			}}},
			{Message: &hodeipb.FromAgent_Metrics{Metrics: metrics(1)}},
			{Message: &hodeipb.FromAgent_Metrics{Metrics: metrics(2)}},
			{Message: &hodeipb.FromAgent_Exit{Exit: &hodeipb.ExitRecord{Cause: string(job.Error), Code: 3}}},
		} {
			if err := stream.Send(m); err != nil {
				t.Error(err)
			}
		}
		for err == nil {
			_, err = stream.Recv() // until it is let go
		}
	})
	q := &Inquiry{Job: newFakeJob(l, server), Namespace: jobID.Namespace, Name: jobID.Job, AttemptUID: "1"}
	got, err := q.Ask(ctx)
	work.Wait()
	if err != nil || len(got.Samples) != 2 || got.Outcome == nil || got.Outcome.Code != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}
