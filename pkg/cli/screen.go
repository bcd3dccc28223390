package cli

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// screen is what a person sees of a run, on stderr.
type screen struct {
	quiet, tty bool
	status     *ui.Status
	began      time.Time
}

func newScreen(a *app, quiet bool) *screen {
	t := ui.Detect(a.ErrOut, a.getenv)
	return &screen{quiet: quiet, tty: t.TTY, status: ui.NewStatus(a.ErrOut, t), began: time.Now()}
}

func (s *screen) elapsed() time.Duration { return time.Since(s.began) }

// waiting is for the spinner alone: in a log the phases tell enough.
func (s *screen) waiting(text string) {
	if s.tty && !s.quiet {
		s.status.Wait(text)
	}
}

func (s *screen) phase(e job.Event) {
	switch {
	case s.quiet:
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
		s.status.Note(text)
	}
}

func (s *screen) summary(o *job.Outcome) {
	if !s.quiet {
		s.status.Summary(o.Cause == job.Completed, o.Summary())
	}
}

func (s *screen) stop() { s.status.Stop() }
