package cli

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// objects writes the samples of a row that were not written yet; of one that has none,
// once, why; and its end.
func (t *tops) objects(r *topRow) error {
	about := topEvent{Namespace: r.namespace, Job: r.name, Attempt: r.attempt}
	for i := len(r.samples) - r.untold; i < len(r.samples); i++ {
		s := r.samples[i]
		usage := printableUsage(s.Usage)
		e := about
		e.event, e.Usage = event{"usage", s.Time}, &usage
		if i > 0 {
			rate := job.RateBetween(r.samples[i-1], s)
			e.Rate = &rate
		}
		if err := t.events.write(e); err != nil {
			return err
		}
	}
	said := t.said[r.jobKey]
	now := topSaid{waiting: r.waiting, ended: r.outcome != nil}
	if len(r.samples) > 0 {
		now.waiting = ""
	}
	t.said[r.jobKey] = now
	if now.waiting != "" && now.waiting != said.waiting && !now.ended {
		e := about
		e.event, e.Waiting = event{"waiting", time.Now()}, ui.Printable(now.waiting)
		if err := t.events.write(e); err != nil {
			return err
		}
	}
	if now.ended && !said.ended {
		e := about
		outcome := *r.outcome
		outcome.Message = ui.Printable(outcome.Message)
		if outcome.Usage != nil {
			usage := printableUsage(*outcome.Usage)
			outcome.Usage = &usage
		}
		e.event, e.Outcome = event{"exit", r.ended}, &outcome
		return t.events.write(e)
	}
	return nil
}

// topEvent is an object of -o json: a sample, why there is none, or an end.
type topEvent struct {
	event
	Namespace string       `json:"namespace"`
	Job       string       `json:"job"`
	Attempt   string       `json:"attempt,omitempty"`
	Usage     *job.Usage   `json:"usage,omitempty"`
	Rate      *job.Rate    `json:"rate,omitempty"` // since the sample before
	Waiting   string       `json:"waiting,omitempty"`
	Outcome   *job.Outcome `json:"outcome,omitempty"`
}

// topSaid is what was written of a job besides samples.
type topSaid struct {
	waiting string
	ended   bool
}
