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
	// historyInterval is how often agents take a sample by themselves: an Inquiry makes none measure more often.
	historyInterval = 10 * time.Second
	// historyPause is the silence after which an agent is taken to have sent everything. It sends without a pause;
	// through a tunnel over a slow path, a few hundred milliseconds may lie between two samples.
	historyPause = time.Second
	// historyWait bounds an Inquiry from the moment the agent is there.
	historyWait = 10 * time.Second
)

// Inquiry asks the agent of a running attempt for its samples, and for the end of its command if that has just ended.
// It asks for no output, and leaves as soon as it has the answer. Job, Namespace, Name and AttemptUID are required.
type Inquiry struct {
	Job Job
	// Namespace, Name and JobUID are the job's, AttemptUID is the attempt's.
	Namespace, Name, JobUID string
	AttemptUID              string
	// Slow, if not nil, is called when the agent is not there after 2 s.
	Slow func()
	// TurnedAway is that of the [Attachment].
	TurnedAway func(*coordinator.Fault)
}

// History is what an agent has answered.
type History struct {
	Samples []job.Sample
	Outcome *job.Outcome // nil: the command runs
}

// Ask waits for the agent for up to [MeetWait], and then for its answer for up to 10 s. With an error it returns what
// had come before. The error is a *job.Failure as soon as certificates are refused, because a command that only looks
// does not wait for others; it is [ErrNotMet] if the job ended before its agent was there.
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

// historian is the Listener of an Inquiry. What it keeps is bounded, because a hostile agent may send without end.
type historian struct {
	uid      string
	attached chan struct{} // closed once the attempt is there
	came     chan struct{} // gets a value when samples have come since the last one was taken
	exited   chan *hodeipb.ExitRecord
	slow     func() // the Inquiry's

	mu      sync.Mutex
	attempt string
	series  hodeipb.Series
}

func newHistorian(uid string) *historian {
	return &historian{
		uid: uid, attached: make(chan struct{}), came: make(chan struct{}, 1), exited: make(chan *hodeipb.ExitRecord, 1),
	}
}

// Attached notes that the wanted attempt is there.
func (h *historian) Attached(a coordinator.Attachment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.Hello.AttemptUid == h.uid && h.attempt == "" {
		h.attempt = a.Hello.Attempt
		close(h.attached)
	}
}

// Metrics keeps a sample of the wanted attempt.
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

// Exited passes on that the wanted attempt has ended meanwhile.
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

// State does nothing.
func (h *historian) State(string, *hodeipb.State) {}

// Failed does nothing: nothing is stored, so nothing can fail.
func (h *historian) Failed(string, error) {}

// taken returns the samples that have come.
func (h *historian) taken() (samples []job.Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.series.All() {
		samples = append(samples, wire.Sample(m))
	}
	return samples
}

// await returns when the agent has sent everything. The record is nil if the command runs.
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
