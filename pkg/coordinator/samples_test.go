package coordinator

import (
	"bytes"
	"errors"
	"io/fs"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// noon is when the tests' samples begin.
var noon = time.Date(2026, 1, 2, 12, 0, 0, 123456789, time.UTC)

// sample is one taken so many seconds after noon.
func sample(second int) *hodeipb.Metrics {
	return &hodeipb.Metrics{
		Time:  timestamppb.New(noon.Add(time.Duration(second) * time.Second)),
		Usage: &hodeipb.Usage{CpuNs: proto.Uint64(uint64(second)), Source: "cgroup2"},
	}
}

// seconds are when samples were taken.
func seconds(samples []*hodeipb.Metrics) []int {
	var s []int
	for _, m := range samples {
		s = append(s, int(m.Time.AsTime().Sub(noon)/time.Second))
	}
	return s
}

// told are the samples that came.
func (f *follower) told() []*hodeipb.Metrics {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.samples)
}

func TestMetricsAreAskedFor(t *testing.T) {
	for _, test := range []struct {
		name     string
		interval time.Duration
	}{{"not at all", 0}, {"every second", time.Second}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.MetricsInterval = test.interval })
			welcome := w.attach(t, 0).welcome()
			if got := welcome.MetricsInterval.AsDuration(); got != test.interval || welcome.MetricsAfter != nil {
				t.Errorf("asked for samples every %s after %v", got, welcome.MetricsAfter)
			}
		})
	}
}

// TestMetricsAfterReattachment: what has come is not asked for again, and not told
// again if it comes all the same.
func TestMetricsAfterReattachment(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MetricsInterval = time.Second })
	first := w.attach(t, 0)
	first.welcome()
	for _, second := range []int{1, 2, 3} {
		first.send(sample(second))
	}
	w.follower.until(t, "three samples", func() bool { return len(w.follower.samples) == 3 })
	again := w.attach(t, 0)
	if after := again.welcome().MetricsAfter; !proto.Equal(after, sample(3).Time) {
		t.Errorf("asked for samples after %v", after)
	}
	for _, second := range []int{2, 3, 3, 4} {
		again.send(sample(second))
	}
	again.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted})
	again.ack(0, true)
	if got := seconds(w.follower.told()); !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("told of samples %v", got)
	}
}

// TestNewSamples: who looks is not sent an attempt's history, but what it missed while it
// was away.
func TestNewSamples(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.MetricsInterval, s.NewSamples = time.Second, true })
	attach := func(last *timestamppb.Timestamp) (*agent, *timestamppb.Timestamp) {
		a := w.dial(t, credentials.NewTLS(clientTLS(t, w.job)))
		h := hello(0)
		h.LastSample = last
		a.send(&hodeipb.FromAgent_Hello{Hello: h})
		return a, a.welcome().MetricsAfter
	}
	if _, after := attach(nil); after != nil {
		t.Errorf("an agent without samples was asked for those after %v", after)
	}
	if _, after := attach(&timestamppb.Timestamp{Nanos: -1}); after != nil {
		t.Errorf("an agent with nonsense was asked for samples after %v", after)
	}
	a, after := attach(sample(3).Time)
	if !proto.Equal(after, sample(3).Time) {
		t.Errorf("asked for samples after %v", after)
	}
	for _, second := range []int{2, 3, 4} {
		a.send(sample(second))
	}
	w.follower.until(t, "a sample", func() bool { return len(w.follower.samples) > 0 })
	if _, after := attach(sample(8).Time); !proto.Equal(after, sample(4).Time) {
		t.Errorf("after a lost connection asked for samples after %v", after)
	}
	if got := seconds(w.follower.told()); !slices.Equal(got, []int{4}) {
		t.Errorf("told of samples %v", got)
	}
}

