package kubernetes

import (
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// nextWait is how long hodei waits for the cluster to make the next attempt of a job: the
	// job controller backs off for up to 10 minutes.
	nextWait = 12 * time.Minute
	// nextMargin is what an attempt gets beyond its start timeout, which its agent keeps: a
	// Pod that waits for an image is evicted some 20 s later.
	nextMargin = time.Minute
)

// between reports whether a command of the job has run, none runs now, and another may run.
func (w *watcher) between() bool {
	if !w.started || w.run.spec.Retries == 0 || w.over != "" || w.suspended {
		return false
	}
	for _, a := range w.attempts {
		if a.ran && !a.ended {
			return false
		}
	}
	return true
}

// runs reports whether a command has started and the job is not between two attempts.
func (w *watcher) runs() bool { return w.started && !w.between() }

// next says what the next attempt waits for, and ends a wait that takes too long.
func (w *watcher) next(now time.Time) error {
	if !w.between() {
		w.restless = time.Time{}
		return nil
	}
	if w.restless.IsZero() {
		w.restless = now
	}
	since, limit, waiting := w.restless, nextWait, "waiting for another attempt: the cluster makes it after a back-off of 10s and more"
	for _, a := range w.attempts {
		switch {
		case len(a.others) > 0: // of which it was told
			return nil
		case !a.ended:
			since, limit, waiting = a.seen, w.run.spec.StartTimeout+nextMargin, w.trouble.waiting
		}
	}
	if w.trouble.waiting != "" { // also where the Pod can't be made
		waiting = w.trouble.waiting
	}
	if waiting != "" && waiting != w.said && now.Sub(since) >= sayAfter {
		w.said = waiting
		w.report(job.Event{Phase: job.Running, Time: now, Waiting: true, Detail: waiting})
	}
	if now.Sub(since) < limit {
		return nil
	}
	f := &job.Failure{Cause: job.StartTimeout, Message: fmt.Sprintf("the next attempt did not start within %s", limit),
		Hint: "kubectl get events -n " + w.run.job.Namespace}
	if w.trouble.waiting != "" {
		f.Message += ": " + w.trouble.waiting
	}
	return f
}
