package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Ask adds to p what the agent of a running attempt has: its samples up to now, and its end if it has just ended. If
// there are no samples, p.Missing says why. The error is ctx's alone. Ask takes up to 40 s.
func (f *Finder) Ask(ctx context.Context, found *kubernetes.Found, a *Attempt, p *PastRun) error {
	if !a.Pod.Running {
		p.Missing = cmp.Or(p.Missing, "its agent does not run")
		return nil
	}
	h, err := f.inquire(ctx, found, a.UID)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if failure, ok := errors.AsType[*job.Failure](err); ok { // worth a note even if the stored samples suffice
		f.Note(fmt.Sprintf("the agent of %s can't be asked what it has: %v", a.Name, failure))
		if f.Hint != nil {
			f.Hint(failure.Hint)
		}
	}
	if len(h.Samples) > 0 { // the agent has all samples, the store those up to some moment
		p.Samples, p.Missing = h.Samples, ""
	}
	switch {
	case h.Outcome != nil:
		p.Outcome, p.Running = h.Outcome, false
	case err != nil && len(p.Samples) == 0:
		p.Missing = "its agent was not reached: " + err.Error()
	case len(p.Samples) == 0:
		p.Missing = "its agent has none yet"
	}
	return nil
}

// inquire asks the agent of a running attempt what it has. With an error it returns what had come before it.
func (f *Finder) inquire(ctx context.Context, found *kubernetes.Found, uid string) (follow.History, error) {
	switch may, err := f.Cluster.MayTunnel(ctx); {
	case err != nil:
		return follow.History{}, err
	case !may:
		return follow.History{}, errors.New("the tunnel to it is forbidden (create pods/portforward)")
	}
	run, err := f.Cluster.Attach(ctx, found, kubernetes.RunOptions{})
	if err != nil {
		return follow.History{}, err
	}
	defer run.Close()
	inquiry := &follow.Inquiry{
		Job: run, Namespace: f.Namespace, Name: found.Spec.Name, JobUID: run.UID(), AttemptUID: uid,
		Slow: func() {
			f.Note(fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, found.Spec.Name))
		},
		TurnedAway: func(fault *coordinator.Fault) { f.Note(follow.FaultNote(fault)) },
	}
	return inquiry.Ask(ctx)
}
