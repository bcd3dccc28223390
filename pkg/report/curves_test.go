package report

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// sampled makes a run of one CPU time a second; below zero: it is not known.
func sampled(seconds ...float64) *job.Run {
	r := &job.Run{}
	for i, s := range seconds {
		u := job.Usage{}
		if s >= 0 {
			u.CPU.Total = ptr(time.Duration(s * float64(time.Second)))
			u.Memory.Current = ptr(uint64(s * 10))
		}
		r.Samples = append(r.Samples, job.Sample{Time: start.Add(time.Duration(i) * time.Second), Usage: u})
	}
	return r
}

// area is what lies below a curve.
func area(c curve) float64 {
	sum := 0.0
	for _, piece := range c {
		for i := 1; i < len(piece); i++ {
			sum += (piece[i].at - piece[i-1].at).Seconds() * (piece[i].value + piece[i-1].value) / 2
		}
	}
	return sum
}

func TestRates(t *testing.T) {
	for _, test := range []struct {
		name   string
		run    *job.Run
		pieces int
		area   float64
		peak   float64
	}{
		{"steady", sampled(0, 1, 2, 3), 1, 3, 1},
		{"a burst", sampled(0, 0, 4, 4), 1, 4, 4},
		{"begun before", sampled(10, 11), 1, 1, 1},
		{"not known for a while", sampled(0, 1, -1, 5, 6), 2, 2, 1},
		{"back", sampled(0, 2, 1, 3), 2, 4, 2},
		{"known once", sampled(-1, 1, -1), 0, 0, 0},
		{"one", sampled(1), 0, 0, 0},
		{"none", sampled(), 0, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newCourse(test.run).rates(cpuSeconds)
			if len(got) != test.pieces || math.Abs(area(got)-test.area) > 1e-9 || got.peak() != test.peak {
				t.Errorf("got %v: %d pieces, area %g, peak %g", got, len(got), area(got), got.peak())
			}
		})
	}
}

