package cli

import (
	"context"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// meter attaches to a job as one who only looks: it asks for no output, so that nobody
// takes it for stored, and tells what the job uses. An agent takes eight coordinators
// at once; its place is free again as soon as measure returns.
type meter struct {
	job       place.Job
	spec      *job.Spec
	namespace string
	interval  time.Duration // between two samples
	hasty     bool          // certificates that are refused are not waited for
	// tell gets every reading, in order. It must not wait: the agent would be told to.
	tell func(reading)
	// turnedAway is told what is wrong with an agent that was turned away for what it sent.
	turnedAway func(*coordinator.Fault)

	mu      sync.Mutex
	attempt string
	last    time.Time // of its samples
	ended   func()
}

// reading is one thing that a meter has learned. What it says nothing of is as it was.
type reading struct {
	attempt string
	sample  *job.Sample
	// probes are of an agent that has attached; nil: as they were.
	probes []job.Probe
	// waiting is why there is no sample yet, in words.
	waiting string
	outcome *job.Outcome
}

// measure tells readings until the job has ended, and then returns nil; or until ctx
// has, or nothing more can be learned, and returns why.
func (m *meter) measure(ctx context.Context) error {
	defer m.job.Close()
	complete, ended := context.WithCancel(context.Background())
	defer ended()
	m.ended = ended
	attachment := &follow.Attachment{
		Job: m.job, Namespace: m.namespace, Name: m.spec.Name,
		Recorder: &coordinator.Recorder{Listener: m}, Every: m.interval, NewSamples: true,
		Report: m.report, TurnedAway: m.turnedAway,
	}
	return attachment.Run(ctx, func(ctx context.Context, e *follow.Events) error {
		return m.await(ctx, e, complete.Done())
	})
}

// await returns nil once the job has ended, or why nothing more can be learned of it.
func (m *meter) await(ctx context.Context, e *follow.Events, complete <-chan struct{}) error {
	for {
		select {
		case <-complete:
			e.Complete()
			return nil
		case refusal := <-e.Refused:
			if m.hasty {
				return refusal
			}
			m.tell(reading{waiting: refusal.Error()})
		case <-e.Over.Done():
			if e.Over.Outcome == nil {
				return context.Cause(e.Over)
			}
			m.tell(reading{outcome: e.Over.Outcome})
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// report tells what the start waits for, and how far it is.
func (m *meter) report(e job.Event) {
	switch {
	case e.Waiting:
		m.tell(reading{waiting: e.Detail})
	case e.Phase == job.Pulling:
		m.tell(reading{waiting: "pulling " + e.Detail})
	case e.Phase != job.Running && e.Phase != job.Submitted: // that it was we knew
		m.tell(reading{waiting: e.Phase.Next()})
	}
}

// Attached begins with an attempt.
func (m *meter) Attached(a coordinator.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Hello.Attempt != m.attempt {
		m.attempt, m.last = a.Hello.Attempt, time.Time{}
	}
}

// State tells which parts of the eBPF assist, and whether the command runs.
func (m *meter) State(attempt string, s *hodeipb.State) {
	r := reading{attempt: attempt, probes: wire.Probes(s.Probes)}
	if s.Phase < hodeipb.Phase_RUNNING {
		r.waiting = job.AgentUp.Next()
	}
	m.tell(r)
}

// Metrics tells a sample.
func (m *meter) Metrics(attempt string, metrics *hodeipb.Metrics) {
	m.sample(attempt, wire.Sample(metrics))
}

// sample tells one, unless it was told: that of the exit record has often come by itself.
func (m *meter) sample(attempt string, s job.Sample) {
	m.mu.Lock()
	later := attempt == m.attempt && s.Time.After(m.last)
	if later {
		m.last = s.Time
	}
	m.mu.Unlock()
	if later {
		m.tell(reading{attempt: attempt, sample: &s})
	}
}

// Exited tells how an attempt ended, and ends the measuring if no other follows.
func (m *meter) Exited(attempt string, record *hodeipb.ExitRecord) {
	o := wire.Outcome(record)
	o.Attempt = attempt
	if o.Usage != nil {
		m.sample(attempt, job.Sample{Time: o.Finished, Usage: *o.Usage})
	}
	switch {
	case o.PodEnded: // why, its Pod says
		m.tell(reading{attempt: attempt, waiting: o.Summary()})
	case o.Succeeded(), o.Cause != job.Unknown && m.spec.Retries == 0:
		m.tell(reading{attempt: attempt, outcome: o})
		m.ended()
	default: // what the Job and its Pod say comes by Watch
		m.tell(reading{attempt: attempt, waiting: o.Summary()})
	}
}

// Failed is of what is stored, and nothing is.
func (m *meter) Failed(string, error) {}
