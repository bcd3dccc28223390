package coordinator

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// samplesDocument is the name under which a log store keeps an attempt's samples:
// Metrics messages, each behind its length as a varint.
const samplesDocument = "samples"

// saveSamples stores what is not stored yet. They are kept in memory until the
// attempt or its Recorder ends: what a kill takes is still with the agent. They are
// worth less than the output: what can't be stored of them is not there for a report,
// which says so, and ends nothing.
func (l *recorded) saveSamples() {
	if !l.unsaved || l.temporary != nil {
		return
	}
	var b bytes.Buffer
	for _, m := range l.samples.All() {
		if _, err := protodelim.MarshalTo(&b, m); err != nil {
			return
		}
	}
	l.unsaved = l.SetDocument(samplesDocument, b.Bytes()) != nil
}

// Samples gives what the store has of an attempt's samples, oldest first. The error
// is fs.ErrNotExist where it has none; with one that tells of damage come those
// before it.
func Samples(s *logstore.Store, k logstore.Key) ([]*hodeipb.Metrics, error) {
	b, err := s.Document(k, samplesDocument)
	if err != nil {
		return nil, err
	}
	samples, err := parseSamples(b)
	if err != nil {
		return samples, fmt.Errorf("read samples of attempt %q: %w", k.Attempt, err)
	}
	return samples, nil
}

// parseSamples reads samples that are each later than the one before, as many as a
// Series holds.
func parseSamples(b []byte) ([]*hodeipb.Metrics, error) {
	var samples []*hodeipb.Metrics
	var last time.Time
	for r := bytes.NewReader(b); len(samples) < hodeipb.MaxSamples; {
		m := &hodeipb.Metrics{}
		err := protodelim.UnmarshalOptions{MaxSize: wire.MaxMetricsBytes}.UnmarshalFrom(r, m)
		if errors.Is(err, io.EOF) {
			return samples, nil
		}
		if err == nil {
			err = wire.CheckMetrics(m)
		}
		if err != nil {
			return samples, err
		}
		at := m.Time.AsTime()
		if len(samples) > 0 && !at.After(last) {
			return samples, fmt.Errorf("a sample of %s behind one of %s", at, last)
		}
		samples, last = append(samples, m), at
	}
	return samples, nil
}
