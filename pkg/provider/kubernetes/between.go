package kubernetes

import (
	"cmp"
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
func (c *course) between() bool {
	if !c.started || c.retries == 0 || c.over != "" || c.suspended {
		return false
	}
	for _, a := range c.attempts {
		if a.ran && !a.ended {
			return false
		}
	}
	return true
}

// runs reports whether a command has started and the job is not between two attempts.
func (c *course) runs() bool { return c.started && !c.between() }

// next says what the next attempt waits for, and ends a wait that takes too long.
func (c *course) next(now time.Time) decision {
	if !c.between() {
		c.restless = time.Time{}
		return decision{}
	}
	if c.restless.IsZero() {
		c.restless = now
	}
	since, limit, waiting := c.restless, nextWait, "waiting for another attempt: the cluster makes it after a back-off of 10s and more"
	for _, a := range c.attempts {
		switch {
		case len(a.others) > 0: // of which it was told
			return decision{}
		case !a.ended:
			since, limit, waiting = a.seen, c.startTimeout+nextMargin, c.trouble.Waiting
		}
	}
	waiting = cmp.Or(c.trouble.Waiting, waiting) // also where the Pod can't be made
	d := decision{phase: job.Running}
	if waiting != "" && waiting != c.said && now.Sub(since) >= sayAfter {
		c.said, d.say = waiting, waiting
	}
	if now.Sub(since) >= limit {
		d.failure = &job.Failure{Cause: job.StartTimeout, Hint: "kubectl get events -n " + c.namespace,
			Message: fmt.Sprintf("the next attempt did not start within %s", limit)}
		if c.trouble.Waiting != "" {
			d.failure.Message += ": " + c.trouble.Waiting
		}
	}
	return d
}
