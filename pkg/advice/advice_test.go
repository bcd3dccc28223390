package advice

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

var start = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

const mi = 1 << 20

func ptr[T any](v T) *T { return &v }

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

// run is one of ten seconds, changed by what a test needs.
func run(name string, changes ...func(*job.Run)) job.Run {
	r := job.Run{Attempt: name, Spec: &job.Spec{},
		Outcome: &job.Outcome{Cause: job.Completed, Started: start, Finished: start.Add(10 * time.Second), Usage: &job.Usage{}}}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func asks(cpu, cpuLimit, memory, memoryLimit string) func(*job.Run) {
	return func(r *job.Run) {
		for _, q := range []struct {
			text string
			to   **resource.Quantity
		}{{cpu, &r.Spec.CPU}, {cpuLimit, &r.Spec.CPULimit}, {memory, &r.Spec.Memory}, {memoryLimit, &r.Spec.MemoryLimit}} {
			if q.text != "" {
				*q.to = quantity(q.text)
			}
		}
	}
}

func peak(bytes uint64) func(*job.Run) {
	return func(r *job.Run) { r.Outcome.Usage.Memory.Peak = &bytes }
}

func limit(bytes uint64) func(*job.Run) {
	return func(r *job.Run) { r.Outcome.Usage.Memory.Limit = &bytes }
}

func failed(r *job.Run) { r.Outcome.Cause, r.Outcome.Code = job.Error, 1 }

// neverRan is as the launcher tells of a command that is not there.
func neverRan(r *job.Run) { r.Outcome.Code, r.Outcome.Message = job.ExitNotFound, "nope: not found" }

// killed is at the limit.
func killed(r *job.Run) {
	r.Outcome.Cause, r.Outcome.Code = job.OOMKilled, 137
	r.Outcome.Usage.Memory.OOMEvents, r.Outcome.Usage.Memory.OOMKills = ptr(uint64(1)), ptr(uint64(1))
}

// killedAbove is for want of memory on the node or in the Pod.
func killedAbove(r *job.Run) {
	killed(r)
	r.Outcome.Usage.Memory.OOMEvents = ptr(uint64(0))
}

func sampledPeak(r *job.Run) { r.Outcome.Usage.Memory.PeakSampled = true }

// own says how much of the memory was not the page cache.
func own(bytes uint64) func(*job.Run) {
	return func(r *job.Run) {
		r.Outcome.Usage.Memory.Anon, r.Outcome.Usage.Memory.Kernel = &bytes, ptr(uint64(0))
	}
}

// used is CPU time over the whole run.
func used(seconds float64) func(*job.Run) {
	return func(r *job.Run) {
		r.Outcome.Usage.CPU.Total = ptr(time.Duration(seconds * float64(time.Second)))
	}
}

// rates are samples at a second's distance.
func rates(cores ...float64) func(*job.Run) {
	return func(r *job.Run) {
		total := time.Duration(0)
		for i, c := range append([]float64{0}, cores...) {
			total += time.Duration(c * float64(time.Second))
			r.Samples = append(r.Samples,
				job.Sample{Time: start.Add(time.Duration(i) * time.Second), Usage: job.Usage{CPU: job.CPUUsage{Total: ptr(total)}}})
		}
	}
}

func over(wall time.Duration) func(*job.Run) {
	return func(r *job.Run) { r.Outcome.Finished = start.Add(wall) }
}

// firstSample is that of the command's start, which has cost some CPU.
func firstSample(seconds float64) func(*job.Run) {
	return func(r *job.Run) {
		r.Samples = []job.Sample{{Time: start,
			Usage: job.Usage{CPU: job.CPUUsage{Total: ptr(time.Duration(seconds * float64(time.Second)))}}}}
	}
}

func many(n int, cores float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = cores
	}
	return out
}

func throttled(part float64, limitMillis uint64) func(*job.Run) {
	return func(r *job.Run) {
		cpu := &r.Outcome.Usage.CPU
		cpu.Periods, cpu.ThrottledPeriods, cpu.Throttled = ptr(uint64(1000)), ptr(uint64(part*1000)),
			ptr(time.Duration(part*float64(time.Minute)))
		r.Outcome.Usage.CPU.LimitMillis = &limitMillis
	}
}

