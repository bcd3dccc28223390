// Package remedy says how a job failed and what helps against that, as a hint that can be typed. Start with
// [Job.Explain]. Whoever shows a hint replaces {hodei} in it by the program's name. The package shows nothing and asks
// no cluster. It reads one thing of this machine: the first line of a script that was not found in the image.
package remedy

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Job is a job that has ended, as far as a hint depends on it.
type Job struct {
	Spec      *job.Spec
	Namespace string // empty for one of this machine
	Here      bool   // it ran on this machine, not in a cluster
	// Removed tells that nothing is left of the job to look at or to run again by its name.
	Removed bool
	// Again is the command line that ran it, up to the --. Empty: one that runs it in the same image.
	Again string
	// EBPFHint says what helps if the eBPF of the job's cluster has ended it, and is empty if not; nil: the cluster
	// is not at hand.
	EBPFHint func(*job.Outcome) string
}

// Explain returns an outcome as an error with a hint. It returns nil for a command that ended by itself or was
// cancelled: the outcome's summary says all then. It may read a script of this machine, see the package.
func (j Job) Explain(outcome *job.Outcome) *job.Failure {
	if outcome.Succeeded() { // what else happened is a note
		return nil
	}
	f := &job.Failure{Cause: outcome.Cause, Message: ui.Printable(outcome.Summary())}
	switch outcome.Cause {
	case job.Completed, job.Signaled, job.Cancelled:
		return nil
	case job.Error:
		// The launcher leaves a message when it could not start the command.
		if !outcome.NeverRan() {
			return nil
		}
		f.Message = fmt.Sprintf("the command can't be run: %s (exit %d)", ui.Printable(outcome.Message), outcome.Code)
		f.Hint = j.notRun(outcome).hint()
	case job.OOMKilled:
		// A higher limit is no help where it was the node that had no memory left.
		if outcome.Usage == nil || outcome.Usage.ReachedLimit() {
			f.Hint = j.moreMemory(outcome.Usage)
		}
	case job.DeadlineExceeded:
		f.Hint = "give it longer with --timeout"
	case job.Evicted, job.Preempted, job.NodeLost:
		f.Hint = cmp.Or(kubernetes.ResumeHint(outcome, j.Spec.Name), "let it be tried again: --retries 1")
		if strings.Contains(outcome.Message, "ephemeral") { // it would fill the disk again
			f.Hint = "let it write more to its disk: --ephemeral-storage SIZE"
		}
	default:
		if j.EBPFHint != nil {
			f.Hint = j.EBPFHint(outcome)
		}
		f.Hint = cmp.Or(f.Hint, kubernetes.NeverStartedHint(outcome),
			kubernetes.ClockHint(outcome.Message, j.Namespace, j.Spec.Name), j.left())
	}
	return f
}

// notRun describes the job's command, which could not be started.
func (j Job) notRun(outcome *job.Outcome) notRun {
	n := notRun{command: j.Spec.Command, code: outcome.Code, message: outcome.Message, again: j.Again, here: firstLineHere}
	if n.again == "" {
		n.again, _, _ = strings.Cut(j.Spec.RunLine(), " -- ")
	}
	if j.Here {
		n.here = nil
	}
	return n
}

// left is the hint that shows what is left of the job; empty: nothing is.
func (j Job) left() string {
	switch {
	case j.Removed:
		return ""
	case j.Here:
		return "see what is left: {hodei} logs " + j.Spec.Name
	}
	return "see what is left: {hodei} jobs " + j.Spec.Name + " -o wide"
}

// moreMemory is the hint for a job that ran out of memory: to run it again with twice its limit. Where the job asked for
// none, the limit is the cluster's, which only the usage tells.
func (j Job) moreMemory(u *job.Usage) string {
	flag, limit := "--memory", j.Spec.Resources().Memory.Limit
	if j.Spec.MemoryLimit != nil {
		flag = "--memory-limit"
	}
	more := "SIZE"
	switch {
	case limit != nil:
		twice := limit.DeepCopy()
		twice.Mul(2)
		more = twice.String()
	case u != nil && u.Memory.Limit != nil && *u.Memory.Limit <= math.MaxInt64/2:
		more = resource.NewQuantity(2*int64(*u.Memory.Limit), resource.BinarySI).String()
	}
	if j.Removed || j.Here {
		return "run it again with more memory: " + flag + " " + more
	}
	return "{hodei} rerun " + j.Spec.Name + " " + flag + " " + more
}
