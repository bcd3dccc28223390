package kubernetes

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// sweepMargin is the time that a job has beyond its start timeout. By then, whoever waits for the start has given up and
// removed the job. If there is an agent, evictWait is added, because the agent has its Pod evicted, and that leaves the
// reason with the Job.
const sweepMargin = time.Minute

// sweptJob is a job that sweep has removed, or could not remove.
type sweptJob struct {
	Name string
	// Why in one line: what kept it from starting.
	Why string
	// Err is why it could not be removed; nil: it was.
	Err *job.Failure
}

// sweepMost bounds the jobs that one sweep reads: each is some KiB on the wire.
const sweepMost = 500

// sweep does what [Provider.SweepNotes] says. If there is nothing to remove, that takes one request. The error is a
// *job.Failure if the jobs can't be listed. A job that can't be removed has an error of its own.
func (p *Provider) sweep(ctx context.Context, keep string) ([]sweptJob, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	namespace, ours := p.settings.Namespace, manifest.LabelManagedBy+"="+manifest.ManagedBy
	jobs, err := p.client.BatchV1().Jobs(namespace).List(ctx,
		metav1.ListOptions{LabelSelector: ours, FieldSelector: "status.successful=0", Limit: sweepMost})
	if err != nil {
		return nil, explain.Error(err)
	}
	ahead, _ := p.clock.Ahead()
	now := time.Now().Add(ahead)
	var late []*batchv1.Job
	for i := range jobs.Items {
		if j := &jobs.Items[i]; j.Name != keep && overdue(j, now) {
			late = append(late, j)
		}
	}
	if len(late) == 0 {
		return nil, nil
	}
	pods, err := p.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: ours})
	if err != nil {
		return nil, explain.Error(err)
	}
	var swept []sweptJob
	for _, j := range late {
		spec, err := manifest.SpecOf(j)
		if err != nil {
			continue
		}
		why, stuck := newFound(j, spec, pods.Items).stuck(now)
		if !stuck {
			continue
		}
		background := metav1.DeletePropagationBackground
		// Not one that has changed since it was listed: it may have been suspended.
		conditions := metav1.Preconditions{UID: &j.UID, ResourceVersion: &j.ResourceVersion}
		err = p.client.BatchV1().Jobs(namespace).Delete(ctx, j.Name,
			metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &conditions})
		if !isGone(err) {
			swept = append(swept, sweptJob{j.Name, why, explain.Error(err)})
		}
	}
	return swept, nil
}

// SweepNotes removes the jobs of the namespace that did not start within their start timeout and that nothing in the
// cluster would ever end. It leaves alone the job called keep, and those that are or were queued or suspended. It returns
// a line about each job that was removed, or could not be. A cluster that does not answer is not reported, because the
// command's own requests do that.
func (p *Provider) SweepNotes(ctx context.Context, keep string) []string {
	swept, _ := p.sweep(ctx, keep)
	var notes []string
	for _, s := range swept {
		switch {
		case s.Err == nil:
			notes = append(notes, fmt.Sprintf("removed job %s, %s", s.Name, s.Why))
		case ctx.Err() == nil:
			notes = append(notes, fmt.Sprintf("job %s, %s, can't be removed: %s", s.Name, s.Why, s.Err.Message))
		}
	}
	return notes
}

// overdue tells of a Job that hodei made, by itself alone, that it may be one that never
// starts.
func overdue(j *batchv1.Job, now time.Time) bool {
	spec, err := manifest.SpecOf(j)
	if err != nil || j.DeletionTimestamp != nil || wasSuspended(j) || j.Status.StartTime == nil {
		return false
	}
	if outcome, over := jobEnd(j); outcome != nil || over != "" || j.Status.Succeeded > 0 || j.Status.Ready != nil && *j.Status.Ready > 0 {
		return false
	}
	return now.After(j.Status.StartTime.Add(spec.StartTimeout + sweepMargin))
}

// stuck says why a job will never start, if so: its start timeout is over, no attempt has run,
// and no agent is there to end it.
func (f *Found) stuck(now time.Time) (why string, ok bool) {
	if f.Finished || !overdue(f.Job, now) || f.Job.Status.Failed > 0 && len(f.Attempts) == 0 {
		return "", false
	}
	kept := ""
	for _, a := range f.Attempts {
		if a.Started || a.Running && now.Before(f.Job.Status.StartTime.Add(f.Spec.StartTimeout+evictWait+sweepMargin)) {
			return "", false
		}
		if a.waits != "" {
			kept = ": " + a.waits
		}
	}
	if len(f.Attempts) == 0 {
		kept = ": no Pod could be made for it"
	}
	return fmt.Sprintf("which had not started within its start timeout of %s%s", f.Spec.StartTimeout, kept), true
}

// evictWait is how long an agent whose start timeout is over waits for its eviction.
const evictWait = 5 * time.Minute
