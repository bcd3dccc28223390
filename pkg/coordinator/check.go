package coordinator

import (
	"fmt"
	"regexp"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Bounds of what an agent may say of itself, beside those of the package wire.
const (
	// maxNameBytes is the longest name of an object of Kubernetes.
	maxNameBytes = 253
	// maxUIDBytes is several times a UUID.
	maxUIDBytes = 128
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
		err = wire.CheckState(m.State)
	case *hodeipb.FromAgent_Metrics:
		err = wire.CheckMetrics(m.Metrics)
	case *hodeipb.FromAgent_Exit:
		err = wire.CheckExit(m.Exit)
	case *hodeipb.FromAgent_InputAck:
		m.InputAck.Refused = wire.CutWord(m.InputAck.Refused)
	}
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}

func checkHello(h *hodeipb.Hello) error {
	if h.Protocol != hodeipb.Protocol { // its fields may mean anything
		return status.Errorf(codes.FailedPrecondition,
			"the agent speaks protocol %d, the coordinator %d: use the same version of both", h.Protocol, hodeipb.Protocol)
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
	case h.Extent.End > wire.MaxOffset:
		err = fmt.Errorf("the hello's extent ends at %d, which no output reaches", h.Extent.End)
	case len(h.Extent.Marks) > hodeipb.MaxMarks:
		err = fmt.Errorf("the hello has %d marks, more than %d", len(h.Extent.Marks), hodeipb.MaxMarks)
	default:
		if !wire.IsTime(h.LastSample) {
			h.LastSample = nil // all samples are asked for, and checked
		}
		h.AgentVersion = wire.CutWord(h.AgentVersion)
		err = wire.CheckState(h.State)
	}
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return nil
}