func TestLevels(t *testing.T) {
	got := newCourse(sampled(1, 2, -1, 3)).levels(func(u *job.Usage) *uint64 { return u.Memory.Current })
	want := curve{{{0, 10}, {time.Second, 20}}, {{3 * time.Second, 30}}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestCourse(t *testing.T) {
	run := sampled(0, 1, 2)
	for _, test := range []struct {
		name    string
		started time.Time
		span    time.Duration
	}{
		{"no start", time.Time{}, 2 * time.Second},
		{"a little before", start.Add(-time.Second), 3 * time.Second},
		{"after", start.Add(time.Second), 2 * time.Second},
		{"another clock's", start.Add(-time.Hour), 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			run.Outcome = &job.Outcome{Started: test.started}
			if got := newCourse(run); got.span != test.span {
				t.Errorf("span %s, want %s", got.span, test.span)
			}
		})
	}
	if got := newCourse(&job.Run{}); got.span <= 0 {
		t.Errorf("span %s", got.span)
	}
	// The same time twice, and one that goes back, are no samples.
	run.Samples = append(run.Samples, run.Samples[2], run.Samples[0])
	if got := newCourse(run); len(got.samples) != 3 {
		t.Errorf("%d samples", len(got.samples))
	}
}

func labels(ticks []tick) string {
	var words []string
	for _, t := range ticks {
		words = append(words, t.label)
	}
	return strings.Join(words, " ")
}

func TestValueTicks(t *testing.T) {
	for _, test := range []struct {
		name string
		top  float64
		kind axisKind
		want string
	}{
		{"nothing used", 0, coresAxis, "0 0.05 0.1"},
		{"one core", 1, coresAxis, "0 0.5 1"},
		{"two", 1.97, coresAxis, "0 0.5 1 1.5 2"},
		{"many", 61, coresAxis, "0 20 40 60 80"},
		{"no memory", 0, memoryAxis, "0 256Ki 512Ki 768Ki 1Mi"},
		{"a limit", 1 << 30, memoryAxis, "0 256Mi 512Mi 768Mi 1Gi"},
		{"odd memory", 812 << 20, memoryAxis, "0 256Mi 512Mi 768Mi 1Gi"},
		{"little more", 1<<30 + 1, memoryAxis, "0 512Mi 1Gi 1.5Gi"},
		{"a trickle", 3, bytesAxis, "0 500 B 1 kB"},
		{"much", 1.23e8, bytesAxis, "0 50 MB 100 MB 150 MB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := labels(valueTicks(test.top, test.kind)); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	for _, kind := range []axisKind{coresAxis, memoryAxis, bytesAxis} {
		for top := 1e-9; top < 1e30; top *= 1.7 {
			ticks := valueTicks(top, kind)
			if last := ticks[len(ticks)-1].at; len(ticks) < 3 || len(ticks) > maxValueTicks+1 || last < top*(1-1e-6) {
				t.Errorf("top %g of %d: %s", top, kind, labels(ticks))
			}
		}
	}
}

func TestTimeTicks(t *testing.T) {
	for _, test := range []struct {
		span time.Duration
		want string
	}{
		{time.Nanosecond, "0"},
		{310 * time.Millisecond, "0 100ms 200ms 300ms"},
		{1200 * time.Millisecond, "0 0.2s 0.4s 0.6s 0.8s 1s 1.2s"},
		{41200 * time.Millisecond, "0 10s 20s 30s 40s"},
		{100 * time.Second, "0 30s 1m 1m30s"},
		{10 * time.Hour, "0 2h 4h 6h 8h 10h"},
		{9 * 24 * time.Hour, "0 2d 4d 6d 8d"},
	} {
		if got := labels(timeTicks(test.span)); got != test.want {
			t.Errorf("%s: got %s, want %s", test.span, got, test.want)
		}
	}
	for span := time.Duration(1); span > 0 && span < math.MaxInt64/2; span = span*5/3 + 1 {
		if n := len(timeTicks(span)); n < 1 || n > maxTimeTicks+1 {
			t.Errorf("%s: %d ticks", span, n)
		}
		if span > math.MaxInt64/5 {
			break
		}
	}
	if n := len(timeTicks(math.MaxInt64)); n < 2 || n > maxTimeTicks+1 {
		t.Errorf("the longest: %d ticks", n)
	}
}

func TestUnits(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{binary(0), "0"}, {binary(1023), "1023"}, {binary(1024), "1Ki"}, {binary(812 << 20), "812Mi"}, {binary(1 << 30), "1Gi"},
		{binary(1350 << 20), "1.32Gi"}, {binary(math.MaxUint64), "16Ei"},
		{decimal(0), "0 B"}, {decimal(999), "999 B"}, {decimal(1000), "1 kB"}, {decimal(999999), "1 MB"}, {decimal(12345678), "12.3 MB"},
		{decimal(1e21), "1000 EB"},
		{number(0.0004), "0"}, {number(0.037), "0.037"}, {number(1.27), "1.27"}, {number(9.999), "10"}, {number(99.99), "100"},
		{number(1234.5), "1234"},
		{count(0), "0"}, {count(999), "999"}, {count(1000), "1,000"}, {count(1234567), "1,234,567"},
		{share(1, 10), "10 %"}, {share(1, 3), "33.3 %"}, {share(1, 0), ""},
		{bound(0), "0"}, {bound(1), "1µs"}, {bound(11), "1ms"}, {bound(21), "1s"}, {bound(64), "2562047788h"},
	} {
		if test.got != test.want {
			t.Errorf("got %s, want %s", test.got, test.want)
		}
	}
}

// A command in which the figures are absent is told why.
func TestAbsent(t *testing.T) {
	for _, test := range []struct {
		name   string
		report Report
		want   string
	}{
		{"no samples", Report{Missing: "nobody followed it"}, "no curves: nobody followed it"},
		{"no reason", Report{}, "no curves: there are no samples of this run"},
		{"one", Report{Run: *sampled(1)}, "no curves: one sample makes no curve"},
		{"no I/O", Report{Run: *sampled(1, 2)},
			"Not counted: disk I/O: the kernel gave no I/O of block devices\nnetwork: only eBPF counts it"},
		{"no eBPF", Report{Run: *sampled(1, 2)}, "network: only eBPF counts it, and none was there: see docs/usage.md"},
		{"why", Report{Run: job.Run{Samples: sampled(1, 2).Samples,
			Outcome: &job.Outcome{Probes: []job.Probe{{Name: "network", Absent: "CAP_BPF is missing"}}}}}, "network: CAP_BPF is missing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var said []string
			for _, p := range test.report.panels() {
				said = append(said, p.says())
			}
			if got := strings.Join(said, "\n"); !strings.Contains(got, test.want) {
				t.Errorf("got %s\nwant %s", got, test.want)
			}
		})
	}
}

// The phases are shown in the order of their times, each from where the last one
// ended, whenever the cluster has told of them.
func TestTimeline(t *testing.T) {
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	got := newTimeline([]job.Event{
		{Phase: job.Submitted, Time: at(0)},
		{Phase: job.Scheduled, Time: at(50), Detail: "no room", Waiting: true},
		{Phase: job.Scheduled, Time: at(100)},
		{Phase: job.AgentUp, Time: at(900)},
		{Phase: job.Pulling, Time: at(200)},
		{Phase: job.Pulled, Time: at(600)},
		{Phase: job.Running, Time: at(1200)},
		{Phase: job.Running, Time: at(9000)},
	})
	if want := "Start: 1.20s from submitted to running: scheduled 0.10s, image 0.50s, agent up 0.30s, running 0.30s"; got.says() != want {
		t.Errorf("got %s\nwant %s", got.says(), want)
	}
	if got := newTimeline(nil).says(); got != "Start: not seen" {
		t.Errorf("got %s", got)
	}
}
