package output

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// Screen is what a person sees of a run, on stderr.
type Screen struct {
	Quiet, tty bool
	out        io.Writer
	streams    *Streams // of the output, which is on the same terminal
	status     *ui.Status
	Began      time.Time
	// typeable makes the commands in a note what can be typed.
	typeable func(text string) string

	mu    sync.Mutex
	held  bool
	notes []string // while it is held
}

// heldNotes is the most notes that a held screen keeps: the first ones tell how it began.
const heldNotes = 50

// Hold keeps the screen from writing, because the terminal is a program's.
func (s *Screen) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// Release lets the screen write again. It writes the notes that have come meanwhile, and nothing else of that time.
func (s *Screen) Release() {
	s.mu.Lock()
	notes := s.notes
	s.held, s.notes = false, nil
	s.mu.Unlock()
	for _, text := range notes {
		s.Note(text)
	}
}

// silent reports whether the screen shows nothing now.
func (s *Screen) silent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Quiet || s.held
}

// keeps reports whether a note is kept until the screen writes again.
func (s *Screen) keeps(note string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held && !s.Quiet && len(s.notes) < heldNotes {
		s.notes = append(s.notes, note)
	}
	return s.held
}

// NewScreen returns a screen on the stderr of streams. A quiet one shows nothing. typeable, if it is
// not nil, makes the commands in a note ready to be typed.
func NewScreen(streams *Streams, quiet bool, typeable func(text string) string) *Screen {
	return &Screen{
		Quiet: quiet, tty: streams.ErrTerminal.TTY, out: streams.Err, streams: streams,
		status: ui.NewStatus(streams.Err, streams.ErrTerminal), Began: time.Now(), typeable: typeable,
	}
}

// Elapsed is how long ago the screen was made.
func (s *Screen) Elapsed() time.Duration { return time.Since(s.Began) }

// Waiting is for the spinner alone: in a log the phases tell enough.
func (s *Screen) Waiting(text string) {
	if s.tty && !s.silent() {
		s.streams.BeginLine()
		s.status.Wait(text)
	}
}

// Phase shows what a start has reached or waits for.
func (s *Screen) Phase(e job.Event) {
	if s.silent() {
		return
	}
	s.streams.BeginLine()
	switch {
	case e.Waiting:
		s.status.Wait(e.Detail)
	case e.Phase == job.Pulling:
		s.status.Wait("pulling " + e.Detail)
	case e.Phase == job.Running:
		s.status.Done(e.Phase.String(), e.Detail, 0)
	default:
		s.status.Done(e.Phase.String(), e.Detail, e.Time.Sub(s.Began))
		s.Waiting(e.Next())
	}
}

// Note shows a line about what happens.
func (s *Screen) Note(text string) {
	if !s.keeps(text) && !s.Quiet {
		s.status.Stop()
		s.streams.BeginLine()
		if s.typeable != nil {
			text = s.typeable(text)
		}
		s.status.Note(text)
	}
}

// Summary is how a run has ended and what it has cost, on one line. Where there is
// more to say of its end, the cost is on a line before it.
func (s *Screen) Summary(o *job.Outcome, samples []job.Sample) {
	if s.Quiet {
		return
	}
	text := o.Summary()
	if o.Message == "" {
		text = s.WithUsage(text, o, samples)
	} else {
		s.Usage(o, samples)
	}
	mark := ui.Bad
	if o.Succeeded() {
		mark = ui.Good
	}
	s.streams.BeginLine()
	s.status.Summary(mark, text)
}

// Usage is what a run has cost, on a line of its own.
func (s *Screen) Usage(o *job.Outcome, samples []job.Sample) {
	if text := s.WithUsage("", o, samples); text != "" {
		s.Note("used " + text)
	}
}

// WithUsage adds to text what a run has cost, if anything is known of that. Curves are
// for a terminal that has room for them.
func (s *Screen) WithUsage(text string, o *job.Outcome, samples []job.Sample) string {
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

// Done shows a step that took so long, with a mark.
func (s *Screen) Done(name, detail string, took time.Duration) {
	if !s.Quiet {
		s.status.Done(name, detail, took)
	}
}

// Marked shows a line behind a mark.
func (s *Screen) Marked(mark ui.Mark, text string) {
	if !s.Quiet {
		s.status.Summary(mark, text)
	}
}

// Stop ends what turns. It may be called more than once.
func (s *Screen) Stop() { s.status.Stop() }