// TestMetricsAreKept: the next coordinator asks for what the store has not, and the
// last sample is the exit record's.
func TestMetricsAreKept(t *testing.T) {
	dir := t.TempDir()
	record := func(t *testing.T, do func(a *agent, welcome *hodeipb.Welcome, h *heard)) {
		r := &Recorder{Store: openStore(t, dir)}
		w, h := newRecording(t, r, time.Second)
		a := w.attach(t, 0)
		do(a, a.welcome(), h)
	}
	t.Run("first", func(t *testing.T) {
		record(t, func(a *agent, welcome *hodeipb.Welcome, h *heard) {
			if welcome.MetricsAfter != nil {
				t.Errorf("asked for samples after %v", welcome.MetricsAfter)
			}
			a.send(sample(1))
			a.send(sample(2))
			for range 2 {
				<-h.samples
			}
		})
	})
	if samples, err := Samples(openStore(t, dir), testKey()); err != nil || !slices.Equal(seconds(samples), []int{1, 2}) {
		t.Fatalf("kept %v, %v", seconds(samples), err)
	}
	t.Run("second", func(t *testing.T) {
		record(t, func(a *agent, welcome *hodeipb.Welcome, _ *heard) {
			if !proto.Equal(welcome.MetricsAfter, sample(2).Time) {
				t.Errorf("asked for samples after %v", welcome.MetricsAfter)
			}
			a.send(sample(3))
			a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Finished: sample(4).Time, Usage: sample(4).Usage})
			a.ack(0, true)
		})
	})
	samples, err := Samples(openStore(t, dir), testKey())
	if err != nil || !slices.Equal(seconds(samples), []int{1, 2, 3, 4}) {
		t.Fatalf("kept %v, %v", seconds(samples), err)
	}
	if !proto.Equal(samples[3], sample(4)) || !proto.Equal(samples[0], sample(1)) {
		t.Errorf("kept %v", samples)
	}
}

// TestMetricsOfNobody: an attempt without samples has no document of them.
func TestMetricsOfNobody(t *testing.T) {
	dir := t.TempDir()
	t.Run("record", func(t *testing.T) {
		w, _ := newRecording(t, &Recorder{Store: openStore(t, dir)}, 0)
		a := w.attach(t, 0)
		a.welcome()
		a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, Finished: sample(1).Time})
		a.ack(0, true)
	})
	if samples, err := Samples(openStore(t, dir), testKey()); !errors.Is(err, fs.ErrNotExist) || len(samples) > 0 {
		t.Errorf("%v, %v", samples, err)
	}
}

func TestBadMetrics(t *testing.T) {
	with := func(change func(*hodeipb.Metrics)) *hodeipb.Metrics {
		m := sample(1)
		change(m)
		return m
	}
	tests := []struct {
		name string
		m    *hodeipb.Metrics
		want string // contained in the refusal; "": it is taken
	}{
		{"without a time", with(func(m *hodeipb.Metrics) { m.Time = nil }), "a sample with an impossible time: "},
		{"empty", &hodeipb.Metrics{}, "a sample with an impossible time: "},
		{"at no time", with(func(m *hodeipb.Metrics) { m.Time.Nanos = -1 }), "a sample with an impossible time: "},
		{"after all years", with(func(m *hodeipb.Metrics) { m.Time.Seconds = math.MaxInt64 }), "a sample with an impossible time: "},
		{"too large", with(func(m *hodeipb.Metrics) { m.Usage.Source = strings.Repeat("x", wire.MaxMetricsBytes) }),
			"a sample of more than 4096 bytes"},
		{"too many waits", with(func(m *hodeipb.Metrics) { m.Usage.RunQueueWaits = make([]uint64, 65+1) }),
			"66 waits on the run queue, more than 65"},
		{"all there can be", with(func(m *hodeipb.Metrics) {
			m.Usage.RunQueueWaits = slices.Repeat([]uint64{math.MaxUint64}, 65)
			m.Usage.OomVictim = &hodeipb.OOMVictim{Name: strings.Repeat("x", 15), Pid: math.MaxUint32, Bytes: math.MaxUint64}
		}), ""},
		{"without usage", with(func(m *hodeipb.Metrics) { m.Usage = nil }), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, func(s *Server) { s.MetricsInterval = time.Second })
			a := w.attach(t, 0)
			a.welcome()
			a.send(test.m)
			if test.want == "" {
				a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted})
				a.ack(0, true)
				if told := w.follower.told(); len(told) != 1 || !proto.Equal(told[0], test.m) {
					t.Errorf("told of %v", told)
				}
				return
			}
			if s := a.fails(); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), test.want) {
				t.Errorf("ended with %s: %s\nwant %s", s.Code(), s.Message(), test.want)
			}
			if told := w.follower.told(); len(told) > 0 {
				t.Errorf("told of %v", told)
			}
		})
	}
}

