package cancel

import (
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// way is how a job is ended.
type way string

const (
	leaveIt    way = "there is nothing to end"
	askAgent   way = "ask the agent of its attempt, which also knows whether the command has started"
	endRetries way = "keep it from making another attempt: commands of it ran, and none runs now"
	deleteIt   way = "delete it: no command of it has started"
	deleteNow  way = "delete it, whatever runs"
)

// decide says how to end a job, as it was found; why is said of one that has nothing to end.
func decide(found *kubernetes.Found, force bool) (w way, why string) {
	name := found.Spec.Name
	switch {
	case found.Finished:
		return leaveIt, fmt.Sprintf("job %s has ended already: %s", name, found.Outcome.Summary())
	case found.Job.DeletionTimestamp != nil && !force:
		return leaveIt, fmt.Sprintf("job %s is being deleted already", name)
	case force:
		return deleteNow, ""
	}
	last := lastAttempt(found)
	if last == nil || last.Ended && !last.Started || !last.Ended && !last.Running && !last.MayRun {
		return unasked(found, last), ""
	}
	tries := found.Spec.Retries > 0
	switch {
	case last.Ended && tries && !last.Outcome.Succeeded(), last.Left && tries && last.LeftCode != 0:
		return endRetries, ""
	case last.Ended:
		return leaveIt, fmt.Sprintf("job %s has ended already: %s", name, last.Outcome.Summary())
	case last.Left:
		return leaveIt, fmt.Sprintf("the command of job %s has ended already; its agent still keeps the output", name)
	}
	return askAgent, ""
}

// unasked decides about a job without an agent that could be asked; last is its latest attempt, nil without a Pod.
func unasked(found *kubernetes.Found, last *kubernetes.Attempt) way {
	ran := found.Job.Status.Failed > 0 // its Pods may be gone
	for i := range found.Attempts {
		ran = ran || found.Attempts[i].Started
	}
	switch {
	case ran && found.Spec.Retries > 0:
		return endRetries
	case last != nil && last.Started: // its agent is gone, and its end is on the way
		return deleteNow
	}
	return deleteIt
}

// lastAttempt returns the latest attempt; nil: no Pod is there.
func lastAttempt(found *kubernetes.Found) *kubernetes.Attempt {
	if n := len(found.Attempts); n > 0 {
		return &found.Attempts[n-1]
	}
	return nil
}
