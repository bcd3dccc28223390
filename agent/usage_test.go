package agent

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sampled is a sampler under way in a bubble of synctest, whose samples count
// themselves as CPU time.
type sampled struct {
	*sampler
	taken []time.Time // by run; read it when it is not running
	stop  chan struct{}
	work  sync.WaitGroup
}

func newSampled() *sampled {
	s := &sampled{sampler: newSampler(), stop: make(chan struct{})}
	s.take(s.measure(), false)
	s.work.Go(func() { s.run(s.measure, s.stop) })
	return s
}

func (s *sampled) measure() *hodeipb.Metrics {
	s.taken = append(s.taken, time.Now())
	return &hodeipb.Metrics{Time: timestamppb.Now(), Usage: &hodeipb.Usage{CpuNs: proto.Uint64(uint64(len(s.taken)))}}
}

// end takes the last sample.
func (s *sampled) end() {
	close(s.stop)
	s.work.Wait()
	s.take(s.measure(), true)
}

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
		{"nobody asks", nil, idleInterval},
		{"one", []time.Duration{time.Second}, time.Second},
		{"the most eager of some", []time.Duration{5 * time.Second, 500 * time.Millisecond, time.Second}, 500 * time.Millisecond},
		{"too eager", []time.Duration{1}, leastInterval},
		{"patient", []time.Duration{time.Hour}, idleInterval},
		{"the longest there is", []time.Duration{1<<63 - 1}, idleInterval},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSampled()
				for _, wish := range test.wishes {
					defer s.join(wish)()
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
		leave := s.join(time.Second) // the last sample is older than that
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
			s.join(time.Nanosecond)()
			time.Sleep(time.Millisecond)
		}
		if n := s.count(); n > 11 {
			t.Errorf("%d samples in a second", n)
		}
		s.end()
		for i := range 100_000 {
			s.sampler.take(&hodeipb.Metrics{Time: timestamppb.New(time.Now().Add(time.Duration(i) * time.Second))}, false)
		}
		if n := len(s.after(time.Time{})); n > hodeipb.MaxSamples {
			t.Errorf("%d samples are kept", n)
		}
		if len(s.wishes) > 0 {
			t.Errorf("wishes of nobody: %v", s.wishes)
		}
	})
}

// receiver is a coordinator's end of a stream.
type receiver struct {
	hodeipb.Coordinator_AttachClient
	got []*hodeipb.Metrics
	// slow is how long each message takes.
	slow time.Duration
	// broken, where set, is what sending fails with.
	broken error
}

func (r *receiver) SendMsg(m any) error {
	if r.broken != nil {
		return r.broken
	}
	time.Sleep(r.slow)
	if e, ok := m.(*hodeipb.Envelope); ok {
		r.got = append(r.got, e.Message.GetMetrics())
	}
	return nil
}

// values are what the samples count themselves as.
func (r *receiver) values() []uint64 {
	var values []uint64
	for _, m := range r.got {
		values = append(values, m.Usage.GetCpuNs())
	}
	return values
}

// to attaches a receiver of a sampler's.
func (s *sampled) to(ctx context.Context, r *receiver, welcome *hodeipb.Welcome) <-chan error {
	state := &hodeipb.State{}
	t := &attachment{agent: &agent{samples: s.sampler, state: state}, stream: r, sent: state}
	done := make(chan error, 1)
	go func() { done <- t.sendMetrics(ctx, welcome) }()
	return done
}

func TestSendMetrics(t *testing.T) {
	every := func(d time.Duration) *hodeipb.Welcome { return &hodeipb.Welcome{MetricsInterval: durationpb.New(d)} }
	tests := []struct {
		name     string
		welcome  *hodeipb.Welcome
		after    int // of the earlier samples, how many it has; 0: none is known
		receiver receiver
		// others asks for samples every so often.
		others time.Duration
		want   []uint64
	}{
		// There are 5 samples, a second apart, before it attaches, and it stays for 4 s.
		{name: "all, and each new one", welcome: every(time.Second), want: []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{name: "none are wanted", welcome: &hodeipb.Welcome{}},
		{name: "less than none", welcome: every(-time.Second)},
		{name: "some are known", welcome: every(time.Second), after: 3, want: []uint64{4, 5, 6, 7, 8, 9, 10}},
		{name: "all are known", welcome: every(time.Second), after: 5, want: []uint64{6, 7, 8, 9, 10}},
		{name: "at its own interval", welcome: every(2 * time.Second), after: 5, others: time.Second, want: []uint64{7, 9, 10}},
		{name: "the last in any case", welcome: every(time.Hour), after: 5, others: time.Second, want: []uint64{10}},
		{name: "no two of a time", welcome: every(time.Nanosecond), after: 5, others: time.Second,
			want: []uint64{6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
				35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46}},
		{name: "slow", welcome: every(time.Second), after: 5, receiver: receiver{slow: 2500 * time.Millisecond}, want: []uint64{6, 8, 10}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSampled()
				leave := s.join(time.Second)
				time.Sleep(4*time.Second + time.Millisecond)
				synctest.Wait()
				if n := len(s.taken); n != 5 {
					t.Fatalf("%d samples before", n)
				}
				if test.after > 0 {
					test.welcome.MetricsAfter = timestamppb.New(s.taken[test.after-1])
				}
				leave()
				if test.others > 0 {
					defer s.join(test.others)()
				}
				done := s.to(t.Context(), &test.receiver, test.welcome)
				synctest.Wait()
				time.Sleep(4 * time.Second)
				s.end()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				got := test.receiver.values()
				if len(got) != len(test.want) {
					t.Fatalf("got %v, want %v", got, test.want)
				}
				for i := range got {
					if got[i] != test.want[i] {
						t.Errorf("got %v, want %v", got, test.want)
					}
				}
			})
		})
	}
}

func TestSendMetricsEnds(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name     string
		receiver receiver
		cancel   bool
		want     error
	}{
		{"with the stream", receiver{broken: broken}, false, broken},
		{"with the attachment", receiver{}, true, context.Canceled},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := newSampled()
				done := s.to(ctx, &test.receiver, &hodeipb.Welcome{MetricsInterval: durationpb.New(time.Second)})
				synctest.Wait()
				if test.cancel {
					cancel()
				}
				if err := <-done; !errors.Is(err, test.want) {
					t.Errorf("ended with %v, want %v", err, test.want)
				}
				if len(s.wishes) > 0 {
					t.Errorf("it is gone, and still wants %v", s.wishes)
				}
				s.end()
			})
		})
	}
}

// BenchmarkLatest reads the last sample: what those pay who come between two.
func BenchmarkLatest(b *testing.B) {
	s := newSampler()
	s.take(&hodeipb.Metrics{Time: timestamppb.Now()}, false)
	b.ReportAllocs()
	for b.Loop() {
		if s.latest() == nil {
			b.Fatal("no sample")
		}
	}
}
