package hodeipb

import (
	"slices"
	"time"
)

// MaxSamples bounds a Series: finer than any screen's curve, and some 400 KiB where all
// figures are known.
const MaxSamples = 512

// Series is a bounded history of samples, as both ends of the wire keep it. When it
// is full every second sample goes, and from then on it takes half as many. The zero
// value is ready.
type Series struct {
	samples []*Metrics
	apart   time.Duration // least time between two samples; 0: any
}

// Add keeps m, which must not be changed any more, if it is later than the last one
// by the spacing that the Series has come to. last tells that no other will follow:
// it is kept in any case.
func (s *Series) Add(m *Metrics, last bool) {
	if n := len(s.samples); n > 0 {
		since := m.Time.AsTime().Sub(s.samples[n-1].Time.AsTime())
		if since <= 0 || since < s.apart && !last {
			return
		}
	}
	if len(s.samples) == MaxSamples {
		s.thin()
	}
	s.samples = append(s.samples, m)
}

// thin drops every second sample, but not the first.
func (s *Series) thin() {
	first, last := s.samples[0].Time.AsTime(), s.samples[len(s.samples)-1].Time.AsTime()
	kept := s.samples[:0]
	for i, m := range s.samples {
		if i%2 == 0 {
			kept = append(kept, m)
		}
	}
	clear(s.samples[len(kept):])
	s.samples = kept
	// Samples that come late by a little must not be left out.
	s.apart = last.Sub(first) / MaxSamples * 2 * 9 / 10
}

// All gives the samples, oldest first.
func (s *Series) All() []*Metrics { return slices.Clone(s.samples) }

// After gives the samples later than t, oldest first.
func (s *Series) After(t time.Time) []*Metrics {
	i := len(s.samples)
	for i > 0 && s.samples[i-1].Time.AsTime().After(t) {
		i--
	}
	return slices.Clone(s.samples[i:])
}

// Last is the time of the latest sample; zero if there is none.
func (s *Series) Last() time.Time {
	if len(s.samples) == 0 {
		return time.Time{}
	}
	return s.samples[len(s.samples)-1].Time.AsTime()
}