// TestMetricsFlood: whoever sends them, and however many, so much is kept.
func TestMetricsFlood(t *testing.T) {
	const sent = 20 * hodeipb.MaxSamples
	dir := t.TempDir()
	t.Run("record", func(t *testing.T) {
		w, h := newRecording(t, &Recorder{Store: openStore(t, dir)}, time.Second)
		a := w.attach(t, 0)
		a.welcome()
		go func() {
			for i := range sent {
				a.send(&hodeipb.Metrics{Time: timestamppb.New(noon.Add(time.Duration(i))), Usage: &hodeipb.Usage{
					RunQueueWaits: slices.Repeat([]uint64{math.MaxUint64}, 65), Source: strings.Repeat("x", 3<<10),
				}})
			}
			a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted})
		}()
		for range sent {
			<-h.samples
		}
		a.ack(0, true)
	})
	samples, err := Samples(openStore(t, dir), testKey())
	if err != nil || len(samples) > hodeipb.MaxSamples || len(samples) < hodeipb.MaxSamples/2 {
		t.Errorf("kept %d samples of %d, %v", len(samples), sent, err)
	}
	if b, err := openStore(t, dir).Document(testKey(), samplesDocument); err != nil || len(b) > logstore.MaxDocumentBytes {
		t.Errorf("a document of %d bytes, %v", len(b), err)
	}
}

// document is how samples are kept.
func document(t testing.TB, samples ...*hodeipb.Metrics) []byte {
	t.Helper()
	var b bytes.Buffer
	for _, m := range samples {
		if _, err := protodelim.MarshalTo(&b, m); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestParseSamples(t *testing.T) {
	whole := document(t, sample(1), sample(2), sample(3))
	many := make([]*hodeipb.Metrics, hodeipb.MaxSamples+10)
	for i := range many {
		many[i] = sample(i)
	}
	large := sample(4)
	large.Usage.Source = strings.Repeat("x", wire.MaxMetricsBytes)
	tests := []struct {
		name string
		in   []byte
		want int
		fail bool
	}{
		{"none", nil, 0, false},
		{"some", whole, 3, false},
		{"torn", whole[:len(whole)-3], 2, true},
		{"torn in a length", append(bytes.Clone(whole), 0x80), 3, true},
		{"nonsense behind them", append(bytes.Clone(whole), 2, 0xff, 0xff), 3, true},
		{"one too large", document(t, sample(1), large, sample(5)), 1, true},
		{"one without a time", document(t, sample(1), &hodeipb.Metrics{}, sample(5)), 1, true},
		{"back in time", document(t, sample(1), sample(3), sample(2)), 2, true},
		{"twice", document(t, sample(1), sample(1)), 1, true},
		{"more than a Series holds", document(t, many...), hodeipb.MaxSamples, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseSamples(test.in)
			if len(got) != test.want || (err != nil) != test.fail {
				t.Errorf("%d samples, %v; want %d", len(got), err, test.want)
			}
		})
	}
}

// FuzzParseSamples: what comes out of a file is bounded, in order, and the same when it
// is stored again.
func FuzzParseSamples(f *testing.F) {
	f.Add(document(f, sample(1), sample(2)))
	f.Add([]byte{0})
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		samples, _ := parseSamples(b)
		if len(samples) > hodeipb.MaxSamples {
			t.Fatalf("%d samples", len(samples))
		}
		for i, m := range samples {
			if err := wire.CheckMetrics(m); err != nil {
				t.Fatal(err)
			}
			if i > 0 && !m.Time.AsTime().After(samples[i-1].Time.AsTime()) {
				t.Fatalf("%v behind %v", m, samples[i-1])
			}
		}
		again, err := parseSamples(document(t, samples...))
		if err != nil || len(again) != len(samples) {
			t.Fatalf("%d samples, and then %d: %v", len(samples), len(again), err)
		}
	})
}
