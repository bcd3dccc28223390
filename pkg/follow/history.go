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

const (
	// historyInterval asks for no more than an agent takes by itself: who looks at a
	// job does not have it measured more often.
	historyInterval = 10 * time.Second
	// historyPause is how long nothing comes when an agent has sent all that it has:
	// it does so at once, and through a tunnel over a slow path within a few hundred
	// milliseconds.
	historyPause = time.Second
	// historyWait bounds it all, once the agent is there.
	historyWait = 10 * time.Second
)

// Inquiry asks the agent of an attempt that runs what it has: it attaches in silence, as one that
// stores nothing, and leaves when it has that. It requires Job, Namespace, Name and AttemptUID.
type Inquiry struct {
	Job Job
	// Namespace, Name and JobUID are the job's, AttemptUID is the attempt's.
	Namespace, Name, JobUID string
	AttemptUID              string
	// Slow, if not nil, is called when the agent is not there after [MeetSay].
	Slow func()
	// TurnedAway is the Attachment's.
	TurnedAway func(*coordinator.Fault)
}

// History is what an agent tells of its attempt without being asked for output.
type History struct {
	Samples []job.Sample
	Outcome *job.Outcome // nil: it runs
}

// Ask takes up to [MeetWait] to meet the agent and 10 s from then on. With an error comes what had
// come. Certificates that are refused are a *job.Failure at once: a command that only looks does not
// wait for others. The error is [ErrNotMet] if the job ended before its agent was there.
func (q *Inquiry) Ask(ctx context.Context) (History, error) {
	h := newHistorian(q.AttemptUID)
	h.slow = q.Slow
	attachment := &Attachment{
		Job: q.Job, Namespace: q.Namespace, Name: q.Name,
		Recorder: &coordinator.Recorder{JobUID: q.JobUID, Listener: h}, Every: historyInterval,
		TurnedAway: q.TurnedAway,
	}
	var record *hodeipb.ExitRecord
	err := attachment.Run(ctx, func(ctx context.Context, e *Events) (err error) {
		record, err = h.await(ctx, e)
		return err
	})
	told := History{Samples: h.taken()}
	if record != nil {
		told.Outcome = wire.Outcome(record)
	}
	return told, err
}

// historian is the Listener that takes it: a hostile agent may send without an end,
// and what is kept is bounded.
type historian struct {
	uid      string
	attached chan struct{} // closed once the attempt is there
	came     chan struct{} // gets a value now and then while samples come
	exited   chan *hodeipb.ExitRecord
	slow     func() // called when it is not there after MeetSay; may be nil

	mu      sync.Mutex
	attempt string
	series  hodeipb.Series
}

func newHistorian(uid string) *historian {
	return &historian{
		uid: uid, attached: make(chan struct{}), came: make(chan struct{}, 1), exited: make(chan *hodeipb.ExitRecord, 1),
	}
}

// Attached takes the attempt that is wanted, once.
func (h *historian) Attached(a coordinator.Attachment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Hello.AttemptUid == h.uid && h.attempt == "" {
		h.attempt = a.Hello.Attempt
		close(h.attached)
	}
}

// Metrics keeps a sample.
func (h *historian) Metrics(attempt string, m *hodeipb.Metrics) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != h.attempt {
		return
	}
	h.series.Add(m, false)
	select {
	case h.came <- struct{}{}:
	default:
	}
}

// Exited tells that it is over, meanwhile.
func (h *historian) Exited(attempt string, record *hodeipb.ExitRecord) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != h.attempt {
		return
	}
	select {
	case h.exited <- record:
	default:
	}
}

// State is of no interest here.
func (h *historian) State(string, *hodeipb.State) {}

// Failed does not happen: nothing is stored.
func (h *historian) Failed(string, error) {}

// taken is what has come.
func (h *historian) taken() (samples []job.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.series.All() {
		samples = append(samples, wire.Sample(m))
	}
	return samples
}

// await returns when the agent has sent what it has, with the exit record if that was
// part of it.
func (h *historian) await(ctx context.Context, e *Events) (*hodeipb.ExitRecord, error) {
	if _, err := Meet(ctx, e, h.attached, Patience{Slow: h.slow}); err != nil {
		return nil, err
	}
	longest := time.NewTimer(historyWait)
	defer longest.Stop()
	for {
		pause := time.NewTimer(historyPause)
		select {
		case <-h.came:
			pause.Stop()
			continue
		case record := <-h.exited:
			pause.Stop()
			return record, nil
		case <-pause.C:
		case <-longest.C:
			pause.Stop()
		case <-ctx.Done():
			pause.Stop()
			return nil, context.Cause(ctx)
		}
		return nil, nil
	}
}
