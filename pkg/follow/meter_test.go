package follow

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// readings are those of a meter, and a way to wait for one.
type readings chan Reading

func (r readings) await(t *testing.T, what string, is func(Reading) bool) Reading {
	t.Helper()
	timeout := time.After(followtest.Wait)
	for {
		select {
		case got := <-r:
			if is(got) {
				return got
			}
		case <-timeout:
			t.Fatalf("waited for: %s", what)
		}
	}
}

func sampled(cpu time.Duration) func(Reading) bool {
	return func(r Reading) bool { return r.Sample != nil && *r.Sample.Usage.CPU.Total == cpu }
}

func startMeter(t *testing.T, i followtest.Issued, spec *job.Spec) (followtest.IssuedJob, readings, context.CancelFunc, <-chan error) {
	t.Helper()
	j := followtest.IssuedJob{Job: followtest.NewJob(), Config: i.Server}
	got := make(readings, 1000)
	m := &Meter{
		Job: j, Spec: spec, Namespace: "ns", Interval: 250 * time.Millisecond, Tell: func(r Reading) { got <- r },
		TurnedAway: func(f *coordinator.Fault) { got <- Reading{Waiting: FaultNote(f)} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- m.Run(ctx) }()
	t.Cleanup(cancel)
	return j, got, cancel, over
}

// Who looks asks for samples, none of before it came, and no output, gets each sample once however often the
// agent attaches, and learns how the job ends.
func TestMeter(t *testing.T) {
	i := followtest.Issue(t, "ns", "x")
	j, got, _, over := startMeter(t, i, &job.Spec{Name: "x"})
	first := followtest.Attach(t, i, "x-1", j.Deliver)
	if w := first.Welcome; w.Output || w.MetricsInterval.AsDuration() != 250*time.Millisecond ||
		!w.MetricsAfter.AsTime().Equal(followtest.Sampled) {
		t.Errorf("welcome %v", w)
	}
	if r := got.await(t, "the probes", func(r Reading) bool { return r.Probes != nil }); len(r.Probes) != 2 ||
		r.Probes[1].Absent != "no BTF" {
		t.Errorf("probes %v", r.Probes)
	}
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	first.Sample(began, followtest.UsageAt(1))
	first.Sample(began.Add(time.Second), followtest.UsageAt(2))
	got.await(t, "the second sample", sampled(2*time.Second))

	again := followtest.Attach(t, i, "x-1", j.Deliver)
	again.Sample(began.Add(time.Second), followtest.UsageAt(2))
	again.Sample(began.Add(2*time.Second), followtest.UsageAt(3))
	got.await(t, "the next sample", func(r Reading) bool {
		if sampled(2 * time.Second)(r) {
			t.Error("a sample came twice")
		}
		return sampled(3 * time.Second)(r)
	})
	again.Exit(followtest.Completed(began, 5))
	got.await(t, "the last sample", sampled(5*time.Second))
	if r := got.await(t, "the end", func(r Reading) bool { return r.Outcome != nil }); r.Outcome.Cause != job.Completed ||
		r.Outcome.Attempt != "x-1" {
		t.Errorf("outcome %+v", r.Outcome)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// An attempt that another follows does not end it; the Job's end does.
func TestMeterRetries(t *testing.T) {
	i := followtest.Issue(t, "ns", "x")
	j, got, _, over := startMeter(t, i, &job.Spec{Name: "x", Retries: 1})
	failed := &hodeipb.ExitRecord{Cause: "Error", Code: 3}
	followtest.Attach(t, i, "x-1", j.Deliver).Exit(failed)
	got.await(t, "the end of the first", func(r Reading) bool { return r.Attempt == "x-1" && r.Waiting == "exit 3" })
	followtest.Attach(t, i, "x-2", j.Deliver).Exit(failed)
	got.await(t, "the end of the second", func(r Reading) bool { return r.Attempt == "x-2" && r.Waiting == "exit 3" })
	j.Ends <- &job.Outcome{Cause: job.Error, Code: 3}
	got.await(t, "the end", func(r Reading) bool { return r.Outcome != nil })
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestMeterEnds(t *testing.T) {
	i := followtest.Issue(t, "ns", "x")
	t.Run("when it is told to", func(t *testing.T) {
		j, got, cancel, over := startMeter(t, i, &job.Spec{Name: "x"})
		a := followtest.Attach(t, i, "x-1", j.Deliver)
		got.await(t, "its state", func(r Reading) bool { return r.Attempt == "x-1" })
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := a.Stream.Recv(); err == nil {
			t.Error("the agent is kept")
		}
	})
	t.Run("by the provider's word", func(t *testing.T) {
		j, got, _, over := startMeter(t, i, &job.Spec{Name: "x"})
		j.Ends <- &job.Outcome{Cause: job.Evicted}
		if r := got.await(t, "the end", func(r Reading) bool { return r.Outcome != nil }); r.Outcome.Cause != job.Evicted {
			t.Errorf("outcome %+v", r.Outcome)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

// An agent whose messages make no sense is told of, and does not end it.
func TestMeterTurnedAway(t *testing.T) {
	i := followtest.Issue(t, "ns", "x")
	j, got, cancel, over := startMeter(t, i, &job.Spec{Name: "x"})
	a := followtest.Attach(t, i, "x-1", j.Deliver)
	a.Send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: &hodeipb.Metrics{}}})
	got.await(t, "the fault", func(r Reading) bool { return strings.HasPrefix(r.Waiting, "the agent was turned away: ") })
	followtest.Attach(t, i, "x-1", j.Deliver).Sample(time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC), followtest.UsageAt(1))
	got.await(t, "a sample", sampled(time.Second))
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What a start waits for is said, but not what is known anyway.
func TestMeterReport(t *testing.T) {
	for _, test := range []struct {
		name  string
		event job.Event
		want  string
	}{
		{"submitted", job.Event{Phase: job.Submitted, Detail: "k8s (ns)"}, ""},
		{"no node", job.Event{Phase: job.Scheduled, Waiting: true, Detail: "no node takes it"}, "no node takes it"},
		{"a node", job.Event{Phase: job.Scheduled, Detail: "node1"}, "waiting for the images"},
		{"an image", job.Event{Phase: job.Pulling, Detail: "golang:1.26"}, "pulling golang:1.26"},
		{"runs", job.Event{Phase: job.Running}, ""},
		{"is not reached", job.Event{Phase: job.Running, Waiting: true, Detail: "the agent can't be reached"},
			"the agent can't be reached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			m := &Meter{Tell: func(r Reading) { got = r.Waiting }}
			m.report(test.event)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
