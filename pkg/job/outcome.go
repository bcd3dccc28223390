package job

import (
	"cmp"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// Cause says in one word why a job ended as it did.
type Cause string

// The causes. Users see them, scripts compare them and exit records on users' disks hold those
// down to Cancelled and InputLost: a name stays as it is.
//
// Those down to Cancelled are the command's own ([Cause.OfCommand]); the others mean that hodei
// or the cluster failed the job. InputLost is one that an agent gives.
const (
	Completed        Cause = contract.CauseCompleted        // the command exited 0
	Error            Cause = contract.CauseError            // the command exited with another status
	Signaled         Cause = contract.CauseSignaled         // a signal killed the command
	OOMKilled        Cause = contract.CauseOOMKilled        // the kernel killed a process of the job for its memory
	DeadlineExceeded Cause = contract.CauseDeadlineExceeded // the job's --timeout
	Cancelled        Cause = contract.CauseCancelled        // somebody asked the job to stop

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
	InputLost     Cause = contract.CauseInputLost // the rest of the command's input did not come
	AgentLost     Cause = "AgentLost"
	Unknown       Cause = "Unknown" // no exit record and no evidence: never a success
)

// OfCommand reports whether c is how the command itself ended, which is all that its agent can
// know. Who else the job was ended by, the cluster or hodei says.
func (c Cause) OfCommand() bool {
	switch c {
	case Completed, Error, Signaled, OOMKilled, DeadlineExceeded, Cancelled:
		return true
	}
	return false
}

// Exit codes of hodei run, besides the job's own.
const (
	ExitTimeout   = contract.ExitTimeout   // the job's --timeout, as timeout(1)
	ExitFailed    = 125                    // hodei or the cluster failed, as env(1) and docker run
	ExitCannotRun = contract.ExitCannotRun // the command can't be executed, as sh(1)
	ExitNotFound  = contract.ExitNotFound  // the command was not found, as sh(1)
	ExitCancelled = contract.ExitCancelled // Ctrl-C, as sh(1)
)

// Outcome is how a job ended.
type Outcome struct {
	Cause Cause `json:"cause"`
	// Code is the command's status, 128+n when signal n killed it.
	Code int `json:"code"`
	// Signal that killed the command; 0: none.
	Signal syscall.Signal `json:"signal,omitempty"`
	// PodEnded tells that the command exited by itself as its Pod was told to end: Code is
	// its own, whatever the Cause.
	PodEnded bool `json:"podEnded,omitempty"`
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
	// Execs is how many commands were run beside the job's, by hodei exec. What they have used is in Usage.
	Execs int `json:"execs,omitempty"`
	// Started and Finished are the command's, by the worker's clock; zero if unknown.
	Started  time.Time `json:"started,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	// Usage is what the attempt has cost; nil if nothing is known of it.
	Usage *Usage `json:"usage,omitempty"`
	// Probes are the parts of the eBPF that was to assist; empty: none was.
	Probes []Probe `json:"probes,omitempty"`
}

// ExitCode is the one number for an end, wherever it is shown: the exit code of hodei run
// and attach.
func (o *Outcome) ExitCode() int {
	switch {
	case o.PodEnded:
		return o.Code
	case o.Cause == DeadlineExceeded:
		return ExitTimeout
	case o.Cause == Cancelled:
		return ExitCancelled
	case o.Cause.OfCommand():
		return o.Code
	}
	return ExitFailed
}

// NeverRan reports whether the command could not be run: it was not found, or could not be
// executed. The launcher says so in a message, so a shell that ends with such a code by itself
// did run.
func (o *Outcome) NeverRan() bool {
	return o.Cause == Error && !o.PodEnded && o.Message != "" && (o.Code == ExitNotFound || o.Code == ExitCannotRun)
}

// Succeeded tells that the command exited 0: what else happened to it is a note.
func (o *Outcome) Succeeded() bool { return o.ExitCode() == 0 }

// Settled combines two accounts of one end: the agent knows what the command did, the cluster
// knows who ended the Pod. Either may be nil.
func Settled(agent, cluster *Outcome) *Outcome {
	switch {
	case agent == nil:
		return cluster
	case cluster == nil, cluster.Cause == Unknown && !agent.PodEnded:
		return agent
	case !agent.PodEnded || cluster.PodEnded:
		return cluster
	}
	settled := *agent
	switch cluster.Cause {
	case Evicted, Preempted, NodeLost:
		settled.Cause = cluster.Cause
	case Unknown, "":
	default: // of another attempt
		return cluster
	}
	if cluster.Message != "" {
		settled.Message = cluster.Message
	}
	return &settled
}

// Wall is how long the command ran; 0 if that is not known.
func (o *Outcome) Wall() time.Duration {
	if o.Started.IsZero() {
		return 0
	}
	return max(0, o.Finished.Sub(o.Started))
}

// Summary is the line that ends a run: what happened, and after how long. A cause that this
// version does not know stands in it as it is.
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
		if o.Succeeded() {
			s = fmt.Sprintf("exit 0%s (%s)", in, o.Cause)
			break
		}
		s = fmt.Sprintf("%s%s (exit %d)", cmp.Or(o.Cause, Unknown), after, o.ExitCode())
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

// Counted reports whether OutputBytes and LostBytes are known: the outcome was made of an exit record, or the command
// never ran. Without a record OutputBytes is 0.
func (o *Outcome) Counted() bool {
	switch o.Cause {
	case Completed, Error, Signaled, OOMKilled, Cancelled, StartTimeout, InputLost:
		return true
	}
	return o.NeverStarted || o.OutputBytes > 0 || !o.Started.IsZero()
}
