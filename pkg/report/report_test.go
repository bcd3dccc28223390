package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

var (
	update = flag.Bool("update", false, "write the golden files anew")
	start  = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
)

func ptr[T any](v T) *T { return &v }

// phases are those of an ordinary start.
func phases() []job.Event {
	at := func(ms int) time.Time { return start.Add(time.Duration(ms-1200) * time.Millisecond) }
	return []job.Event{
		{Phase: job.Submitted, Time: at(0)},
		{Phase: job.Scheduled, Time: at(70), Detail: "node1"},
		{Phase: job.Pulled, Time: at(610), Detail: "present"},
		{Phase: job.AgentUp, Time: at(910), Detail: "make-k3x9z-abcde"},
		{Phase: job.Running, Time: at(1200), Detail: "make-k3x9z-abcde"},
	}
}

// testRun is one of n samples over a time, with everything in it.
func testRun(n int, over time.Duration) job.Run {
	cpu, memory := 0.0, 0.0
	var read, written, received, sent uint64
	run := job.Run{Namespace: "hodei-jobs-workers", Provider: "k8s-local", Attempt: "hodei-make-k3x9z-abcde", Phases: phases(),
		Spec: &job.Spec{Name: "hodei-make-k3x9z", Image: "golang:1.26", Command: []string{"make", "test"},
			CPU: ptr(resource.MustParse("2")), Memory: ptr(resource.MustParse("1Gi"))}}
	for i := range n {
		if i > 0 {
			dt := over.Seconds() / float64(n-1)
			x := float64(i) / float64(n)
			cpu += dt * (1.1 + 0.8*math.Sin(9*x) + 0.09*math.Sin(400*x))
			read += uint64(dt * 4e6 * max(0, math.Cos(3*x)))
			written += uint64(dt * 9e6 * max(0, math.Sin(5*x)))
			received += uint64(dt * 1.5e6 * (1 + math.Sin(20*x)))
			sent += uint64(dt * 2e5 * (1 + math.Cos(31*x)))
			memory = 3e8 + 5e8*x + 2e7*math.Sin(60*x)
		}
		total := time.Duration(cpu * float64(time.Second))
		u := job.Usage{Source: "cgroup2+ebpf",
			CPU: job.CPUUsage{Total: &total, User: ptr(total * 3 / 4), System: ptr(total / 4), LimitMillis: ptr(uint64(2000)),
				Throttled: ptr(total / 50), Periods: ptr(uint64(i * 10)), ThrottledPeriods: ptr(uint64(i))},
			Memory: job.MemoryUsage{Current: ptr(uint64(memory) + 4<<20), Peak: ptr(uint64(851443712)), Anon: ptr(uint64(memory / 2)),
				File:  ptr(uint64(memory / 3)),
				Limit: ptr(uint64(1 << 30)), OOMKills: ptr(uint64(0))},
			IO: job.IOUsage{ReadBytes: ptr(read), WriteBytes: ptr(written), ReadOps: ptr(read / 4096), WriteOps: ptr(written / 4096)},
			Network: job.NetworkUsage{IPv4: &job.Traffic{ReceiveBytes: received, ReceivePackets: received / 1400, TransmitBytes: sent,
				TransmitPackets: sent / 1400}},
			Pids: job.PidsUsage{Current: ptr(uint64(12)), Limit: ptr(uint64(4096))},
		}
		for b := range 22 {
			u.RunQueueWaits = append(u.RunQueueWaits, uint64(9000*math.Exp(-math.Pow(float64(b-6), 2)/12)))
		}
		at := start
		if n > 1 {
			at = start.Add(over * time.Duration(i) / time.Duration(n-1))
		}
		run.Samples = append(run.Samples, job.Sample{Time: at, Usage: u})
	}
	run.Outcome = &job.Outcome{Cause: job.Completed, Started: start, Finished: start.Add(over), OutputBytes: 4711,
		Probes: []job.Probe{{Name: "network"}, {Name: "stats"}, {Name: "oom", Absent: "the kernel has no tracepoint for it before 6.8"}}}
	if n > 0 {
		run.Outcome.Usage = &run.Samples[n-1].Usage
	}
	return run
}