// from advises on the job of the first run.
func from(runs []job.Run) *Advice {
	for _, r := range runs {
		if r.Spec != nil {
			return From(r.Spec, runs)
		}
	}
	return From(&job.Spec{}, runs)
}

func TestMemory(t *testing.T) {
	for _, test := range []struct {
		name   string
		runs   []job.Run
		want   string // empty: no advice
		reason string
	}{
		{"the highest peak", []job.Run{run("a", peak(600*mi)), run("b", peak(812*mi)), run("c", peak(700*mi))}, "1Gi",
			"the highest peak, 812Mi in b, and 20 % more, rounded up"},
		{"little", []job.Run{run("a", peak(4*mi))}, "16Mi", "the highest peak, 4Mi in a"},
		{"much", []job.Run{run("a", peak(100*1024*mi))}, "120Gi", "100Gi in a"},
		{"not a round figure", []job.Run{run("a", peak(1000*mi))}, "1280Mi", "1000Mi in a"},
		{"sampled", []job.Run{run("a", peak(600*mi), sampledPeak)}, "768Mi",
			"it is the highest sample, between which there may have been more"},
		{"killed alone", []job.Run{run("a", peak(512*mi), limit(512*mi), killed)}, "1Gi",
			"a was killed for want of memory at 512Mi: what it needs is more than that, and not known; twice as much, rounded up"},
		{"killed, its limit unknown", []job.Run{run("a", peak(500*mi), killed)}, "1Gi", "at 500Mi"},
		{"a child was killed",
			[]job.Run{run("a", peak(512*mi), limit(512*mi), func(r *job.Run) { r.Outcome.Usage.Memory.OOMKills = ptr(uint64(1)) })}, "1Gi",
			"a was killed"},
		{"killed twice", []job.Run{run("a", limit(256*mi), killed), run("b", limit(512*mi), killed)}, "1Gi", "b was killed"},
		{"killed, and then it had enough", []job.Run{run("b", peak(700*mi), limit(1024*mi)), run("a", peak(512*mi), limit(512*mi), killed)},
			"896Mi", "the highest peak, 700Mi in b, and 20 % more, rounded up; a was killed at 512Mi"},
		{"killed later", []job.Run{run("b", peak(512*mi), limit(512*mi), killed), run("a", peak(300*mi), limit(512*mi))}, "1Gi",
			"b was killed"},
		{"killed on the node", []job.Run{run("a", peak(100*mi), limit(1024*mi), killedAbove)}, "120Mi", "the highest peak, 100Mi in a"},
		{"killed on the node, asked for more", []job.Run{run("a", asks("", "", "1Gi", ""), peak(100*mi), limit(1024*mi), killedAbove)},
			"1Gi", "not less than was asked for"},
		{"killed on the node, and then completed", []job.Run{run("b", peak(200*mi), limit(512*mi)), run("a", limit(1024*mi), killedAbove)},
			"240Mi", "200Mi in b"},
		{"killed, and only samples are known", []job.Run{run("a", killed, func(r *job.Run) {
			r.Outcome.Usage = nil
			r.Samples = []job.Sample{{Time: start, Usage: job.Usage{Memory: job.MemoryUsage{Limit: ptr(uint64(512 * mi))}}}}
		})}, "1Gi", "a was killed"},
		{"killed, nothing known", []job.Run{run("a", killed)}, "", ""},
		{"filled by files", []job.Run{run("a", peak(1024*mi), limit(1024*mi), own(300*mi))}, "1Gi",
			"a filled its limit of 1Gi and was not killed: at most 300Mi of it was its processes' own"},
		{"filled by itself", []job.Run{run("a", peak(1024*mi), limit(1024*mi), own(1000*mi))}, "1280Mi", "it was cut off by its limit"},
		{"filled, by what is not known", []job.Run{run("a", peak(1024*mi), limit(1024*mi))}, "1280Mi", "it was cut off by its limit"},
		{"failed alone", []job.Run{run("a", asks("", "", "1Gi", ""), peak(20*mi), failed)}, "1Gi",
			"20Mi in a, and 20 % more, rounded up; none of them completed, so not less than was asked for"},
		{"failed, with more than it asked for", []job.Run{run("a", asks("", "", "16Mi", ""), peak(20*mi), failed)}, "24Mi",
			"rounded up; none of them completed"},
		{"failed, and then completed", []job.Run{run("b", asks("", "", "1Gi", ""), peak(20*mi)), run("a", peak(10*mi), failed)},
			"24Mi", "20Mi in b"},
		{"killed at less than was asked for since", []job.Run{run("b", asks("", "", "4Gi", "")),
			run("a", peak(512*mi), limit(512*mi), killed)}, "4Gi", "not less than was asked for"},
		{"not measured", []job.Run{run("a", used(5))}, "", ""},
		{"absurd", []job.Run{run("a", peak(math.MaxUint64))}, "8Ei", ""},
		{"absurd, killed", []job.Run{run("a", limit(math.MaxUint64), killed)}, "8Ei", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := from(test.runs)
			if a == nil || a.Memory == nil {
				if test.want != "" {
					t.Errorf("no advice")
				}
				return
			}
			m := a.Memory
			want := resource.MustParse("9223372036854775807")
			if test.want != "8Ei" {
				want = resource.MustParse(test.want)
			}
			if m.Request.Cmp(want) != 0 || m.Limit == nil || m.Limit.Cmp(want) != 0 || !strings.Contains(m.Reason, test.reason) {
				t.Errorf("got %s, %s: %s", &m.Request, m.Limit, m.Reason)
			}
		})
	}
}

