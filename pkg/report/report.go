// Package report draws what a run was like: a page of HTML or a picture in SVG, from
// a [job.Run]. Start with [Report]. What it writes needs nothing else: no link, no
// script, no font, no network.
//
// It looks nothing up: who calls it says what is missing, and why.
package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Report is a run, and what is to be said of it. The zero value of a field but Run
// means that there is nothing to say.
type Report struct {
	// Run is what is shown. Its texts are another's: nothing in them is taken for markup.
	Run job.Run
	// Command is that of Run, as a shell takes it.
	Command string
	// Hint is the next thing to type after a run that failed.
	Hint string
	// Missing is why Run has no samples.
	Missing string
	// Running tells that the run goes on: all is as of Made.
	Running bool
	// Notes are what else a reader has to know, a sentence each.
	Notes []string
	// Made is when the report was.
	Made time.Time
	// Version is of the program that made it.
	Version string
}

// maxTextBytes bounds each text that comes from a job: Kubernetes takes a command of
// a MiB, and nobody reads more than a screen of it.
const maxTextBytes = 4 << 10

// plain is a text of another's on one line, bounded.
func plain(s string) string { return clip(ui.Printable(clip(s, maxTextBytes)), maxTextBytes) }

// clip cuts s to n bytes, and says so.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + " …"
}

// state is how the run went, in one line, and a word for its colour.
func (r *Report) state() (text, class string) {
	o := r.Run.Outcome
	switch {
	case o == nil && r.Running:
		return "running, as of " + r.Made.Format(time.DateTime), "running"
	case o == nil:
		return "how it ended is not known", "unknown"
	case o.Succeeded():
		return plain(o.Summary()), "ok"
	case o.Cause == job.Unknown:
		return plain(o.Summary()), "unknown"
	}
	return plain(o.Summary()), "bad"
}

// usage is the last that is known; nil: nothing is.
func (r *Report) usage() *job.Usage {
	if o := r.Run.Outcome; o != nil && o.Usage != nil {
		return o.Usage
	}
	if n := len(r.Run.Samples); n > 0 {
		return &r.Run.Samples[n-1].Usage
	}
	return nil
}

// wall is how long the command ran, or has run up to the last sample, if that is
// known.
func (r *Report) wall() (time.Duration, bool) {
	if o := r.Run.Outcome; o != nil {
		ran := o.Finished.Sub(o.Started)
		return ran, !o.Started.IsZero() && ran >= 0
	}
	if c := newCourse(&r.Run); len(c.samples) > 1 {
		return c.span, true
	}
	return 0, false
}

// uncounted is why a part of the eBPF gave nothing.
func (r *Report) uncounted(part string) string {
	if o := r.Run.Outcome; o != nil {
		for _, p := range o.Probes {
			if p.Name == part {
				return cmp.Or(plain(p.Absent), "nothing was counted")
			}
		}
	}
	return "only eBPF counts it, and none was there: see docs/usage.md"
}

// name is the job's; of a run of which nothing is known that of its attempt.
func (r *Report) name() string {
	if r.Run.Spec != nil && r.Run.Spec.Name != "" {
		return plain(r.Run.Spec.Name)
	}
	return cmp.Or(plain(r.Run.Attempt), "a job")
}

// facts are what was asked for, and where it ran.
func (r *Report) facts() []fact {
	var facts []fact
	add := func(name, value string) {
		if value = plain(value); value != "" {
			facts = append(facts, fact{name, value})
		}
	}
	run := &r.Run
	add("namespace", run.Namespace)
	add("provider", run.Provider)
	add("attempt", run.Attempt)
	if s := run.Spec; s != nil {
		add("image", s.Image)
		resources := s.Resources()
		add("requests", strings.Join(asked(resources.CPU.Request, resources.Memory.Request), ", "))
		add("limits", strings.Join(asked(resources.CPU.Limit, resources.Memory.Limit), ", "))
		if s.GPU > 0 {
			add("GPUs", fmt.Sprint(s.GPU))
		}
	}
	if o := run.Outcome; o != nil && !o.Started.IsZero() {
		add("started", o.Started.Format(time.RFC3339))
	}
	if u := r.usage(); u != nil {
		add("measured by", u.Source)
	}
	return facts
}

// fact is a name and a text.
type fact struct{ Name, Text string }

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle string
	//go:embed picture.css
	pictureStyle string

	page = template.Must(template.New("page").Parse(pageText))
)

// view is what the page shows.
type view struct {
	Name, Command       string
	State, StateClass   string
	Hint                string
	Notes               []string
	Facts               []fact
	Figures             []figure
	Pictures            []template.HTML
	Waits               []fact
	Groups              []group
	Made, Version       string
	PageStyle, PicStyle template.CSS
}

// HTML writes a page: one file, for a browser of any width, light or dark, and for
// paper. An error is the writer's.
func (r *Report) HTML(w io.Writer) error {
	v := view{
		Name: r.name(), Command: plain(r.Command), Hint: plain(r.Hint), Facts: r.facts(),
		Figures: r.figures(), Waits: waits(r.Run.Phases), Groups: r.groups(),
		Version: plain(r.Version), PageStyle: template.CSS(pageStyle), PicStyle: template.CSS(pictureStyle),
	}
	v.State, v.StateClass = r.state()
	for _, n := range r.Notes {
		v.Notes = append(v.Notes, plain(n))
	}
	if !r.Made.IsZero() {
		v.Made = r.Made.Format(time.RFC3339)
	}
	for _, p := range r.panels() {
		v.Pictures = append(v.Pictures, template.HTML(picture(p))) // of which every text was escaped
	}
	return page.Execute(w, v)
}

// SVG writes start and curves as one picture, which browsers, wikis and converters
// take. An error is the writer's.
func (r *Report) SVG(w io.Writer) error {
	_, err := w.Write(poster(r))
	return err
}

// panels are the pictures of a report, in their order.
func (r *Report) panels() []panel {
	panels := []panel{newTimeline(r.Run.Phases)}
	panels = append(panels, r.charts()...)
	if u := r.usage(); u != nil && len(u.RunQueueWaits) > 0 {
		panels = append(panels, newHistogram(u.RunQueueWaits, u.RunQueueWatched))
	}
	return panels
}