// reports are what the golden files are of.
func reports() map[string]*Report {
	made := start.Add(time.Hour)
	all := map[string]*Report{
		"ordinary": {Run: testRun(42, 41200*time.Millisecond)},
		"long":     {Run: testRun(500, 10*time.Hour)},
		"short":    {Run: testRun(2, 310*time.Millisecond)},
		"one":      {Run: testRun(1, 0)},
		"none":     {Run: testRun(0, 12*time.Second), Missing: "nobody followed this job, and its agent is gone"},
		"killed":   {Run: testRun(13, 12400*time.Millisecond), Hint: "run it again with more memory: --memory 1Gi"},
		"running":  {Run: testRun(30, 5*time.Minute), Notes: []string{"The start is by the cluster's clock, in whole seconds."}},
		"nothing":  {Made: made},
	}
	killed := all["killed"].Run.Outcome
	killed.Cause, killed.Code, killed.Signal, killed.Message = job.OOMKilled, 137, 9,
		"memory reached its limit of 512Mi; the kernel killed python (498Mi)"
	killed.Usage.Memory = job.MemoryUsage{Current: ptr(uint64(510 << 20)), Peak: ptr(uint64(512 << 20)), PeakSampled: true,
		Limit: ptr(uint64(512 << 20)), OOMKills: ptr(uint64(1)),
		OOMVictim: &job.OOMVictim{Name: "python", Pid: 4711, Bytes: 498 << 20, LimitBytes: 512 << 20}}
	killed.Probes = []job.Probe{{Name: "network", Absent: "CAP_BPF is missing"}}
	for i := range all["killed"].Run.Samples {
		u := &all["killed"].Run.Samples[i].Usage
		u.Network, u.IO = job.NetworkUsage{}, job.IOUsage{}
		u.Memory.Current = ptr(uint64(min(510, 40*(i+1))) << 20)
	}
	killed.Usage.Memory.Current = ptr(uint64(510 << 20))
	all["running"].Run.Outcome, all["running"].Running = nil, true
	all["running"].Run.Phases = append([]job.Event{
		{Phase: job.Submitted, Time: start.Add(-4 * time.Minute)},
		{Phase: job.Scheduled, Time: start.Add(-3 * time.Minute), Detail: "0/3 nodes are available: 3 Insufficient cpu", Waiting: true},
	}, phases()[1:]...)
	for i := range all["running"].Run.Samples {
		all["running"].Run.Samples[i].Usage.Memory.Limit = ptr(uint64(64 << 30))
	}
	for name, r := range all {
		if r.Made.IsZero() {
			r.Made = made
		}
		r.Version = "v1.2.3"
		if r.Run.Spec != nil {
			r.Command = strings.Join(r.Run.Spec.Command, " ")
		}
		all[name] = r
	}
	return all
}

// kept are the golden files. What the others show is on these, too.
var kept = map[string]bool{"ordinary.html": true, "ordinary.svg": true, "killed.html": true, "running.html": true, "none.html": true,
	"nothing.svg": true, "short.svg": true}

// render is a report in a format.
func render(t testing.TB, r *Report, format string) []byte {
	t.Helper()
	var b bytes.Buffer
	write := r.HTML
	if format == "svg" {
		write = r.SVG
	}
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden holds what reports look like; -update writes it anew, and then somebody
// has to look.
func TestGolden(t *testing.T) {
	for name, r := range reports() {
		for _, format := range []string{"html", "svg"} {
			t.Run(name+"."+format, func(t *testing.T) {
				got := render(t, r, format)
				wellFormed(t, got, format)
				alone(t, got)
				path := filepath.Join("testdata", name+"."+format)
				if !kept[name+"."+format] {
					return
				}
				if *update {
					if err := os.WriteFile(path, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s differs: go test ./pkg/report -update writes it anew", path)
				}
			})
		}
	}
}

// wellFormed reads a picture, or all pictures of a page, as XML.
func wellFormed(t *testing.T, b []byte, format string) {
	t.Helper()
	pictures := [][]byte{b}
	if format == "html" {
		pictures = regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAll(b, -1)
	}
	if len(pictures) == 0 {
		t.Fatal("no picture")
	}
	for _, p := range pictures {
		d := xml.NewDecoder(bytes.NewReader(p))
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("not well-formed: %v", err)
			}
			if e, ok := token.(xml.StartElement); ok {
				switch e.Name.Local {
				case "svg", "style", "path", "text", "circle":
				default:
					t.Errorf("an element %s", e.Name.Local)
				}
				for _, a := range e.Attr {
					switch a.Name.Local {
					case "xmlns", "class", "role", "aria-label", "viewBox", "width", "height", "x", "y", "d", "cx", "cy", "r":
					default:
						t.Errorf("an attribute %s", a.Name.Local)
					}
				}
			}
		}
	}
	if bytes.Contains(b, []byte("NaN")) || bytes.Contains(b, []byte("Inf")) {
		t.Error("a coordinate that is no number")
	}
}

