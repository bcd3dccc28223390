package session

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

// ConcludeWith shows the outcome of a job, and what is missing of its output, if anything is, with the hint that
// helps against it.
func (o *Config) ConcludeWith(outcome *job.Outcome, missing, hint string) error {
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

// Told says something before the outcome, on stderr and as an event; "" says nothing.
func (o *Config) Told(text string) error {
	if text == "" {
		return nil
	}
	o.Screen.Note(text)
	return o.Events.Note(text)
}

// conclude shows the outcome, on a line of its own or as an error with a hint: the
// failure, or, if it is nil, what explains the outcome.
func (o *Config) conclude(outcome *job.Outcome, failure *job.Failure) error {
	if failure == nil {
		failure = o.explained(outcome)
	}
	hint := ""
	if failure == nil {
		o.Screen.Summary(outcome, o.Samples)
	} else {
		hint = failure.Hint
		if !outcome.NeverRan() { // else it is the container's start that was measured
			o.Screen.Usage(outcome, o.Samples)
		}
	}
	o.Screen.Stop()
	// Who reads the events has ended with the Ctrl-C that has cancelled the job.
	if err := o.Events.Exit(outcome, o.Named(hint)); err != nil && !(outcome.Cause == job.Cancelled && errors.Is(err, syscall.EPIPE)) {
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
func (o *Config) explained(outcome *job.Outcome) *job.Failure {
	j := remedy.Job{Spec: o.Spec, Namespace: o.Place.Namespace(), Again: o.Again(), EBPFHint: o.Place.EBPFHint}
	_, j.Here = o.Place.(place.Machine)
	return j.Explain(outcome)
}

// TakenBack is the end of a run that was interrupted before its command started; left
// says what becomes of its job.
func (o *Config) TakenBack(left string) error {
	return o.cancelled("the command had not started; " + left)
}

// cancelled is the end of a run that ends its job by force.
func (o *Config) cancelled(message string) error {
	outcome := &job.Outcome{Cause: job.Cancelled, Message: message}
	o.Screen.Summary(outcome, nil)
	if err := o.Events.Exit(outcome, ""); err != nil && !errors.Is(err, syscall.EPIPE) { // its reader heard the Ctrl-C too
		return err
	}
	return &job.ExitError{Code: job.ExitCancelled}
}

// Failed is the end of a run whose command never ran, or of which nothing more
// is known.
func (o *Config) Failed(err error) error {
	var f *job.Failure
	if !errors.As(err, &f) {
		f = kubernetes.Explain(err)
	}
	o.Screen.Stop()
	if e := o.Events.Exit(f.Outcome(), o.Named(f.Hint)); e != nil {
		return e
	}
	return f
}
