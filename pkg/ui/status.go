package ui

import (
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/briandowns/spinner"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Widths of a phase's line. The label's column holds the longest phase of
// package job and three spaces; the detail's column the usual job, provider and
// namespace, so that the times stand under one another on 80 columns.
const (
	labelWidth  = 12
	detailWidth = 50
)

// spinInterval is the time a picture of the spinner stays: slower looks stuck,
// faster costs a remote terminal bytes that nobody sees.
const spinInterval = 100 * time.Millisecond

// Status shows the start of a run phase by phase, and its end. On a terminal a
// spinner says what is waited for and a line with a check mark what is done;
// elsewhere both are plain lines. It is safe for concurrent use. Call [Status.Stop]
// before anything else writes to the same terminal.
type Status struct {
	mu   sync.Mutex
	w    io.Writer
	term Terminal
	// waiting is the text last shown, so that a plain line is not repeated.
	waiting string
	// spin is the spinner that turns, nil when none does. Its lock guards spun, the
	// text beside it.
	spin *spinner.Spinner
	spun string
}

// NewStatus returns a Status that writes to w, which can do what t says.
func NewStatus(w io.Writer, t Terminal) *Status {
	return &Status{w: w, term: t}
}

// Wait shows what is waited for. Off a terminal it writes a line if text is new
// and not empty.
func (s *Status) Wait(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text = Printable(text)
	if !s.term.TTY {
		if text != "" && text != s.waiting {
			io.WriteString(s.w, text+"\n")
		}
		s.waiting = text
		return
	}
	s.turn(text)
}

// Done says that a phase is reached: its label, what there is to know of it, and
// how long after the start (0: not shown).
func (s *Status) Done(label, detail string, since time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	label, detail = Printable(label), Printable(detail)
	took := ""
	if since > 0 {
		took = job.Duration(since)
	}
	if !s.term.TTY {
		line := label
		if detail != "" {
			line += ": " + detail
		}
		if took != "" {
			line += " (" + took + ")"
		}
		io.WriteString(s.w, line+"\n")
		return
	}
	line := s.mark(Good) + " " + pad(label, labelWidth) + detail
	if took != "" {
		line = s.mark(Good) + " " + pad(label, labelWidth) + pad(detail, detailWidth) + s.dim(took)
	}
	io.WriteString(s.w, strings.TrimRight(line, " ")+"\n")
}

// Mark begins a line on a terminal and shows its kind: ok, warning, error. The text must say it
// too: off a terminal there is no mark.
type Mark int

// How a line is meant.
const (
	Good Mark = iota
	Bad
	Warned
	Unchecked // nothing is known to be good or bad
)

// Summary is the last line of a run: how it ended. It is a line of a list of checks, too.
func (s *Status) Summary(m Mark, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	text = Printable(text)
	if s.term.TTY {
		text = s.mark(m) + " " + text
	}
	io.WriteString(s.w, text+"\n")
}

// Note is a line about something that happened under way.
func (s *Status) Note(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
	io.WriteString(s.w, Printable(text)+"\n")
}

// Stop ends the spinner and erases its line: when it returns, nothing more is
// written until the next call of another method. It may be called at any time,
// and again.
func (s *Status) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop()
}

// turn makes the spinner say text.
func (s *Status) turn(text string) {
	f, ok := s.w.(*os.File)
	if !ok {
		return
	}
	if s.spin != nil {
		s.spin.Lock()
		s.spun = text
		s.spin.Unlock()
		return
	}
	s.spun = text
	// A spinner that was stopped is not started again: between its two goroutines
	// the second one may take the first one's signal to stop.
	//
	// WithWriterFile, because WithWriter asks stdout whether it is a terminal.
	s.spin = spinner.New(s.pictures(), spinInterval, spinner.WithWriterFile(f))
	// The spinner's library erases as many lines as it believes it wrote, and takes bytes for
	// columns. So it draws only its picture, which no terminal wraps, and hodei writes the text
	// after it.
	s.spin.PostUpdate = func(*spinner.Spinner) { io.WriteString(f, beside(s.spun, Width(f))) }
	// The colour is in the pictures: the spinner's own depends on stdout as well.
	s.spin.Color()
	s.spin.Start()
}

// stop holds s.mu. The spinner's goroutine writes under the lock that Stop
// takes, and only while it is active: once Stop is back it has written its last
// byte, and it ends within a spinInterval.
func (s *Status) stop() {
	if s.spin != nil {
		s.spin.Stop()
		s.spin = nil
	}
}

func (s *Status) pictures() []string {
	pictures := strings.Split("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "")
	if s.term.Color {
		style := lipgloss.NewStyle().Foreground(lipgloss.Cyan)
		for i := range pictures {
			pictures[i] = style.Render(pictures[i])
		}
	}
	return pictures
}

func (s *Status) mark(m Mark) string {
	text := [...]string{Good: "✓", Bad: "✗", Warned: "!", Unchecked: "-"}[m]
	if !s.term.Color {
		return text
	}
	style := [...]lipgloss.Style{
		Good:      lipgloss.NewStyle().Foreground(lipgloss.Green),
		Bad:       lipgloss.NewStyle().Foreground(lipgloss.Red),
		Warned:    lipgloss.NewStyle().Foreground(lipgloss.Yellow),
		Unchecked: lipgloss.NewStyle().Faint(true),
	}
	return style[m].Render(text)
}

func (s *Status) dim(text string) string {
	if !s.term.Color {
		return text
	}
	return lipgloss.NewStyle().Faint(true).Render(text)
}

// pad fills text up to width, and leaves two spaces at least.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(2, width-lipgloss.Width(text)))
}

// spinWidth is what a picture, the space behind it and the last column take of a line.
const spinWidth = 3

// beside is text as it stands beside the spinner on a line of width columns; 0: nobody
// knows. It is cut, and wrapping is off where the terminal counts more columns than we
// do: only a line that does not wrap can be erased.
func beside(text string, width int) string {
	if text == "" || width > 0 && width <= spinWidth {
		return ""
	}
	if width > 0 {
		text = Cut(text, width-spinWidth)
	}
	return noWrap + " " + text + wrap
}
