package submission

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// goneMargin is how much longer than its grace a job that is replaced may take to be gone: its agent has 15 s of its own
// for the last output, and a busy kubelet or job controller some seconds.
const goneMargin = 45 * time.Second

// replace deletes a job that has the new one's name, and waits until it is gone. Before it deletes one, it calls begun
// with what is deleted.
func (c *Config) replace(ctx context.Context, begun func(text string)) error {
	cluster, ok := c.Place.(place.Cluster)
	if !ok || !c.Replace {
		return nil
	}
	found, err := cluster.Find(ctx, c.Spec.Name)
	switch {
	case errors.Is(err, kubernetes.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	if c.Spec.Exec { // what would stop the new one is told while the old one is there
		if err := cluster.MayAllowExec(ctx, c.Spec.Name); err != nil {
			return err
		}
	}
	begun(fmt.Sprintf("deleting job %s first: %s", c.Spec.Name, standing(found)))
	// Whoever follows one that runs is told that it was cancelled; one that has ended has nothing to save.
	o := kubernetes.DeleteOptions{Cancelled: !found.Finished, AtOnce: found.Finished}
	if err := cluster.Delete(ctx, found, o); err != nil {
		return err
	}
	return awaitGone(ctx, cluster, found, found.Spec.Grace+goneMargin)
}

// awaitGone waits until a job that was deleted is gone, for no longer than most.
func awaitGone(ctx context.Context, at place.Cluster, found *kubernetes.Found, most time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	switch err := at.AwaitGone(waiting, found); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return &job.Failure{Cause: job.Unknown, Err: err,
			Message: fmt.Sprintf("job %s was deleted to be replaced, and is not gone after %s", found.Spec.Name, most),
			Hint: fmt.Sprintf("see what is left: kubectl get pods -n %s -l %s=%s -o wide",
				at.Namespace(), kubernetes.LabelJob, found.Spec.Name)}
	}
	return nil
}

// unstarted is said of a job whose start the cluster has not seen: a kubelet reports it up to some seconds late.
const unstarted = "the cluster has not seen it start"

// standing says how far a job has come.
func standing(found *kubernetes.Found) string {
	if found.Finished {
		return "it has ended (" + ui.Printable(found.Outcome.Summary()) + ")"
	}
	n := len(found.Attempts)
	if n == 0 {
		return unstarted
	}
	switch last := found.Attempts[n-1]; {
	case last.Left:
		return "its command has ended, and its Pod waits for somebody to fetch the output"
	case last.Ended:
		return "its latest attempt has ended (" + ui.Printable(last.Outcome.Summary()) + ")"
	case history.Started(last.Phases):
		return "it runs"
	}
	return unstarted
}
