package cli

import (
	"io"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// screen is what a person sees of a run, on stderr.
type screen struct {
	quiet, tty bool
	out        io.Writer
	lines      *output.Streams // of the output, which is on the same terminal
	status     *ui.Status
	began      time.Time
	// typeable makes the commands in a note what can be typed.
	typeable func(text string) string
}

func newScreen(a *app, quiet bool) *screen {
	t := ui.Detect(a.ErrOut, a.getenv)
	return &screen{quiet: quiet, tty: t.TTY, out: a.ErrOut, lines: a.streams(), status: ui.NewStatus(a.ErrOut, t), began: time.Now(), typeable: a.typeable}
}

func (s *screen) elapsed() time.Duration { return time.Since(s.began) }

// waiting is for the spinner alone: in a log the phases tell enough.
func (s *screen) waiting(text string) {
	if s.tty && !s.quiet {
		s.lines.BeginLine()
		s.status.Wait(text)
	}
}

func (s *screen) phase(e job.Event) {
	if s.quiet {
		return
	}
	s.lines.BeginLine()
	switch {
	case e.Waiting:
		s.status.Wait(e.Detail)
	case e.Phase == job.Pulling:
		s.status.Wait("pulling " + e.Detail)
	case e.Phase == job.Running:
		s.status.Done(e.Phase.String(), e.Detail, 0)
	default:
		s.status.Done(e.Phase.String(), e.Detail, e.Time.Sub(s.began))
		s.waiting(next[e.Phase])
	}
}

// next is what is waited for after a phase.
var next = map[job.Phase]string{
	job.Submitted: "waiting for a node",
	job.Scheduled: "waiting for the images",
	job.Pulled:    "waiting for the agent",
	job.AgentUp:   "waiting for the command",
}

func (s *screen) note(text string) {
	if !s.quiet {
		s.status.Stop()
		s.lines.BeginLine()
		s.status.Note(s.typeable(text))
	}
}

// summary is how a run has ended and what it has cost, on one line. Where there is
// more to say of its end, the cost is on a line before it.
func (s *screen) summary(o *job.Outcome, samples []job.Sample) {
	if s.quiet {
		return
	}
	text := o.Summary()
	if o.Message == "" {
		text = s.withUsage(text, o, samples)
	} else {
		s.usage(o, samples)
	}
	mark := ui.Bad
	if o.Succeeded() {
		mark = ui.Good
	}
	s.lines.BeginLine()
	s.status.Summary(mark, text)
}

// usage is what a run has cost, on a line of its own.
func (s *screen) usage(o *job.Outcome, samples []job.Sample) {
	if text := s.withUsage("", o, samples); text != "" {
		s.note("used " + text)
	}
}

// withUsage adds to text what a run has cost, if anything is known of that. Curves are
// for a terminal that has room for them.
func (s *screen) withUsage(text string, o *job.Outcome, samples []job.Sample) string {
	if o.Usage == nil {
		return text
	}
	join := func(style usage.Style, between string) string {
		parts := usage.Parts(o.Usage, o.Wall(), style)
		if text != "" {
			parts = append([]string{text}, parts...)
		}
		return strings.Join(parts, between)
	}
	if !s.tty {
		return join(usage.Plain(), ", ")
	}
	line := join(usage.Arrows().WithCurves(samples, ui.Spark), " · ")
	if width := ui.Width(s.out); width > 0 && ui.Columns(line)+markWidth > width {
		line = join(usage.Arrows(), " · ")
	}
	return line
}

// markWidth is the room for the mark before a summary, or a word before the usage.
const markWidth = 5

func (s *screen) stop() { s.status.Stop() }
