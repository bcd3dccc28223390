// Package wire checks what an agent says over the wire, and puts it into the words of a job. Start
// with [Outcome]. Nobody trusts an agent: whoever has a job's certificate can send what it likes.
//
// It takes messages of pkg/hodeipb wherever they are from: a stream, a log store, or the message of a
// container. It does no I/O; the stream is pkg/coordinator's.
package wire

import (
	"fmt"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Ran reports whether an agent's state says that the command was started. An agent that ends without that, because the
// command can't be executed, goes to a later phase than RUNNING.
func Ran(s *hodeipb.State) bool {
	return s.Phase == hodeipb.Phase_RUNNING || s.Phase > hodeipb.Phase_RUNNING && s.CommandStarted != nil
}

// Outcome puts an exit record into the words of a job. A record without a cause
// (only the container's status can tell who killed the launcher), or with one
// that is not the command's own, is [job.Unknown]; its message then has the cause that the
// agent named. The record stays as it is.
func Outcome(r *hodeipb.ExitRecord) *job.Outcome {
	r = proto.CloneOf(r) // CheckExit cuts its texts, and the record is others' too
	if CheckExit(r) != nil {
		return &job.Outcome{Cause: job.Unknown, Code: job.ExitFailed, Message: senseless}
	}
	o := &job.Outcome{
		Cause: job.Cause(r.Cause), Code: int(r.Code), Signal: syscall.Signal(r.Signal), Message: r.Message,
		Started: local(r.Started), Finished: local(r.Finished), OutputBytes: r.End, LostBytes: r.Lost,
		Usage: Usage(r.Usage), Probes: Probes(r.Probes), Execs: int(r.Execs),
	}
	switch {
	case o.Cause == job.Completed && o.Code != 0:
		o.Cause = job.Error
	case o.Cause.OfCommand(), o.Cause == job.InputLost:
	case o.Cause == "": // the launcher was killed
		o.Cause = job.Unknown
	default:
		refused := fmt.Sprintf("the agent named a cause that this version of hodei does not take from it: %q", r.Cause)
		o.Message = cut(joined(refused, o.Message), maxTextBytes)
		o.Cause = job.Unknown
	}
	// An exit status is one byte, and what failed has one that is not 0; the
	// record is the job side's word.
	failed := o.Cause == job.Error || o.Cause == job.Signaled
	if o.Code < 0 || o.Code > 255 || o.Signal < 0 || o.Signal > 64 || failed && o.Code == 0 {
		o.Cause, o.Code, o.Signal = job.Unknown, job.ExitFailed, 0
		o.Message = senseless
	}
	o.PodEnded = r.PodEnded && (o.Cause == job.Error || o.Cause == job.Completed)
	if r.PipesHeld {
		o.Message = joined(o.Message, "a process that outlived the command still held its output open; "+
			"what it wrote later than 2 s after the end is not here")
	}
	return o
}

// joined puts two messages on one line; either may be empty.
func joined(first, second string) string {
	if first == "" || second == "" {
		return first + second
	}
	return first + "; " + second
}

const senseless = "the exit record makes no sense"

func local(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Local()
}
