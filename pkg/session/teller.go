package session

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/remedy"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Teller tells how a job ended: to a person on a screen, to programs as an event, and to its caller as the error that
// the command ends with. Call one of Conclude, TakenBack and Failed, once. A Teller is for one goroutine.
type Teller struct {
	// Spec is what the job was asked to be.
	Spec *job.Spec
	// Place is where the job runs.
	Place place.Place
	// Screen is what a person sees.
	Screen *output.Screen
	// Events are for programs; nil: nobody reads any.
	Events *output.Events
	// Named puts the program's name into a hint, for {hodei}.
	Named func(hint string) string
	// Remove tells that the job is removed once it was followed to its end: no hint about its end builds on the Job.
	Remove bool
	// Again is the command line that ran the job, up to the --, for hints. Empty: another process ran it.
	Again string
}

// Missing says what is missing of a job's output. The zero value: nothing is.
type Missing struct {
	// Output says how much is missing, and where.
	Output string
	// Hint is what helps against that. Empty: what helps against the job's end does.
	Hint string
}

// Conclude tells a job's outcome, with the usage samples of its last attempt. A success with output missing is told as
// a failure. Conclude returns nil if the command succeeded, else a [job.ExitError] or what kept an event from being
// written.
func (t *Teller) Conclude(outcome *job.Outcome, samples []job.Sample, missing Missing) error {
	if missing.Output == "" {
		return t.conclude(outcome, samples, t.explained(outcome))
	}
	hint := missing.Hint
	if explained := t.explained(outcome); hint == "" && explained != nil {
		hint = explained.Hint
	}
	message := fmt.Sprintf("output is incomplete: %s; the command: %s", missing.Output, ui.Printable(outcome.Summary()))
	failure := &job.Failure{Cause: outcome.Cause, Message: message, Hint: hint}
	if outcome.ExitCode() == 0 {
		unknown := *outcome
		unknown.Cause, unknown.Message = job.Unknown, failure.Message
		outcome = &unknown
	}
	return t.conclude(outcome, samples, failure)
}

// Note says something before the outcome, on the screen and as an event; "" says nothing.
func (t *Teller) Note(text string) error {
	if text == "" {
		return nil
	}
	t.Screen.Note(text)
	return t.Events.Note(t.Named(text))
}

// TakenBack tells that a run was interrupted before its command started; left says what becomes of its job.
func (t *Teller) TakenBack(left string) error {
	return t.cancelled("the command had not started; " + left)
}

// Failed tells that a run failed before its command ran, or that nothing more is known of it. It returns err as a
// [job.Failure].
func (t *Teller) Failed(err error) error {
	var f *job.Failure
	if !errors.As(err, &f) {
		f = kubernetes.Explain(err)
	}
	t.Screen.Stop()
	if e := t.Events.Exit(f.Outcome(), t.Named(f.Hint)); e != nil {
		return e
	}
	return f
}

// conclude shows the outcome: as an error with a hint if failure is not nil, else on a line of its own.
func (t *Teller) conclude(outcome *job.Outcome, samples []job.Sample, failure *job.Failure) error {
	hint := ""
	if failure == nil {
		t.Screen.Summary(outcome, samples)
	} else {
		hint = failure.Hint
		if !outcome.NeverRan() { // else it is the container's start that was measured
			t.Screen.Usage(outcome, samples)
		}
	}
	t.Screen.Stop()
	// Who reads the events has ended with the Ctrl-C that has cancelled the job.
	err := t.Events.Exit(outcome, t.Named(hint))
	if err != nil && !(outcome.Cause == job.Cancelled && errors.Is(err, syscall.EPIPE)) {
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

// explained returns an outcome as an error with a hint; nil if the command's own end says all.
func (t *Teller) explained(outcome *job.Outcome) *job.Failure {
	j := remedy.Job{
		Spec: t.Spec, Namespace: t.Place.Namespace(), Removed: t.Remove, Again: t.Again, EBPFHint: t.Place.EBPFHint, Here: t.here(),
	}
	return j.Explain(outcome)
}

// cancelled is the end of a run that ends its job by force.
func (t *Teller) cancelled(message string) error {
	outcome := &job.Outcome{Cause: job.Cancelled, Message: message}
	t.Screen.Summary(outcome, nil)
	if err := t.Events.Exit(outcome, ""); err != nil && !errors.Is(err, syscall.EPIPE) { // its reader heard the Ctrl-C too
		return err
	}
	return &job.ExitError{Code: job.ExitCancelled}
}

// note shows an error that ends nothing.
func (t *Teller) note(err error) {
	t.Screen.Note(err.Error())
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Hint != "" {
		t.Screen.Note("hint: " + t.Named(f.Hint))
	}
}

// here reports whether the job is of this machine, and ends with this process.
func (t *Teller) here() bool {
	_, here := t.Place.(place.Machine)
	return here
}

// goesOn says what becomes of the job when we go.
func (t *Teller) goesOn() string {
	if t.here() {
		return fmt.Sprintf("job %s ends with us", t.Spec.Name)
	}
	return fmt.Sprintf("job %s goes on", t.Spec.Name)
}

// comeBack is what to type to see the rest of a job that we leave.
func (t *Teller) comeBack() string {
	if t.here() {
		return "{hodei} logs " + t.Spec.Name
	}
	if t.Spec.TTY {
		return "{hodei} attach " + t.inputFlags() + " " + t.Spec.Name
	}
	return "{hodei} attach " + t.Spec.Name
}

// inputFlags are the flags of attach that send the job's input.
func (t *Teller) inputFlags() string {
	if t.Spec.TTY {
		return "-it"
	}
	return "-i"
}
