package hodeipb

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

func sampleAt(d time.Duration) *Metrics {
	return &Metrics{Time: timestamppb.New(time.Unix(1_000_000, 0).Add(d))}
}

func TestSeries(t *testing.T) {
	tests := []struct {
		name     string
		n        int
		every    time.Duration
		least    int
		gapLimit time.Duration // between two samples
	}{
		{"none", 0, time.Second, 0, 0},
		{"few", 10, time.Second, 10, time.Second},
		{"full", MaxSamples, time.Second, MaxSamples, time.Second},
		{"one too many", MaxSamples + 1, time.Second, MaxSamples / 2, 2 * time.Second},
		{"a day", 86400, time.Second, MaxSamples / 2, 86400 * time.Second / (MaxSamples / 2)},
		{"fast", 100000, 100 * time.Millisecond, MaxSamples / 2, 10000 * time.Second / (MaxSamples / 2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Series
			for i := range tt.n {
				s.Add(sampleAt(time.Duration(i)*tt.every), i == tt.n-1)
			}
			got := s.After(time.Time{})
			if len(got) < tt.least || len(got) > MaxSamples {
				t.Fatalf("%d samples, want %d to %d", len(got), tt.least, MaxSamples)
			}
			if tt.n == 0 {
				if !s.Last().IsZero() {
					t.Error("an empty series has a last sample")
				}
				return
			}
			first, last := sampleAt(0).Time.AsTime(), sampleAt(time.Duration(tt.n-1)*tt.every).Time.AsTime()
			if !got[0].Time.AsTime().Equal(first) || !s.Last().Equal(last) {
				t.Errorf("from %s to %s, want %s to %s", got[0].Time.AsTime(), s.Last(), first, last)
			}
			for i := 1; i < len(got); i++ {
				if gap := got[i].Time.AsTime().Sub(got[i-1].Time.AsTime()); gap <= 0 || gap > tt.gapLimit*11/10 {
					t.Fatalf("sample %d of %d comes %s after the one before, want at most %s", i, len(got), gap, tt.gapLimit)
				}
			}
		})
	}
}

func TestSeriesAfter(t *testing.T) {
	var s Series
	for i := range 5 {
		s.Add(sampleAt(time.Duration(i)*time.Second), false)
	}
	s.Add(sampleAt(4*time.Second), true) // no later
	s.Add(sampleAt(2*time.Second), true) // a clock that went back
	if got := s.After(sampleAt(2 * time.Second).Time.AsTime()); len(got) != 2 {
		t.Errorf("%d samples after the third of five", len(got))
	}
	if got := s.After(s.Last()); len(got) != 0 {
		t.Errorf("%d samples after the last", len(got))
	}
}
