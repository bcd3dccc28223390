package agent

import (
	"errors"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/agent/ellipsis"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// probeTextBytes is what is left of why a part of the eBPF is absent, where there
	// is no room for all of it: the beginning tells what was tried.
	probeTextBytes = 60
	// messageKept is what the usage may take least from the message, for that tells
	// why the job failed. All figures at their greatest leave more.
	messageKept = 1024
)

// writeTermination leaves the container's message, unless the postStart hook
// has left its error there.
func (a *agent) writeTermination(text []byte) {
	if a.TerminationLog == "" {
		return
	}
	if old, err := os.ReadFile(a.TerminationLog); err == nil && len(old) > 0 {
		return
	}
	if err := os.WriteFile(a.TerminationLog, text, 0o644); err != nil {
		a.Log.Warn("termination message not written", "error", err)
	}
}

// recordText is an exit record as the container's message, whole JSON of at most
// limit bytes: the kubelet cuts what is longer, and half a record is none. What is
// worth least goes first.
func recordText(record *hodeipb.ExitRecord, limit int) ([]byte, error) {
	r := proto.Clone(record).(*hodeipb.ExitRecord)
	text, err := protojson.Marshal(r)
	for _, shorten := range []func(tooMuch int){
		func(int) {
			if r.Usage != nil {
				r.Usage.RunQueueWaits, r.Usage.RunQueueWatchedNs = nil, 0
			}
		},
		func(int) {
			for _, p := range r.Probes {
				p.Absent = ellipsis.Cut(p.Absent, probeTextBytes)
			}
		},
		func(int) { r.Probes = nil },
		func(tooMuch int) { r.Message = ellipsis.Cut(r.Message, max(messageKept, len(r.Message)-tooMuch)) },
		func(int) { r.Usage = nil },
		func(tooMuch int) { r.Message = ellipsis.Cut(r.Message, len(r.Message)-tooMuch) },
	} {
		if err != nil || len(text) <= limit {
			return text, err
		}
		shorten(len(text) - limit)
		text, err = protojson.Marshal(r)
	}
	if err == nil && len(text) > limit {
		err = errors.New("it is longer than the container's message may be")
	}
	return text, err
}
