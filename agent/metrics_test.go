package agent

import (
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// untilSampled waits for so many samples.
func (f *follower) untilSampled(t testing.TB, n int) {
	t.Helper()
	f.until(t, strconv.Itoa(n)+" samples", func() bool { return len(f.samples) >= n })
}

// checkSamples holds that they come in the order of their times, that what is counted
// does not go back, and that the last one is the exit record's.
func (f *follower) checkSamples(t testing.TB) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.samples) == 0 {
		t.Fatal("no samples")
	}
	var before *hodeipb.Metrics
	for _, m := range f.samples {
		if before != nil && !m.Time.AsTime().After(before.Time.AsTime()) {
			t.Errorf("a sample of %s after one of %s", m.Time.AsTime(), before.Time.AsTime())
		}
		if before != nil && m.Usage.GetCpuNs() < before.Usage.GetCpuNs() {
			t.Errorf("CPU time goes back from %d to %d", before.Usage.GetCpuNs(), m.Usage.GetCpuNs())
		}
		before = m
	}
	if !proto.Equal(before.Usage, f.exit.GetUsage()) {
		t.Errorf("the last sample and the exit record differ:\n%v\n%v", before.Usage, f.exit.GetUsage())
	}
}

// TestMetrics measures a process of this machine, which has no cgroup of its own.
func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.server.MetricsInterval = meter.LeastInterval
	w.run(self("test-parent", "300ms")...)
	w.follower.until(t, "four samples, and the CPU time in them", func() bool {
		n := len(w.follower.samples)
		return n >= 4 && w.follower.samples[n-1].Usage.GetCpuNs() >= uint64(250*time.Millisecond)
	})
	w.stdin.Close()
	w.ends(0)
	w.follower.checkSamples(t)
	u := w.follower.exit.Usage
	if u.GetSource() != "proc" || u.GetCpuNs() != u.GetCpuUserNs()+u.GetCpuSystemNs() {
		t.Errorf("measured %v", u)
	}
	if u.GetMemoryPeakBytes() < burnBytes || !u.MemoryPeakSampled {
		t.Errorf("held %d bytes, measured a peak of %d (sampled: %t)", burnBytes, u.GetMemoryPeakBytes(), u.MemoryPeakSampled)
	}
	if u.MemoryLimitBytes != nil || u.OomKills != nil || u.NetIpv4 != nil || u.CpuPressureSomeNs != nil {
		t.Errorf("figures that nobody has measured: %v", u)
	}
	if got := w.termination().Usage; !proto.Equal(got, u) {
		t.Errorf("the container's message says %v", got)
	}
}

// TestMetricsOfAShortCommand has no sample while it runs.
func TestMetricsOfAShortCommand(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run(self("test-burn", "20ms")...)
	w.ends(0)
	u := w.follower.exit.Usage
	if len(w.follower.samples) > 0 {
		t.Errorf("samples that nobody has asked for: %v", w.follower.samples)
	}
	if u.GetCpuNs() < uint64(20*time.Millisecond) || u.GetMemoryPeakBytes() < burnBytes {
		t.Errorf("20 ms of CPU time and %d bytes, measured %v", burnBytes, u)
	}
}

// samplesSent is what an agent's log says of an attachment.
var samplesSent = regexp.MustCompile(`msg="attachment ended".* samples=(\d+)`)

// TestMetricsAfterALostConnection: the curve has no hole, and nothing comes twice.
func TestMetricsAfterALostConnection(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.server.MetricsInterval = meter.LeastInterval
	w.serve()
	cuts := 0
	p := newProxy(t, w.cfg.Server, func() int64 {
		if cuts++; cuts > 2 {
			return -1
		}
		return 3 << 10 // a handshake, and some samples
	})
	w.cfg.Server = p.Addr().String()
	w.startAgent()
	w.launch(self("test-stubborn")...)
	w.follower.until(t, "three attachments", func() bool { return len(w.follower.attached) == 3 })
	w.follower.mu.Lock()
	n := len(w.follower.samples)
	w.follower.mu.Unlock()
	w.follower.untilSampled(t, n+2)
	w.stdin.Close()
	w.ends(0)
	w.follower.checkSamples(t)
	sent := 0
	for _, m := range samplesSent.FindAllStringSubmatch(w.agent.stderr.String(), -1) {
		n, _ := strconv.Atoi(m[1])
		sent += n
	}
	got := len(w.follower.samples)
	if sent < got || p.cuts.Load() != 2 { // what is cut off was sent
		t.Errorf("%d samples came of %d that were sent, over %d connections", got, sent, p.cuts.Load()+1)
	}
	for i := 1; i < got; i++ {
		if gap := w.follower.samples[i].Time.AsTime().Sub(w.follower.samples[i-1].Time.AsTime()); gap > meter.IdleInterval/2 {
			t.Errorf("a hole of %s", gap)
		}
	}
}

// TestMetricsOfTwo: each coordinator gets samples at its own interval, who comes late
// gets what was before unless it asks for none of that, and both the last.
func TestMetricsOfTwo(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.startAgent()
	w.server.MetricsInterval = meter.LeastInterval
	w.tunnel()
	w.launch(self("test-stubborn")...)
	w.follower.untilSampled(t, 5)
	patient := newFollower()
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job,
		Follower: patient, Silent: true, MetricsInterval: time.Hour})
	patient.untilSampled(t, 5)
	looking := newFollower()
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job,
		Follower: looking, Silent: true, MetricsInterval: meter.LeastInterval, NewSamples: true})
	looking.untilSampled(t, 2)
	w.follower.mu.Lock()
	n := len(w.follower.samples)
	w.follower.mu.Unlock()
	w.follower.untilSampled(t, n+5)
	w.stdin.Close()
	w.ends(0)
	patient.exited(t)
	w.follower.checkSamples(t)
	patient.checkSamples(t)
	eager, late := w.follower.samples, patient.samples
	if first := looking.samples[0].Time.AsTime(); !first.After(eager[4].Time.AsTime()) {
		t.Errorf("who looks got a sample of before it came, of %s", first)
	}
	for _, m := range eager[:5] { // of before it came, so that it has them all
		if !slices.ContainsFunc(late, func(l *hodeipb.Metrics) bool { return proto.Equal(l, m) }) {
			t.Errorf("who came late did not get %v", m)
		}
	}
	if len(late) > len(eager)-5 {
		t.Errorf("of %d samples, %d went to who wants one in an hour", len(eager), len(late))
	}
}

// TestNoMetrics: nobody who has not asked gets any.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.listenHere()
	w.startAgent()
	eager := newFollower()
	w.tunnelTo(&coordinator.Server{TLS: w.server.TLS, Namespace: w.server.Namespace, Job: w.server.Job,
		Follower: eager, Silent: true, MetricsInterval: meter.LeastInterval})
	w.tunnel()
	w.launch(self("test-stubborn")...)
	eager.untilSampled(t, 3)
	w.stdin.Close()
	w.ends(0)
	if len(w.follower.samples) > 0 {
		t.Errorf("got %v", w.follower.samples)
	}
	if w.follower.exit.GetUsage().GetSource() != "proc" {
		t.Errorf("its exit record says %v", w.follower.exit.GetUsage())
	}
}
