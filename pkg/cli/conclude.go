package cli

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// concludeWith shows the outcome of a job, and what is missing of its output, if
// anything is, with what helps against it.
func (o *runOptions) concludeWith(outcome *job.Outcome, missing, remedy string) error {
	if missing == "" {
		return o.conclude(outcome, nil)
	}
	if explained := o.explained(outcome); remedy == "" && explained != nil {
		remedy = explained.Hint // what ended the job is why
	}
	failure := &job.Failure{Cause: outcome.Cause, Message: fmt.Sprintf("output is incomplete: %s; the command: %s", missing, ui.Printable(outcome.Summary())), Hint: remedy}
	if outcome.ExitCode() == 0 { // half of an output is no success
		unknown := *outcome
		unknown.Cause, unknown.Message = job.Unknown, failure.Message
		outcome = &unknown
	}
	return o.conclude(outcome, failure)
}

// told says something before the outcome, on stderr and as an event; "" says nothing.
func (o *runOptions) told(text string) error {
	if text == "" {
		return nil
	}
	o.screen.Note(text)
	return o.events.Note(text)
}

// conclude shows the outcome, on a line of its own or as an error with a hint: the
// failure, or, if it is nil, what explains the outcome.
func (o *runOptions) conclude(outcome *job.Outcome, failure *job.Failure) error {
	if failure == nil {
		failure = o.explained(outcome)
	}
	hint := ""
	if failure == nil {
		o.screen.Summary(outcome, o.samples)
	} else {
		hint = failure.Hint
		if !outcome.NeverRan() { // else it is the container's start that was measured
			o.screen.Usage(outcome, o.samples)
		}
	}
	o.screen.Stop()
	// Who reads the events has ended with the Ctrl-C that has cancelled the job.
	if err := o.events.Exit(outcome, o.named(hint)); err != nil && !(outcome.Cause == job.Cancelled && errors.Is(err, syscall.EPIPE)) {
		return err
	}
	switch {
	case failure != nil:
		return &job.ExitError{Code: outcome.ExitCode(), Err: failure}
	case outcome.ExitCode() != 0:
		return &job.ExitError{Code: outcome.ExitCode()}
	}
	return nil
}

// runAgain returns the command line that ran the job, without -- and the command. For a job
// that somebody else has run, it is one that runs it in the same image.
func (o *runOptions) runAgain() string {
	if i := slices.Index(o.args, "--"); i > 0 && o.args[0] == "run" {
		return (&typedLine{app: o.app}).retyped(i, len(o.args)-i, "{hodei} run")
	}
	line, _, _ := strings.Cut(history.RunLine(o.spec), " -- ")
	return line
}

// moreMemory is what helps against an end for lack of memory: twice the limit, which is
// the job's own, or the cluster's, of which only the kernel has told.
func moreMemory(spec *job.Spec, u *job.Usage) string {
	flag, limit := "--memory", spec.Resources().Memory.Limit
	if spec.MemoryLimit != nil {
		flag = "--memory-limit"
	}
	hint := "run it again with more memory: " + flag
	var twice resource.Quantity
	switch {
	case limit != nil:
		twice = limit.DeepCopy()
		twice.Mul(2)
	case u != nil && u.Memory.Limit != nil && *u.Memory.Limit <= math.MaxInt64/2:
		twice = *resource.NewQuantity(2*int64(*u.Memory.Limit), resource.BinarySI)
	default:
		return hint + " SIZE"
	}
	return hint + " " + twice.String()
}

// explained is an outcome as an error with a hint; nil if the command's own end
// says all.
func (o *runOptions) explained(outcome *job.Outcome) *job.Failure {
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
		n := notRun{command: o.spec.Command, code: outcome.Code, message: outcome.Message, again: o.runAgain(), here: firstLineHere}
		if _, local := o.place.(place.Machine); local {
			n.here = nil
		}
		f.Hint = n.hint()
	case job.OOMKilled:
		// A higher limit is no help where it was the node that had no memory left.
		if outcome.Usage == nil || outcome.Usage.ReachedLimit() {
			f.Hint = moreMemory(o.spec, outcome.Usage)
		}
	case job.DeadlineExceeded:
		f.Hint = "give it longer with --timeout"
	case job.Evicted, job.Preempted, job.NodeLost:
		f.Hint = cmp.Or(kubernetes.ResumeHint(outcome, o.spec.Name), "let it be tried again: --retries 1")
		if strings.Contains(outcome.Message, "ephemeral") { // it would fill the disk again
			f.Hint = "let it write more to its disk: --ephemeral-storage SIZE"
		}
	default:
		f.Hint = cmp.Or(o.place.EBPFHint(outcome), kubernetes.NeverStartedHint(outcome),
			kubernetes.ClockHint(outcome.Message, o.place.Namespace(), o.spec.Name), "see what is left: "+o.left())
	}
	return f
}

// left is the command that shows what is left of the job: this machine has no Job.
func (o *runOptions) left() string {
	if _, local := o.place.(place.Machine); local {
		return "{hodei} logs " + o.spec.Name
	}
	return "{hodei} jobs " + o.spec.Name + " -o wide"
}