func TestCPU(t *testing.T) {
	for _, test := range []struct {
		name        string
		runs        []job.Run
		request     string // empty: no advice
		limit, room string
		reason      string
	}{
		{"the mean of a short one", []job.Run{run("a", used(5))}, "500m", "", "1", "on average it used 0.50 cores, in a, rounded up"},
		{"95 of 100", []job.Run{run("a", rates(append(many(95, 0.5), many(5, 3)...)...))}, "500m", "", "3",
			"95 % of the time it used at most 0.50 cores, in a"},
		{"94 of 100", []job.Run{run("a", rates(append(many(94, 0.5), many(6, 3)...)...))}, "3", "", "3",
			"95 % of the time it used at most 3.00 cores"},
		{"too few samples", []job.Run{run("a", used(10), rates(1, 2, 3))}, "1", "", "3", "on average"},
		{"the median", []job.Run{run("a", used(1)), run("b", used(2)), run("c", used(90))}, "200m", "", "9", "in the median of 3 attempts"},
		{"those that failed have not done their work", []job.Run{run("a", used(1), failed), run("b", used(8))}, "800m", "", "1", "in b"},
		{"it survived the kill of a part of it", []job.Run{run("a", used(1), killed, func(r *job.Run) { r.Outcome.Code = 0 }),
			run("b", used(8), failed)}, "100m", "", "1", "in a"},
		{"its command was not found", []job.Run{run("a", used(8), failed, neverRan), run("b", used(1))}, "100m", "", "1", "in b"},
		{"all failed", []job.Run{run("a", used(1), failed)}, "100m", "", "1", "in a, rounded up; none of them completed"},
		{"all failed, and asked for more", []job.Run{run("a", asks("2", "4", "", ""), used(1), failed)}, "2", "4", "",
			"none of them completed, so not less than was asked for"},
		{"idle", []job.Run{run("a", used(0))}, "10m", "", "10m", ""},
		{"a limit that is far away", []job.Run{run("a", asks("4", "", "", ""), used(5))}, "500m", "4", "", ""},
		{"a limit of its own", []job.Run{run("a", asks("1", "2", "", ""), used(5), throttled(0.05, 2000))}, "500m", "2", "", ""},
		{"a limit that hurts", []job.Run{run("a", asks("500m", "", "", ""), used(5), throttled(0.6, 500))}, "500m", "1", "", ""},
		{"a limit that was raised since", []job.Run{run("b", asks("2", "", "", ""), used(5), throttled(0, 2000)),
			run("a", asks("500m", "", "", ""), used(5), throttled(0.6, 500))}, "500m", "2", "", ""},
		{"more than the limit", []job.Run{run("a", asks("400m", "", "", ""), used(5))}, "400m", "400m", "", "not more than its limit"},
		{"over in no time", []job.Run{run("a", used(1), func(r *job.Run) { r.Outcome.Finished = start.Add(time.Millisecond) })},
			"", "", "", ""},
		{"the container's start is not its own", []job.Run{run("a", used(0.18), over(150*time.Millisecond), firstSample(0.03))}, "1", "",
			"1", "on average it used 1.00 cores"},
		{"short, and its start is not known", []job.Run{run("a", used(0.03), over(4*time.Second))}, "", "", "", ""},
		{"absurd", []job.Run{run("a", used(9e9))}, "1M", "", "1M", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := from(test.runs)
			if a == nil || a.CPU == nil {
				if test.request != "" {
					t.Error("no advice")
				}
				return
			}
			got := [3]string{a.CPU.Request.String()}
			for i, q := range []*resource.Quantity{a.CPU.Limit, a.CPU.Room} {
				if q != nil {
					got[i+1] = q.String()
				}
			}
			if want := [3]string{test.request, test.limit, test.room}; got != want || !strings.Contains(a.CPU.Reason, test.reason) {
				t.Errorf("got %q, want %q: %s", got, want, a.CPU.Reason)
			}
		})
	}
}

