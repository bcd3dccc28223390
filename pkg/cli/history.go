package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
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

// history is what an agent tells of its attempt without being asked for output.
type history struct {
	samples []job.Sample
	outcome *job.Outcome // nil: it runs
}

// historian is the Listener that takes it: a hostile agent may send without an end,
// and what is kept is bounded.
type historian struct {
	uid      string
	attached chan struct{} // closed once the attempt is there
	came     chan struct{} // gets a value now and then while samples come
	exited   chan *hodeipb.ExitRecord
	slow     func() // called when it is not there after meetSay

	mu      sync.Mutex
	attempt string
	series  hodeipb.Series
}

func newHistorian(uid string) *historian {
	return &historian{uid: uid, slow: func() {}, attached: make(chan struct{}), came: make(chan struct{}, 1), exited: make(chan *hodeipb.ExitRecord, 1)}
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
		samples = append(samples, coordinator.Sample(m))
	}
	return samples
}

// history attaches to a running attempt in silence, as one that stores nothing, and
// leaves when it has what its agent has. With an error comes what had come.
func (o *logsOptions) history(ctx context.Context, found *kubernetes.Found, uid string) (history, error) {
	switch may, err := o.cluster.MayTunnel(ctx); {
	case err != nil:
		return history{}, err
	case !may:
		return history{}, errors.New("the tunnel to it is forbidden (create pods/portforward)")
	}
	run, err := o.cluster.Attach(ctx, found)
	if err != nil {
		return history{}, err
	}
	defer run.Close()
	h := newHistorian(uid)
	h.slow = func() { o.screen.note(o.meeting(found.Spec.Name)) }
	attachment := &follow.Attachment{
		Job: run, Namespace: o.namespace, Name: found.Spec.Name,
		Recorder: &coordinator.Recorder{JobUID: run.UID(), Listener: h}, Every: historyInterval,
		TurnedAway: func(f *coordinator.Fault) { o.screen.note(faultNote(f)) },
	}
	var record *hodeipb.ExitRecord
	err = attachment.Run(ctx, func(ctx context.Context, e *follow.Events) (err error) {
		record, err = h.await(ctx, e)
		return err
	})
	told := history{samples: h.taken()}
	if record != nil {
		told.outcome = coordinator.Outcome(record)
	}
	return told, err
}

// await returns when the agent has sent what it has, with the exit record if that was
// part of it.
func (h *historian) await(ctx context.Context, e *follow.Events) (*hodeipb.ExitRecord, error) {
	if err := h.meet(ctx, e); err != nil {
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

// meet returns nil once the attempt is there, or why it will not be. A command that only looks
// does not wait for certificates to be accepted.
func (h *historian) meet(ctx context.Context, e *follow.Events) error {
	defer time.AfterFunc(follow.MeetSay, h.slow).Stop()
	meeting := time.NewTimer(follow.MeetWait)
	defer meeting.Stop()
	select {
	case <-h.attached:
		return nil
	case refusal := <-e.Refused:
		return refusal
	case <-meeting.C:
		return fmt.Errorf("not within %s", follow.MeetWait)
	case <-e.Over.Done():
		if e.Over.Outcome == nil {
			return context.Cause(e.Over)
		}
		return follow.ErrNotMet
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// meeting says that the agent of a job is waited for.
func (o *logsOptions) meeting(name string) string {
	if o.follow {
		return fmt.Sprintf("waiting for the agent of job %s", name)
	}
	return fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, name)
}

// faultNote says what is wrong with an agent that was not let in for what it sent.
func faultNote(f *coordinator.Fault) string { return "the agent was turned away: " + f.Error() }
