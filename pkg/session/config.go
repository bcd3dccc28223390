package session

import (
	"context"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// Config says which job is followed, and how. Teller, Job and Sink are needed; everything else may be zero.
type Config struct {
	// Teller tells how the job goes and how it has ended.
	Teller
	// Job is the job that is followed. Run closes it.
	Job place.Job
	// Attached tells that another process made the job: Ctrl-C leaves it running, and a failure does not remove it.
	Attached bool

	// Follow tells that the job's output is wanted. Without it only the job's end is waited for.
	Follow bool
	// Fallback tells that there is no tunnel to the agents. The output comes from the container's log then, so with
	// Follow the Place is a place.Cluster.
	Fallback bool
	// Sink is where output is shown.
	Sink output.Sink
	// Input is the stdin of the job's command; nil: it is not sent from here. Whoever made it closes it.
	Input *coordinator.Input
	// Terminal is where the command's own terminal is shown; nil: nowhere. Input is what is typed there, and Sink
	// writes there. Whoever opened it closes it. With Attached, output from before Run is not shown: a program's
	// questions to its terminal would be answered a second time.
	Terminal *terminal.Terminal
	// Store keeps the output and the record of the run; nil: nothing is kept. Whoever has opened it closes it.
	Store *place.Store
	// UsageInterval is the time between two samples of the job's usage, which are written as events. Zero: no sample
	// is written, and Run chooses the interval.
	UsageInterval time.Duration
	// Exporter shows the samples to Prometheus, see ServeMetrics; nil: they are not shown.
	Exporter *exporter.Exporter

	// Signals are those that Run acts on; nil: none.
	Signals <-chan os.Signal
	// StopSignals stops Signals, so that the next signal ends the process. Run calls it, perhaps more than once, when
	// nothing is left that a signal could interrupt. nil: nothing has to be stopped.
	StopSignals func()
	// Afterwards runs f after the end is shown, and keeps signals from ending the process until then. Run removes a
	// job that has not started by it, which may take a while. nil: the job is removed before the end is shown.
	Afterwards func(f func())

	// Phases are the known phases of attempts that began before Run, by the attempts' names.
	Phases map[string][]job.Event
	// Earlier are attempts that ended before Run, oldest first. They are shown first.
	Earlier []Earlier
	// ShowUnmet shows the job's last attempt if that ends before its agent is met. It returns what is missing of the
	// attempt's output; empty: nothing. nil: such an attempt is not shown.
	ShowUnmet func(ctx context.Context, attempt string) (missing string, err error)
}

// Earlier is an attempt that ended before its job was followed.
type Earlier struct {
	// Attempt is its name.
	Attempt string
	// Show shows its output, and says what is missing of it. Its error is that the output can't be shown, which ends
	// the session.
	Show func(context.Context) error
}