// An advice that is taken is the same advice the next time: nothing grows or shrinks
// by itself.
func TestSettles(t *testing.T) {
	for _, test := range []struct {
		name string
		next func(memory uint64) job.Run // the run that has so much
	}{
		{"takes what it needs", func(memory uint64) job.Run { return run("x", peak(500*mi), limit(memory), used(5)) }},
		{"fills what it gets with files", func(memory uint64) job.Run {
			return run("x", peak(memory), limit(memory), own(200*mi), used(5))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			memory := uint64(1024 * mi)
			for i := range 5 {
				a := from([]job.Run{test.next(memory)})
				next := uint64(a.Memory.Limit.Value())
				if i > 0 && next != memory {
					t.Fatalf("advice %d is %d after %d", i, next, memory)
				}
				memory = next
			}
		})
	}
}

func TestFrom(t *testing.T) {
	nothing := job.Run{Attempt: "n"}
	if a := from(nil); a != nil {
		t.Errorf("from nothing: %+v", a)
	}
	if a := from([]job.Run{nothing, run("empty"), run("a", peak(mi), used(5), failed, neverRan)}); a != nil {
		t.Errorf("from runs without figures: %+v", a)
	}
	a := from([]job.Run{nothing, run("a", peak(100*mi), used(5)), run("b", peak(90*mi), used(5))})
	if a.Attempts != 2 || a.Of != 3 || len(a.Notes) != 2 || !strings.Contains(a.Notes[0], "2 attempts are few") ||
		!strings.Contains(a.Notes[1], "of 1 other attempt nothing was measured") {
		t.Errorf("got %+v", a)
	}
	if a := from([]job.Run{run("a", peak(100*mi))}); !strings.HasPrefix(a.Notes[0], "1 attempt is little") || a.CPU != nil {
		t.Errorf("got %+v", a)
	}
	if a := from([]job.Run{run("a", peak(mi)), run("b", peak(mi)), run("c", peak(mi))}); len(a.Notes) != 0 {
		t.Errorf("got %q", a.Notes)
	}
	if a := from([]job.Run{run("a", peak(mi), used(0.03), over(time.Second))}); len(a.Notes) != 2 ||
		!strings.HasPrefix(a.Notes[0], "nothing on CPU: ") {
		t.Errorf("got %q", a.Notes)
	}
	// What was asked is the job's that is advised on, and a limit alone is a request.
	spec := &job.Spec{CPULimit: quantity("1"), MemoryLimit: quantity("2Gi")}
	a = From(spec, []job.Run{run("b", asks("7", "", "7Gi", ""), peak(100*mi), used(5))})
	if a.CPU.Asked.String() != "1" || a.Memory.Asked.String() != "2Gi" || a.Memory.AskedLimit.String() != "2Gi" || !a.CPU.Differs() ||
		!a.Memory.Differs() {
		t.Errorf("got %+v", a)
	}
	if a := from([]job.Run{run("a", asks("500m", "", "120Mi", ""), peak(100*mi), used(5))}); a.CPU.Differs() || a.Memory.Differs() {
		t.Errorf("got %+v, %+v", a.CPU, a.Memory)
	}
}

