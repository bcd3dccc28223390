package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// history asks the agent of a running attempt what it has. With an error comes what had come.
func (o *logsOptions) history(ctx context.Context, found *kubernetes.Found, uid string) (follow.History, error) {
	switch may, err := o.cluster.MayTunnel(ctx); {
	case err != nil:
		return follow.History{}, err
	case !may:
		return follow.History{}, errors.New("the tunnel to it is forbidden (create pods/portforward)")
	}
	run, err := o.cluster.Attach(ctx, found, kubernetes.RunOptions{})
	if err != nil {
		return follow.History{}, err
	}
	defer run.Close()
	inquiry := &follow.Inquiry{
		Job: run, Namespace: o.namespace, Name: found.Spec.Name, JobUID: run.UID(), AttemptUID: uid,
		Slow:       func() { o.screen.Note(o.meeting(found.Spec.Name)) },
		TurnedAway: func(f *coordinator.Fault) { o.screen.Note(follow.FaultNote(f)) },
	}
	return inquiry.Ask(ctx)
}

// meeting says that the agent of a job is waited for.
func (o *logsOptions) meeting(name string) string {
	if o.follow {
		return fmt.Sprintf("waiting for the agent of job %s", name)
	}
	return fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, name)
}
