package report

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// poison fills every text of a report that comes from a job, or from its cluster.
func poison(text string) *Report {
	r := &Report{Run: testRun(5, 5*time.Second), Command: text, Hint: text, Version: text, Notes: []string{text}, Made: start}
	run := &r.Run
	run.Namespace, run.Provider, run.Attempt = text, text, text
	run.Spec.Name, run.Spec.Image, run.Spec.Command = text, text, []string{text}
	for i := range run.Phases {
		run.Phases[i].Detail = text
	}
	run.Phases = append(run.Phases, job.Event{Phase: job.Scheduled, Time: start, Detail: text, Waiting: true})
	o := run.Outcome
	o.Cause, o.Message, o.Attempt = job.OOMKilled, text, text
	o.Probes = []job.Probe{{Name: text, Absent: text}, {Name: "network", Absent: text}}
	o.Usage.Source = text
	o.Usage.Memory.OOMVictim = &job.OOMVictim{Name: text}
	o.Usage.Memory.OOMKills = ptr(uint64(1))
	for i := range run.Samples {
		run.Samples[i].Usage.Network = job.NetworkUsage{}
	}
	return r
}

// TestHostileTexts: nothing that a job says becomes markup, style or a reference.
func TestHostileTexts(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"script", `<script>alert(1)</script>`},
		{"closed picture", `</text></svg><script>alert(1)</script>`},
		{"closed style", `</style><script>alert(1)</script>`},
		{"handler", `" onload="alert(1)`},
		{"handler of an element", `<img src=x onerror=alert(1)>`},
		{"apostrophe", `' onmouseover='alert(1)`},
		{"CDATA", `]]><script>alert(1)</script><![CDATA[`},
		{"comment", `--><script>alert(1)</script><!--`},
		{"entity", `&lt;script&gt;alert(1)&lt;/script&gt;&#60;script&#62;`},
		{"doctype", `<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]>&y;`},
		{"template", `{{.Run}}{{template "page"}}`},
		{"title", `</title><meta http-equiv="refresh" content="0;url=//example.com">`},
		{"style rule", `}*{background:url(//example.com)}`},
		{"control characters", "a\x00b\x1b[31mc\x07\x7f\u0085"},
		{"turned around", "a\u202eb\u2066c\ufeff"},
		{"not UTF-8", "a\xff\xfe\xc3("},
		{"not in XML", "a\ufffe\uffff\ud7ff"},
		{"lines", "a\nb\r\nc\u2028d"},
	} {
		for _, format := range []string{"html", "svg"} {
			t.Run(test.name+"."+format, func(t *testing.T) {
				got := render(t, poison(test.text), format)
				wellFormed(t, got, format)
				text := string(got)
				for _, bad := range []string{"<script", "<img", "<meta http-equiv=\"refresh", "<!ENTITY", "<!--", "\x00", "\x1b", "\u202e",
					"\u2066", "\u2028"} {
					if strings.Contains(text, bad) {
						t.Errorf("it has %q", bad)
					}
				}
				bare := regexp.MustCompile(`="[^"]*"`).ReplaceAllString(text, `=""`)
				if m := regexp.MustCompile(`<[a-z][^<>]*\son\w+=`).FindString(bare); m != "" {
					t.Errorf("a handler: %s", m)
				}
				styles := regexp.MustCompile(`(?s)<style>.*?</style>`).FindAllString(text, -1)
				if len(styles) != 1 || strings.Contains(styles[0], "example.com") {
					t.Errorf("%d styles", len(styles))
				}
				rest := strings.Replace(text, styles[0], "", 1)
				if tags := regexp.MustCompile(`style=`).FindAllString(rest, -1); len(tags) > 0 {
					t.Errorf("%d style attributes", len(tags))
				}
			})
		}
	}
}

// TestLongTexts are cut.
func TestLongTexts(t *testing.T) {
	long := strings.Repeat("échappé ", 1<<17)
	plain, poisoned := render(t, poison("x"), "html"), render(t, poison(long), "html")
	if n := len(poisoned) - len(plain); n > 40*maxTextBytes {
		t.Errorf("%d bytes more", n)
	}
	wellFormed(t, poisoned, "html")
	wellFormed(t, render(t, poison(long), "svg"), "svg")
}

