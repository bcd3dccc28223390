package wire

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Bounds of what an agent may say, beside the sizes that [hodeipb.Codec] bounds. Beyond them,
// values that are compared, stored or computed with are refused; texts that are only shown are
// cut.
const (
	// MaxOffset is some exbibytes: no sum of two, and no int64, runs over.
	MaxOffset = 1 << 61
	// MaxMetricsBytes is several times what an agent's sample takes.
	MaxMetricsBytes = 4 << 10
	// maxRunQueueWaits is one for every power of two of a uint64.
	maxRunQueueWaits = 65
	// maxWordBytes bounds a version, a cause, and the name of a source or a probe.
	maxWordBytes = 128
	// maxTextBytes bounds a sentence. The longest is a launcher's: a path, and why it can't be
	// run.
	maxTextBytes = 1 << 10
	maxProbes    = 16
)

// The times that an agent's clock may show. Within them a time is a number of nanoseconds
// in an int64, and has four digits of a year in any zone.
var (
	minTime = time.Unix(0, 0)
	maxTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// CheckState says why a state is not to be taken, and cuts its texts.
func CheckState(s *hodeipb.State) error {
	if !IsTime(s.AgentStarted) || !IsTime(s.CommandStarted) {
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

// CheckExit says why an exit record is not to be taken, and cuts its texts. It need not have come
// over a stream.
func CheckExit(r *hodeipb.ExitRecord) error {
	switch {
	case !IsTime(r.Started) || !IsTime(r.Finished):
		return fmt.Errorf("an exit record with an impossible time")
	case max(r.End, r.StdoutEnd, r.StderrEnd, r.Lost) > MaxOffset:
		return fmt.Errorf("an exit record with offsets that no output reaches")
	}
	r.Cause, r.Message = cut(r.Cause, maxWordBytes), cut(r.Message, maxTextBytes)
	if err := checkProbes(r.Probes); err != nil {
		return err
	}
	return checkUsage(r.Usage)
}

// CheckMetrics says why a sample is not to be taken, and cuts its texts. Whoever follows a job may
// keep some hundred samples.
func CheckMetrics(m *hodeipb.Metrics) error {
	if m.GetTime() == nil || !IsTime(m.Time) {
		return fmt.Errorf("a sample with an impossible time: %v", m.GetTime())
	}
	if proto.Size(m) > MaxMetricsBytes {
		return fmt.Errorf("a sample of more than %d bytes", MaxMetricsBytes)
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

// IsTime reports whether t is a time that a clock can show, or nil.
func IsTime(t *timestamppb.Timestamp) bool {
	if t == nil {
		return true
	}
	at := t.AsTime()
	return t.CheckValid() == nil && !at.Before(minTime) && at.Before(maxTime)
}

// CutWord shortens a word that is only shown to what a version, a cause or a name may have, and marks
// it if something is missing.
func CutWord(s string) string { return cut(s, maxWordBytes) }

// CutText is CutWord for a sentence.
func CutText(s string) string { return cut(s, maxTextBytes) }

// cut shortens s to most bytes, and marks it if something is missing.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}
