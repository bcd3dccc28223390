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

// Meter tells what a job uses, without following it: it asks agents for samples and for no output, so an agent never
// takes its output for stored because of a Meter. An agent takes eight coordinators at once; a Meter gives its place
// back when Run returns. Job, Spec, Namespace, Interval and Tell are required. Run is called once.
type Meter struct {
	// Job is closed by Run.
	Job interface {
		Job
		Close()
	}
	Spec      *job.Spec
	Namespace string
	Interval  time.Duration // between two samples
	Hasty     bool          // return at the first refused certificate, instead of waiting for another
	// Tell gets every reading, in order. It must not block, because the agent's stream would block with it.
	Tell func(Reading)
	// TurnedAway, if not nil, is told why an agent was turned away: what it sent made no sense.
	TurnedAway func(*coordinator.Fault)

	mu      sync.Mutex
	attempt string
	last    time.Time // when the latest sample that was told was taken
	ended   func()    // tells Run that the job has ended
}

// Reading is one thing that a Meter has learned. A field with its zero value says nothing: what earlier readings said
// of it still holds.
type Reading struct {
	Attempt string
	Sample  *job.Sample
	// Probes are the parts of the eBPF assist, from an agent that has attached.
	Probes []job.Probe
	// Waiting is why there is no sample yet, in words.
	Waiting string
	// Outcome is how the job has ended.
	Outcome *job.Outcome
}

// Run tells readings until the job has ended, and returns nil. If ctx ends first, or nothing more can be learned, it
// returns why.
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

// await returns nil once the job has ended, else why nothing more can be learned. complete is closed when an agent has
// said that the job has ended.
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

// report tells how far the job's start is, and what it waits for.
func (m *Meter) report(e job.Event) {
	switch {
	case e.Waiting:
		m.Tell(Reading{Waiting: e.Detail})
	case e.Phase == job.Pulling:
		m.Tell(Reading{Waiting: "pulling " + e.Detail})
	case e.Phase != job.Running && e.Phase != job.Submitted: // every job was submitted, so that is no news
		m.Tell(Reading{Waiting: e.Phase.Next()})
	}
}

// Attached notes which attempt is the latest: only its samples are told.
func (m *Meter) Attached(a coordinator.Attachment) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a.Hello.Attempt != m.attempt {
		m.attempt, m.last = a.Hello.Attempt, time.Time{}
	}
}

// State tells which parts of the eBPF assist are at work, and that the command does not run yet.
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

// sample tells a sample, unless it was told already: the figures of an exit record have often come as a sample too.
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

// Exited tells how an attempt ended. If no other can follow, the job has ended, and Run returns.
func (m *Meter) Exited(attempt string, record *hodeipb.ExitRecord) {
	o := wire.Outcome(record)
	o.Attempt = attempt
	if o.Usage != nil {
		m.sample(attempt, job.Sample{Time: o.Finished, Usage: *o.Usage})
	}
	switch {
	case o.PodEnded: // the Pod says why, and Watch tells of that
		m.Tell(Reading{Attempt: attempt, Waiting: o.Summary()})
	case o.Succeeded(), o.Cause != job.Unknown && m.Spec.Retries == 0:
		m.Tell(Reading{Attempt: attempt, Outcome: o})
		m.ended()
	default: // another attempt may follow; Watch tells how the job ends
		m.Tell(Reading{Attempt: attempt, Waiting: o.Summary()})
	}
}

// Failed does nothing: a Meter stores nothing, so nothing can fail.
func (m *Meter) Failed(string, error) {}
