package follow

import (
	"context"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Meter attaches to a job as one who only looks: it asks for no output, so that nobody
// takes it for stored, and tells what the job uses. An agent takes eight coordinators
// at once; its place is free again as soon as Run returns.
type Meter struct {
	// Job is closed at the end.
	Job interface {
		Job
		Close()
	}
	Spec      *job.Spec
	Namespace string
	Interval  time.Duration // between two samples
	Hasty     bool          // certificates that are refused are not waited for
	// Tell gets every reading, in order. It must not wait: the agent would be told to.
	Tell func(Reading)
	// TurnedAway is told what is wrong with an agent that was turned away for what it sent.
	TurnedAway func(*coordinator.Fault)

	mu      sync.Mutex
	attempt string
	last    time.Time // of its samples
	ended   func()
}

// Reading is one thing that a meter has learned. What it says nothing of is as it was.
type Reading struct {
	Attempt string
	Sample  *job.Sample
	// Probes are of an agent that has attached; nil: as they were.
	Probes []job.Probe
	// Waiting is why there is no sample yet, in words.
	Waiting string
	Outcome *job.Outcome
}

// Run tells readings until the job has ended, and then returns nil; or until ctx
// has, or nothing more can be learned, and returns why.
func (m *Meter) Run(ctx context.Context) error {
	defer m.Job.Close()
	complete, ended := context.WithCancel(context.Background())
	defer ended()
	m.ended = ended
	attachment := &Attachment{
		Job: m.Job, Namespace: m.Namespace, Name: m.Spec.Name,
		Recorder: &coordinator.Recorder{Listener: m}, Every: m.Interval, NewSamples: true,
		Report: m.report, TurnedAway: m.TurnedAway,
	}
	return attachment.Run(ctx, func(ctx context.Context, e *Events) error {
		return m.await(ctx, e, complete.Done())
	})
}

// await returns nil once the job has ended, or why nothing more can be learned of it.
func (m *Meter) await(ctx context.Context, e *Events, complete <-chan struct{}) error {
	for {
		select {
		case <-complete:
			e.Complete()
			return nil
		case refusal := <-e.Refused:
			if m.Hasty {
				return refusal
			}
			m.Tell(Reading{Waiting: refusal.Error()})
		case <-e.Over.Done():
			if e.Over.Outcome == nil {
				return context.Cause(e.Over)
			}
			m.Tell(Reading{Outcome: e.Over.Outcome})
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// report tells what the start waits for, and how far it is.
func (m *Meter) report(e job.Event) {
	switch {
	case e.Waiting:
		m.Tell(Reading{Waiting: e.Detail})
	case e.Phase == job.Pulling:
		m.Tell(Reading{Waiting: "pulling " + e.Detail})
	case e.Phase != job.Running && e.Phase != job.Submitted: // that it was we knew
		m.Tell(Reading{Waiting: e.Phase.Next()})
	}
}

// Attached begins with an attempt.
func (m *Meter) Attached(a coordinator.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Hello.Attempt != m.attempt {
		m.attempt, m.last = a.Hello.Attempt, time.Time{}
	}
}

// State tells which parts of the eBPF assist, and whether the command runs.
func (m *Meter) State(attempt string, s *hodeipb.State) {
	r := Reading{Attempt: attempt, Probes: wire.Probes(s.Probes)}
	if s.Phase < hodeipb.Phase_RUNNING {
		r.Waiting = job.AgentUp.Next()
	}
	m.Tell(r)
}

// Metrics tells a sample.
func (m *Meter) Metrics(attempt string, metrics *hodeipb.Metrics) {
	m.sample(attempt, wire.Sample(metrics))
}

// sample tells one, unless it was told: that of the exit record has often come by itself.
func (m *Meter) sample(attempt string, s job.Sample) {
	m.mu.Lock()
	later := attempt == m.attempt && s.Time.After(m.last)
	if later {
		m.last = s.Time
	}
	m.mu.Unlock()
	if later {
		m.Tell(Reading{Attempt: attempt, Sample: &s})
	}
}

// Exited tells how an attempt ended, and ends the measuring if no other follows.
func (m *Meter) Exited(attempt string, record *hodeipb.ExitRecord) {
	o := wire.Outcome(record)
	o.Attempt = attempt
	if o.Usage != nil {
		m.sample(attempt, job.Sample{Time: o.Finished, Usage: *o.Usage})
	}
	switch {
	case o.PodEnded: // why, its Pod says
		m.Tell(Reading{Attempt: attempt, Waiting: o.Summary()})
	case o.Succeeded(), o.Cause != job.Unknown && m.Spec.Retries == 0:
		m.Tell(Reading{Attempt: attempt, Outcome: o})
		m.ended()
	default: // what the Job and its Pod say comes by Watch
		m.Tell(Reading{Attempt: attempt, Waiting: o.Summary()})
	}
}

// Failed is of what is stored, and nothing is.
func (m *Meter) Failed(string, error) {}