// TestHostileFigures: whatever the figures are, there is a picture, and soon.
func TestHostileFigures(t *testing.T) {
	top := func(r *job.Run) {
		for i := range r.Samples {
			u := &r.Samples[i].Usage
			n := uint64(math.MaxUint64) / uint64(len(r.Samples)) * uint64(i)
			u.CPU.Total, u.CPU.LimitMillis = ptr(time.Duration(n/2)), ptr(uint64(math.MaxUint64))
			u.Memory.Current, u.Memory.Peak, u.Memory.Limit = &n, ptr(uint64(math.MaxUint64)), ptr(uint64(math.MaxUint64))
			u.IO.ReadBytes, u.IO.WriteBytes = &n, &n
			u.Network.IPv4 = &job.Traffic{ReceiveBytes: n, TransmitBytes: n}
			u.RunQueueWaits = make([]uint64, 1000)
			for b := range u.RunQueueWaits {
				u.RunQueueWaits[b] = math.MaxUint64
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*job.Run)
	}{
		{"zeros", func(r *job.Run) {
			for i := range r.Samples {
				r.Samples[i].Usage = job.Usage{CPU: job.CPUUsage{Total: ptr(time.Duration(0))},
					Memory:        job.MemoryUsage{Current: ptr(uint64(0)), Limit: ptr(uint64(0)), Peak: ptr(uint64(0))},
					RunQueueWaits: make([]uint64, 3)}
			}
			r.Outcome.Usage = &r.Samples[4].Usage
		}},
		{"the greatest", top},
		{"at once", func(r *job.Run) {
			top(r)
			for i := range r.Samples {
				r.Samples[i].Time = start.Add(time.Duration(i))
			}
		}},
		{"back in time", func(r *job.Run) {
			for i := range r.Samples {
				r.Samples[i].Time = start.Add(-time.Duration(i) * time.Hour)
			}
		}},
		{"back in use", func(r *job.Run) {
			for i := range r.Samples {
				r.Samples[i].Usage.CPU.Total = ptr(time.Duration(5 - i))
				r.Samples[i].Usage.IO = job.IOUsage{ReadBytes: ptr(uint64(5 - i))}
			}
		}},
		{"from the beginning of time to its end", func(r *job.Run) {
			r.Samples[0].Time, r.Samples[4].Time = time.Time{}, time.Unix(1<<40, 0)
			r.Outcome.Started, r.Outcome.Finished = time.Time{}, time.Unix(1<<40, 0)
			r.Phases[0].Time, r.Phases[1].Time = time.Time{}, time.Unix(1<<40, 0)
		}},
		{"clocks that differ", func(r *job.Run) {
			r.Outcome.Started, r.Outcome.Finished = start.Add(24*time.Hour), start.Add(-24*time.Hour)
			r.Phases[2].Time = start.Add(-24 * time.Hour)
		}},
		{"all phases at once", func(r *job.Run) {
			for i := range r.Phases {
				r.Phases[i].Time = start
			}
		}},
		{"years of waiting", func(r *job.Run) { r.Phases[0].Time = start.Add(-200 * 365 * 24 * time.Hour) }},
		{"nothing known", func(r *job.Run) {
			for i := range r.Samples {
				r.Samples[i].Usage = job.Usage{}
			}
			r.Outcome.Usage = nil
		}},
		{"nothing at all", func(r *job.Run) { *r = job.Run{} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &Report{Run: testRun(5, 5*time.Second), Made: start}
			test.change(&r.Run)
			for _, format := range []string{"html", "svg"} {
				got := render(t, r, format)
				wellFormed(t, got, format)
				if len(got) > 200<<10 {
					t.Errorf("%s of %d bytes", format, len(got))
				}
				inside(t, string(got))
			}
		})
	}
}

// inside tells that no curve leaves its picture.
func inside(t *testing.T, text string) {
	t.Helper()
	views := regexp.MustCompile(`(?s)viewBox="0 0 (\d+) (\d+)".*?</svg>`).FindAllStringSubmatch(text, -1)
	for _, v := range views {
		var width, height float64
		if _, err := fmt.Sscan(v[1]+" "+v[2], &width, &height); err != nil {
			t.Fatal(err)
		}
		for _, p := range regexp.MustCompile(`[ML] (-?\d+) (-?\d+)`).FindAllStringSubmatch(v[0], -1) {
			var x, y float64
			if _, err := fmt.Sscan(p[1]+" "+p[2], &x, &y); err != nil {
				t.Fatal(err)
			}
			if x < 0 || y < 0 || x > width || y > height {
				t.Errorf("point %s outside of %s by %s", p[0], v[1], v[2])
				return
			}
		}
	}
}
