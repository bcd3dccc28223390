package job

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Cause says in one word why a job ended as it did.
type Cause string

// The causes. Those down to Cancelled are the job's own; the others mean that
// hodei or the cluster failed it.
const (
	Completed        Cause = "Completed"        // the command exited 0
	Error            Cause = "Error"            // the command exited with another status
	Signaled         Cause = "Signaled"         // a signal killed the command
	OOMKilled        Cause = "OOMKilled"        // the kernel killed a process of the job for its memory
	DeadlineExceeded Cause = "DeadlineExceeded" // the job's --timeout
	Cancelled        Cause = "Cancelled"        // somebody asked the job to stop

	ImagePull     Cause = "ImagePull"
	InvalidImage  Cause = "InvalidImage"
	Unschedulable Cause = "Unschedulable"
	QuotaExceeded Cause = "QuotaExceeded"
	Forbidden     Cause = "Forbidden"
	ConfigError   Cause = "ConfigError" // a Secret, ConfigMap or service account is missing
	Evicted       Cause = "Evicted"
	Preempted     Cause = "Preempted"
	NodeLost      Cause = "NodeLost"
	StartTimeout  Cause = "StartTimeout"
	AgentLost     Cause = "AgentLost"
	Unknown       Cause = "Unknown" // no exit record and no evidence: never a success
)

// Exit codes of hodei run, besides the job's own.
const (
	ExitTimeout   = 124 // the job's --timeout, as timeout(1)
	ExitFailed    = 125 // hodei or the cluster failed, as env(1) and docker run
	ExitCannotRun = 126 // the command can't be executed, as sh(1)
	ExitNotFound  = 127 // the command was not found, as sh(1)
	ExitCancelled = 130 // Ctrl-C, as sh(1)
)

// Outcome is how a job ended.
type Outcome struct {
	Cause Cause `json:"cause"`
	// Code is the command's status, 128+n when signal n killed it.
	Code int `json:"code"`
	// Signal that killed the command; 0: none.
	Signal syscall.Signal `json:"signal,omitempty"`
	// Message is one line for a person; may be empty.
	Message string `json:"message,omitempty"`
	// NeverStarted tells that the command did not run at all: there is no output, and
	// Code is none of its own.
	NeverStarted bool `json:"neverStarted,omitempty"`
	// Attempt is the Pod that it was, where more than one is possible.
	Attempt string `json:"attempt,omitempty"`
	// OutputBytes is how much output there is, of both streams together.
	OutputBytes uint64 `json:"outputBytes"`
	// LostBytes is how much there was behind that, for which the worker's disk had no room.
	LostBytes uint64 `json:"lostBytes,omitempty"`
	// Started and Finished are the command's, by the worker's clock; zero if unknown.
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Usage is what the attempt has cost; nil if nothing is known of it.
	Usage *Usage `json:"usage,omitempty"`
	// Probes are the parts of the eBPF that was to assist; empty: none was.
	Probes []Probe `json:"probes,omitempty"`
}

// ExitCode is what hodei run and hodei wait exit with.
func (o *Outcome) ExitCode() int {
	switch o.Cause {
	case Completed, Error, Signaled, OOMKilled:
		return o.Code
	case DeadlineExceeded:
		return ExitTimeout
	case Cancelled:
		return ExitCancelled
	}
	return ExitFailed
}

// NeverRan tells that there was no command to end: it was not found, or could not be
// executed, which the launcher says in a message. A shell that ends with such a code of its
// own did run.
func (o *Outcome) NeverRan() bool {
	return o.Cause == Error && o.Message != "" && (o.Code == ExitNotFound || o.Code == ExitCannotRun)
}

// Wall is how long the command ran; 0 if that is not known.
func (o *Outcome) Wall() time.Duration {
	if o.Started.IsZero() {
		return 0
	}
	return max(0, o.Finished.Sub(o.Started))
}

// Summary is the line that ends a run: what happened, and after how long.
func (o *Outcome) Summary() string {
	in, after := "", ""
	if wall := o.Wall(); wall > 0 {
		in, after = " in "+Duration(wall), " after "+Duration(wall)
	}
	var s string
	switch o.Cause {
	case Completed, Error:
		s = fmt.Sprintf("exit %d%s", o.Code, in)
	case Signaled:
		s = fmt.Sprintf("killed by %s%s (exit %d)", signalName(o.Signal), after, o.Code)
	default:
		s = fmt.Sprintf("%s%s (exit %d)", o.Cause, after, o.ExitCode())
	}
	if o.Message != "" {
		s += ": " + o.Message
	}
	return s
}

func signalName(s syscall.Signal) string {
	if n := unix.SignalName(s); n != "" {
		return n
	}
	return fmt.Sprintf("signal %d", int(s))
}

// Duration writes d as a person reads it: 0.04s, 12.4s, 3m12s.
func Duration(d time.Duration) string {
	switch {
	case d < 9995*time.Millisecond:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Failure is an error that ended a job, or kept it from starting, with what to
// type next. It is what hodei shows as its error: and hint: lines.
type Failure struct {
	Cause Cause
	// Message is one fact: lower case, names the thing.
	Message string
	// Hint is the next thing to type; {hodei} in it stands for the name that the
	// program was called by. May be empty.
	Hint string
	// NeverStarted tells that the command did not run, and will not any more.
	NeverStarted bool
	// Err is what was underneath, if anything; not shown.
	Err error
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// Unwrap returns what was underneath.
func (f *Failure) Unwrap() error { return f.Err }

// Outcome is the failure as the end of a job.
func (f *Failure) Outcome() *Outcome {
	return &Outcome{Cause: f.Cause, Code: ExitFailed, Message: f.Message, NeverStarted: f.NeverStarted}
}
