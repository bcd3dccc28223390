package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sampled is a sampler under way in a bubble of synctest, whose samples count
// themselves as CPU time.
type sampled struct {
	*meter.Sampler
	taken  []time.Time // by the sampler; read it when that is not measuring
	finish func(before func()) (first, last *hodeipb.Usage)
}

func newSampled() *sampled {
	s := &sampled{Sampler: meter.NewSampler()}
	s.finish = s.Start(s.measure)
	return s
}

func (s *sampled) measure() *hodeipb.Metrics {
	s.taken = append(s.taken, time.Now())
	return &hodeipb.Metrics{Time: timestamppb.Now(), Usage: &hodeipb.Usage{CpuNs: proto.Uint64(uint64(len(s.taken)))}}
}

// end takes the last sample.
func (s *sampled) end() { s.finish(func() {}) }

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
	t := &attachment{agent: &agent{samples: s.Sampler, state: state}, stream: r, sent: state}
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
				leave := s.Join(time.Second)
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
					defer s.Join(test.others)()
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
				before := s.Count()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if n := s.Count() - before; n > 0 {
					t.Errorf("it is gone, and still gets %d samples in 5 s", n)
				}
				s.end()
			})
		})
	}
}
