package meter

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sampled is a sampler under way in a bubble of synctest, whose samples count
// themselves as CPU time.
type sampled struct {
	*Sampler
	taken  []time.Time // by the sampler; read it when that is not measuring
	finish func(before func()) (first, last *hodeipb.Usage)
}

func newSampled() *sampled {
	s := &sampled{Sampler: NewSampler()}
	s.finish = s.Start(s.measure)
	return s
}

func (s *sampled) measure() *hodeipb.Metrics {
	s.taken = append(s.taken, time.Now())
	return &hodeipb.Metrics{Time: timestamppb.Now(), Usage: &hodeipb.Usage{CpuNs: proto.Uint64(uint64(len(s.taken)))}}
}

// end takes the last sample.
func (s *sampled) end() { s.finish(func() {}) }

// gaps are the times between the samples.
func (s *sampled) gaps() []time.Duration {
	var gaps []time.Duration
	for i := 1; i < len(s.taken); i++ {
		gaps = append(gaps, s.taken[i].Sub(s.taken[i-1]))
	}
	return gaps
}

func TestSamplerFollowsTheMostEager(t *testing.T) {
	tests := []struct {
		name   string
		wishes []time.Duration
		want   time.Duration
	}{
		{"nobody asks", nil, IdleInterval},
		{"one", []time.Duration{time.Second}, time.Second},
		{"the most eager of some", []time.Duration{5 * time.Second, 500 * time.Millisecond, time.Second}, 500 * time.Millisecond},
		{"too eager", []time.Duration{1}, LeastInterval},
		{"patient", []time.Duration{time.Hour}, IdleInterval},
		{"the longest there is", []time.Duration{1<<63 - 1}, IdleInterval},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSampled()
				for _, wish := range test.wishes {
					defer s.Join(wish)()
				}
				time.Sleep(4*test.want + test.want/2)
				s.end()
				gaps := s.gaps()
				if len(gaps) != 5 {
					t.Fatalf("samples %v apart, want 4 and the last", gaps)
				}
				for _, gap := range gaps[:4] {
					if gap != test.want {
						t.Errorf("samples %v apart, want %s", gaps, test.want)
					}
				}
			})
		})
	}
}

func TestSamplerHearsNewWishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSampled()
		time.Sleep(7 * time.Second)
		leave := s.Join(time.Second) // the last sample is older than that
		synctest.Wait()
		time.Sleep(2 * time.Second)
		leave()
		synctest.Wait()
		time.Sleep(15 * time.Second)
		s.end()
		want := []time.Duration{7 * time.Second, time.Second, time.Second, 10 * time.Second, 5 * time.Second}
		gaps := s.gaps()
		if len(gaps) != len(want) {
			t.Fatalf("samples %v apart, want %v", gaps, want)
		}
		for i := range want {
			if gaps[i] != want[i] {
				t.Errorf("samples %v apart, want %v", gaps, want)
			}
		}
	})
}

// TestSamplerIsBounded joins and leaves without end, and samples for a year.
func TestSamplerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSampled()
		for range 1000 {
			s.Join(time.Nanosecond)()
			time.Sleep(time.Millisecond)
		}
		if n := s.Count(); n > 11 {
			t.Errorf("%d samples in a second", n)
		}
		s.end()
		for i := range 100_000 {
			s.Sampler.take(&hodeipb.Metrics{Time: timestamppb.New(time.Now().Add(time.Duration(i) * time.Second))}, false)
		}
		if n := len(s.After(time.Time{})); n > hodeipb.MaxSamples {
			t.Errorf("%d samples are kept", n)
		}
		if len(s.wishes) > 0 {
			t.Errorf("wishes of nobody: %v", s.wishes)
		}
	})
}

// BenchmarkLatest reads the last sample: what those pay who come between two.
func BenchmarkLatest(b *testing.B) {
	s := NewSampler()
	s.take(&hodeipb.Metrics{Time: timestamppb.Now()}, false)
	b.ReportAllocs()
	for b.Loop() {
		if s.Latest() == nil {
			b.Fatal("no sample")
		}
	}
}
