package top

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// objects writes a row as objects: its samples that were not written yet; if it has none, why, once for each reason;
// and its end.
func (t *running) objects(r *row) error {
	about := event{Namespace: r.namespace, Job: r.name, Attempt: r.attempt}
	for i := len(r.samples) - r.untold; i < len(r.samples); i++ {
		s := r.samples[i]
		usage := output.PrintableUsage(s.Usage)
		e := about
		e.Event, e.Usage = output.Event{Type: "usage", Time: s.Time}, &usage
		if i > 0 {
			rate := job.RateBetween(r.samples[i-1], s)
			e.Rate = &rate
		}
		if err := t.events.Write(e); err != nil {
			return err
		}
	}
	if r.outcome != nil { // its row has gone from the board
		delete(t.said, r.jobKey)
		return t.ended(about, r)
	}
	waiting := r.waiting
	if len(r.samples) > 0 {
		waiting = ""
	}
	said := t.said[r.jobKey]
	if t.said[r.jobKey] = waiting; waiting == "" || waiting == said {
		return nil
	}
	e := about
	e.Event, e.Waiting = output.Event{Type: "waiting", Time: time.Now()}, ui.Printable(waiting)
	return t.events.Write(e)
}

// ended writes how a job ended.
func (t *running) ended(about event, r *row) error {
	about.Event, about.Outcome = output.Event{Type: "exit", Time: r.ended}, output.PrintableOutcome(r.outcome)
	return t.events.Write(about)
}

// event is an object of -o json: a sample, why there is none, or an end.
type event struct {
	output.Event
	Namespace string       `json:"namespace"`
	Job       string       `json:"job"`
	Attempt   string       `json:"attempt,omitempty"`
	Usage     *job.Usage   `json:"usage,omitempty"`
	Rate      *job.Rate    `json:"rate,omitempty"` // since the sample before
	Waiting   string       `json:"waiting,omitempty"`
	Outcome   *job.Outcome `json:"outcome,omitempty"`
}