// Samples alone do, as of a run whose end nobody has seen.
func TestSamplesAlone(t *testing.T) {
	r := job.Run{Attempt: "a"}
	rates(many(30, 0.25)...)(&r)
	for i := range r.Samples {
		r.Samples[i].Usage.Memory.Current = ptr(uint64(i * mi))
	}
	// A hostile agent's: back in time, and less than before.
	r.Samples = append(r.Samples, job.Sample{Time: start, Usage: job.Usage{CPU: job.CPUUsage{Total: ptr(time.Duration(0))}}})
	a := from([]job.Run{r})
	if a == nil || a.CPU.Request.String() != "250m" || a.Memory.Request.String() != "36Mi" {
		t.Errorf("got %+v %+v", a.CPU, a.Memory)
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		name  string
		run   job.Run
		limit bool
		want  string
	}{
		{"no limit before", run("a", peak(800*mi), used(5)), false, "--cpu 500m --cpu-limit 1 --memory 960Mi"},
		{"a limit", run("a", asks("2", "", "2Gi", ""), peak(800*mi), used(5)), false, "--cpu 500m --cpu-limit 2 --memory 960Mi"},
		{"two limits of memory", run("a", asks("", "", "1Gi", "2Gi"), peak(800*mi)), true, "--memory 960Mi --memory-limit 960Mi"},
		{"idle", run("a", used(0)), false, "--cpu 10m"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := from([]job.Run{test.run}).Flags(test.limit); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestPatch(t *testing.T) {
	free := from([]job.Run{run("a", peak(800*mi), used(5))})
	bound := from([]job.Run{run("a", asks("2", "", "", ""), used(5))})
	for _, test := range []struct {
		name, target string
		advice       *Advice
		want         string
	}{
		{"a template", Template, free,
			`{"spec":{"template":{"spec":{"containers":[{"name":"job","resources":{"limits":{"memory":"960Mi"},"requests":{"cpu":"500m",` +
				`"memory":"960Mi"}}}]}}}}`},
		{"a CronJob", CronJob, bound,
			`{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"name":"job","resources":{"limits":{"cpu":"2"},` +
				`"requests":{"cpu":"500m"}}}]}}}}}}`},
		{"a provider", Provider, free, `{"cpu":"500m","cpu_limit":"1","memory":"960Mi","memory_limit":"960Mi"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			patch, err := test.advice.Patch(test.target)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(patch)
			if err != nil || string(got) != test.want {
				t.Errorf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
	if _, err := free.Patch("pod"); err == nil || err.Error() != `no patch for "pod": want cronjob, template, provider` {
		t.Errorf("got %v", err)
	}
}

func TestRounding(t *testing.T) {
	for _, test := range []struct{ mib, want uint64 }{{1, 1}, {33, 36}, {974, 1024}, {1024, 1024}, {1025, 1152}, {100 << 10, 104 << 10}} {
		if got := roundMemory(test.mib * mi); got != test.want*mi {
			t.Errorf("%d MiB: got %d, want %d", test.mib, got/mi, test.want)
		}
	}
	for _, test := range []struct {
		of   float64
		want string
	}{{0, "10m"}, {11, "20m"}, {200, "200m"}, {201, "250m"}, {1000, "1"}, {1001, "1100m"}, {12345, "13"}, {math.Inf(1), "1M"}} {
		if q := millis(test.of); q.String() != test.want {
			t.Errorf("%g: got %s, want %s", test.of, &q, test.want)
		}
	}
}
