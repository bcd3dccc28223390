package session

import (
	"context"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// Config is what following one job depends on. It is complete before [Run], which changes nothing in it.
type Config struct {
	// Teller tells how the job goes and how it has ended.
	Teller
	// Job is the job that is followed. Run closes it.
	Job place.Job
	// Attached tells that the job was there before this process: it is not ours to stop or to remove.
	Attached bool

	// Follow tells that the job's output is wanted. Without it only the job's end is waited for.
	Follow bool
	// Fallback tells that there is no tunnel to the agents: output that is wanted comes from the container's log,
	// which only a place.Cluster has.
	Fallback bool
	// Sink is where output is shown.
	Sink output.Sink
	// Store keeps the output and the record of the run; nil: nothing is kept. Whoever has opened it closes it.
	Store *place.Store
	// UsageInterval is the time between two samples of the job's usage, each of which is told as an event. Zero: no
	// sample is an event, and Run chooses the interval.
	UsageInterval time.Duration
	// Exporter shows the samples to Prometheus; nil: nobody does. See ServeMetrics.
	Exporter *exporter.Exporter

	// Signals are those that Run acts on; nil: none come.
	Signals <-chan os.Signal
	// StopSignals has the next signal end the process, whatever hangs; nil: that is not needed.
	StopSignals func()
	// Afterwards has f done once all is said, and a signal before that not end the process. The removal of a job that
	// has not started, which may take a while, is done so.
	Afterwards func(f func())

	// Phases are what is known of attempts that there were before, by the attempts' names.
	Phases map[string][]job.Event
	// Earlier are attempts that were over before, oldest first: they are shown first.
	Earlier []Earlier
	// ShowUnmet shows an attempt that was there before, and ended before its agent was met, and returns what is
	// missing of its output; empty: nothing. nil: there is no such attempt, or it is shown otherwise.
	ShowUnmet func(ctx context.Context, attempt string) (missing string, err error)
}

// Earlier is an attempt that was over before its job was followed.
type Earlier struct {
	// Attempt is its name.
	Attempt string
	// Show shows its output, and says what is missing. An error is one of showing, and ends the session.
	Show func(context.Context) error
}
