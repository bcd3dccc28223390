package cli

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/remedy"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// concludeWith shows the outcome of a job, and what is missing of its output, if anything is, with the hint that
// helps against it.
func (o *following) concludeWith(outcome *job.Outcome, missing, hint string) error {
	if missing == "" {
		return o.conclude(outcome, nil)
	}
	if explained := o.explained(outcome); hint == "" && explained != nil {
		hint = explained.Hint // what ended the job is why
	}
	message := fmt.Sprintf("output is incomplete: %s; the command: %s", missing, ui.Printable(outcome.Summary()))
	failure := &job.Failure{Cause: outcome.Cause, Message: message, Hint: hint}
	if outcome.ExitCode() == 0 { // half of an output is no success
		unknown := *outcome
		unknown.Cause, unknown.Message = job.Unknown, failure.Message
		outcome = &unknown
	}
	return o.conclude(outcome, failure)
}

// told says something before the outcome, on stderr and as an event; "" says nothing.
func (o *following) told(text string) error {
	if text == "" {
		return nil
	}
	o.screen.Note(text)
	return o.events.Note(text)
}

// conclude shows the outcome, on a line of its own or as an error with a hint: the
// failure, or, if it is nil, what explains the outcome.
func (o *following) conclude(outcome *job.Outcome, failure *job.Failure) error {
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

// explained is an outcome as an error with a hint; nil if the command's own end says all.
func (o *following) explained(outcome *job.Outcome) *job.Failure {
	j := remedy.Job{Spec: o.spec, Namespace: o.place.Namespace(), Again: o.again(), EBPFHint: o.place.EBPFHint}
	_, j.Here = o.place.(place.Machine)
	return j.Explain(outcome)
}

// takenBack is the end of a run that was interrupted before its command started; left
// says what becomes of its job.
func (o *following) takenBack(left string) error {
	return o.cancelled("the command had not started; " + left)
}

// cancelled is the end of a run that ends its job by force.
func (o *following) cancelled(message string) error {
	outcome := &job.Outcome{Cause: job.Cancelled, Message: message}
	o.screen.Summary(outcome, nil)
	if err := o.events.Exit(outcome, ""); err != nil && !errors.Is(err, syscall.EPIPE) { // its reader heard the Ctrl-C too
		return err
	}
	return &job.ExitError{Code: job.ExitCancelled}
}

// failed is the end of a run whose command never ran, or of which nothing more
// is known.
func (o *following) failed(err error) error {
	var f *job.Failure
	if !errors.As(err, &f) {
		f = kubernetes.Explain(err)
	}
	o.screen.Stop()
	if e := o.events.Exit(f.Outcome(), o.named(f.Hint)); e != nil {
		return e
	}
	return f
}