// alone tells that a file refers to nothing outside of it.
func alone(t *testing.T, b []byte) {
	t.Helper()
	text := strings.ReplaceAll(string(b), `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, word := range []string{"http:", "https:", "<script", "<link", "<img", "<iframe", "<object", "url(", "@import", "src=", "href=",
		"<!DOCTYPE svg", "javascript:"} {
		if i := strings.Index(text, word); i >= 0 {
			t.Errorf("it has %q: …%s…", word, text[max(0, i-40):min(len(text), i+40)])
		}
	}
}

// What the container's start has cost is no rate of the command, and no limit is known
// to be none only where the kernel's file of it was read.
func TestFigures(t *testing.T) {
	one := func(u job.Usage, wall time.Duration) *Report {
		return &Report{Run: job.Run{Outcome: &job.Outcome{Cause: job.Completed, Started: start, Finished: start.Add(wall), Usage: &u}}}
	}
	if f := one(job.Usage{CPU: job.CPUUsage{Total: ptr(30 * time.Millisecond)}}, 2*time.Millisecond).figures()[1]; f.Name != "CPU" ||
		f.Detail != "" {
		t.Errorf("got %+v", f)
	}
	for _, test := range []struct{ name, source, want string }{
		{"a cgroup", "cgroup1", "none"},
		{"processes", "proc", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			u := job.Usage{Source: test.source, CPU: job.CPUUsage{Periods: ptr(uint64(0))},
				Memory: job.MemoryUsage{Current: ptr(uint64(3872 << 10))}, Pids: job.PidsUsage{Current: ptr(uint64(1))}}
			limits := 0
			for _, g := range one(u, time.Second).groups() {
				for _, r := range g.Rows {
					if strings.HasPrefix(r.Name, "limit") && r.Name != "limit reached" {
						limits++
						if r.Text != test.want {
							t.Errorf("%s: %s is %q, want %q", g.Name, r.Name, r.Text, test.want)
						}
					}
					if r.Name == "at the end" && g.Name == "Memory" && r.Text != "3.8Mi" { // as at the end of the run
						t.Errorf("memory %s", r.Text)
					}
				}
			}
			if limits != 3 {
				t.Errorf("%d limits", limits)
			}
		})
	}
	if rows := one(job.Usage{Source: "cgroup2"}, time.Second).groups()[0].Rows; rows[3].Text != "" {
		t.Errorf("the CPU controller was not read, and its limit is %q", rows[3].Text)
	}
}

// TestState: the colour is that of the exit code, and what else happened is in the words.
func TestState(t *testing.T) {
	for _, test := range []struct {
		name        string
		outcome     job.Outcome
		text, class string
	}{
		{"completed", job.Outcome{Cause: job.Completed}, "exit 0", "ok"},
		{"failed", job.Outcome{Cause: job.Error, Code: 7}, "exit 7", "bad"},
		{"survived a kill for its memory", job.Outcome{Cause: job.OOMKilled}, "exit 0 (OOMKilled)", "ok"},
		{"killed for its memory", job.Outcome{Cause: job.OOMKilled, Code: 137}, "OOMKilled (exit 137)", "bad"},
		{"not known", job.Outcome{Cause: job.Unknown}, "Unknown (exit 125)", "unknown"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, class := (&Report{Run: job.Run{Outcome: &test.outcome}}).state()
			if text != test.text || class != test.class {
				t.Errorf("got %q, %s; want %q, %s", text, class, test.text, test.class)
			}
		})
	}
}
