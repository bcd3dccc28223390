package coordinator

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Bounds of what an agent may say, beside the sizes that [hodeipb.Codec] bounds. Beyond them,
// values that are compared, stored or computed with are refused; texts that are only shown are
// cut.
const (
	// maxNameBytes is the longest name of an object of Kubernetes.
	maxNameBytes = 253
	// maxUIDBytes is several times a UUID.
	maxUIDBytes = 128
	// maxWordBytes bounds a version, a cause, and the name of a source or a probe.
	maxWordBytes = 128
	// maxTextBytes bounds a sentence. The longest is a launcher's: a path, and why it can't be
	// run.
	maxTextBytes = 1 << 10
	maxProbes    = 16
	// maxOffset is some exbibytes: no sum of two, and no int64, runs over.
	maxOffset = 1 << 61
)

// The times that an agent's clock may show. Within them a time is a number of nanoseconds
// in an int64, and has four digits of a year in any zone.
var (
	minTime = time.Unix(0, 0)
	maxTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// namePattern is of what may be the name of a directory, and be shown as it is.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// checkMessage says why a message is not to be taken, whoever sends it, and cuts its
// texts. Nothing of an agent is looked at before.
func checkMessage(m *hodeipb.FromAgent) error {
	var err error
	switch m := m.GetMessage().(type) {
	case *hodeipb.FromAgent_Hello:
		return checkHello(m.Hello) // with codes of its own
	case *hodeipb.FromAgent_Batch:
		_, _, err = batchSize(m.Batch)
		return err
	case *hodeipb.FromAgent_State:
		err = checkState(m.State)
	case *hodeipb.FromAgent_Metrics:
		err = checkMetrics(m.Metrics)
	case *hodeipb.FromAgent_Exit:
		err = checkExit(m.Exit)
	}
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

func checkHello(h *hodeipb.Hello) error {
	if h.Protocol != hodeipb.Protocol { // its fields may mean anything
		return status.Errorf(codes.FailedPrecondition, "the agent speaks protocol %d, the coordinator %d: use the same version of both", h.Protocol, hodeipb.Protocol)
	}
	var err error
	switch {
	case len(h.Namespace) > maxNameBytes || len(h.Job) > maxNameBytes:
		err = fmt.Errorf("the hello's job has a name of more than %d bytes", maxNameBytes)
	case len(h.Attempt) > maxNameBytes || !namePattern.MatchString(h.Attempt):
		err = fmt.Errorf("the hello's attempt is %.64q, which is no name", h.Attempt)
	case h.AttemptUid == "" || h.Extent == nil || h.State == nil:
		err = fmt.Errorf("the hello lacks attempt_uid, extent or state")
	case len(h.AttemptUid) > maxUIDBytes || !namePattern.MatchString(h.AttemptUid):
		err = fmt.Errorf("the hello's attempt_uid is %.64q, which is no UID", h.AttemptUid)
	case h.Extent.First > h.Extent.End:
		err = fmt.Errorf("the hello's extent ends before it begins")
	case h.Extent.End > maxOffset:
		err = fmt.Errorf("the hello's extent ends at %d, which no output reaches", h.Extent.End)
	case len(h.Extent.Marks) > hodeipb.MaxMarks:
		err = fmt.Errorf("the hello has %d marks, more than %d", len(h.Extent.Marks), hodeipb.MaxMarks)
	default:
		if !isTime(h.LastSample) {
			h.LastSample = nil // all samples are asked for, and checked
		}
		h.AgentVersion = cut(h.AgentVersion, maxWordBytes)
		err = checkState(h.State)
	}
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

func checkState(s *hodeipb.State) error {
	if !isTime(s.AgentStarted) || !isTime(s.CommandStarted) {
		return fmt.Errorf("a state with an impossible time")
	}
	return checkProbes(s.Probes)
}

func checkProbes(probes []*hodeipb.Probe) error {
	if len(probes) > maxProbes {
		return fmt.Errorf("%d probes, more than %d", len(probes), maxProbes)
	}
	for _, p := range probes {
		p.Name, p.Absent = cut(p.Name, maxWordBytes), cut(p.Absent, maxTextBytes)
	}
	return nil
}

// checkExit also checks exit records that did not come over a stream.
func checkExit(r *hodeipb.ExitRecord) error {
	switch {
	case !isTime(r.Started) || !isTime(r.Finished):
		return fmt.Errorf("an exit record with an impossible time")
	case max(r.End, r.StdoutEnd, r.StderrEnd, r.Lost) > maxOffset:
		return fmt.Errorf("an exit record with offsets that no output reaches")
	}
	r.Cause, r.Message = cut(r.Cause, maxWordBytes), cut(r.Message, maxTextBytes)
	if err := checkProbes(r.Probes); err != nil {
		return err
	}
	return checkUsage(r.Usage)
}

// checkMetrics says what keeps a sample from being taken: a Follower may keep some
// hundred of them.
func checkMetrics(m *hodeipb.Metrics) error {
	if m.GetTime() == nil || !isTime(m.Time) {
		return fmt.Errorf("a sample with an impossible time: %v", m.GetTime())
	}
	if proto.Size(m) > maxMetricsBytes {
		return fmt.Errorf("a sample of more than %d bytes", maxMetricsBytes)
	}
	return checkUsage(m.Usage)
}

func checkUsage(u *hodeipb.Usage) error {
	if u == nil {
		return nil
	}
	// Packed, they take eight times as much here as on the wire.
	if waits := len(u.RunQueueWaits); waits > maxRunQueueWaits {
		return fmt.Errorf("%d waits on the run queue, more than %d", waits, maxRunQueueWaits)
	}
	u.Source = cut(u.Source, maxWordBytes)
	if u.OomVictim != nil {
		u.OomVictim.Name = cut(u.OomVictim.Name, maxWordBytes)
	}
	return nil
}

// isTime reports whether t is a time that a clock can show, or nil.
func isTime(t *timestamppb.Timestamp) bool {
	if t == nil {
		return true
	}
	at := t.AsTime()
	return t.CheckValid() == nil && !at.Before(minTime) && at.Before(maxTime)
}

// cut shortens s to most bytes, and marks it if something is missing.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}
