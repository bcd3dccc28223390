package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// readings are those of a meter, and a way to wait for one.
type readings chan reading

func (r readings) await(t *testing.T, what string, is func(reading) bool) reading {
	t.Helper()
	timeout := time.After(agentWait)
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

func sampled(cpu time.Duration) func(reading) bool {
	return func(r reading) bool { return r.sample != nil && *r.sample.Usage.CPU.Total == cpu }
}

func startMeter(t *testing.T, i issued, spec *job.Spec) (issuedJob, readings, context.CancelFunc, <-chan error) {
	t.Helper()
	j := issuedJob{newFakeJob(), i.server}
	got := make(readings, 1000)
	m := &meter{
		job: j, spec: spec, namespace: "ns", interval: 250 * time.Millisecond, tell: func(r reading) { got <- r },
		turnedAway: func(f *coordinator.Fault) { got <- reading{waiting: faultNote(f)} },
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error, 1)
	go func() { over <- m.measure(ctx) }()
	t.Cleanup(cancel)
	return j, got, cancel, over
}

// Who looks asks for samples, none of before it came, and no output, gets each sample once however often the
// agent attaches, and learns how the job ends.
func TestMeter(t *testing.T) {
	i := issueCerts(t, "ns", "x")
	j, got, _, over := startMeter(t, i, &job.Spec{Name: "x"})
	first := attachAgent(t, i, "x-1", j.Deliver)
	if w := first.welcome; w.Output || w.MetricsInterval.AsDuration() != 250*time.Millisecond || !w.MetricsAfter.AsTime().Equal(agentSampled) {
		t.Errorf("welcome %v", w)
	}
	if r := got.await(t, "the probes", func(r reading) bool { return r.probes != nil }); len(r.probes) != 2 || r.probes[1].Absent != "no BTF" {
		t.Errorf("probes %v", r.probes)
	}
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	first.sample(began, usageAt(1))
	first.sample(began.Add(time.Second), usageAt(2))
	got.await(t, "the second sample", sampled(2*time.Second))

	again := attachAgent(t, i, "x-1", j.Deliver)
	again.sample(began.Add(time.Second), usageAt(2))
	again.sample(began.Add(2*time.Second), usageAt(3))
	got.await(t, "the next sample", func(r reading) bool {
		if sampled(2 * time.Second)(r) {
			t.Error("a sample came twice")
		}
		return sampled(3 * time.Second)(r)
	})
	again.exit(completedRecord(began, 5))
	got.await(t, "the last sample", sampled(5*time.Second))
	if r := got.await(t, "the end", func(r reading) bool { return r.outcome != nil }); r.outcome.Cause != job.Completed || r.outcome.Attempt != "x-1" {
		t.Errorf("outcome %+v", r.outcome)
	}
	if err := <-over; err != nil {
		t.Error(err)
	}
}

// An attempt that another follows does not end it; the Job's end does.
func TestMeterRetries(t *testing.T) {
	i := issueCerts(t, "ns", "x")
	j, got, _, over := startMeter(t, i, &job.Spec{Name: "x", Retries: 1})
	failed := &hodeipb.ExitRecord{Cause: "Error", Code: 3}
	attachAgent(t, i, "x-1", j.Deliver).exit(failed)
	got.await(t, "the end of the first", func(r reading) bool { return r.attempt == "x-1" && r.waiting == "exit 3" })
	attachAgent(t, i, "x-2", j.Deliver).exit(failed)
	got.await(t, "the end of the second", func(r reading) bool { return r.attempt == "x-2" && r.waiting == "exit 3" })
	j.end <- &job.Outcome{Cause: job.Error, Code: 3}
	got.await(t, "the end", func(r reading) bool { return r.outcome != nil })
	if err := <-over; err != nil {
		t.Error(err)
	}
}

func TestMeterEnds(t *testing.T) {
	i := issueCerts(t, "ns", "x")
	t.Run("when it is told to", func(t *testing.T) {
		j, got, cancel, over := startMeter(t, i, &job.Spec{Name: "x"})
		a := attachAgent(t, i, "x-1", j.Deliver)
		got.await(t, "its state", func(r reading) bool { return r.attempt == "x-1" })
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if _, err := a.stream.Recv(); err == nil {
			t.Error("the agent is kept")
		}
	})
	t.Run("by the provider's word", func(t *testing.T) {
		j, got, _, over := startMeter(t, i, &job.Spec{Name: "x"})
		j.end <- &job.Outcome{Cause: job.Evicted}
		if r := got.await(t, "the end", func(r reading) bool { return r.outcome != nil }); r.outcome.Cause != job.Evicted {
			t.Errorf("outcome %+v", r.outcome)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

// An agent whose messages make no sense is told of, and does not end it.
func TestMeterTurnedAway(t *testing.T) {
	i := issueCerts(t, "ns", "x")
	j, got, cancel, over := startMeter(t, i, &job.Spec{Name: "x"})
	a := attachAgent(t, i, "x-1", j.Deliver)
	a.send(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Metrics{Metrics: &hodeipb.Metrics{}}})
	got.await(t, "the fault", func(r reading) bool { return strings.HasPrefix(r.waiting, "the agent was turned away: ") })
	attachAgent(t, i, "x-1", j.Deliver).sample(time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC), usageAt(1))
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
		{"is not reached", job.Event{Phase: job.Running, Waiting: true, Detail: "the agent can't be reached"}, "the agent can't be reached"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			m := &meter{tell: func(r reading) { got = r.waiting }}
			m.report(test.event)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
