package cli

import (
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// following is what a session, and the end of a job, depend on: plain values, and the narrow things that they need
// of a command.
type following struct {
	spec  *job.Spec
	place place.Place
	// follow: its output is shown. fallback: there is no tunnel to the agent, and the container's log is followed in
	// its place, if output is wanted.
	follow, fallback bool

	screen        *output.Screen
	events        *output.Events // nil: the output goes to stdout and stderr as it is
	usageInterval time.Duration  // between two events of it; 0: none
	exporter      *exporter.Exporter
	samples       []job.Sample // of the attempt that the summary is of

	// again returns the command line that ran the job, up to the --; empty: another process has run it.
	again func() string
	// streams are those that output is shown on.
	streams func() *output.Streams
	// named makes a hint one that can be typed.
	named func(hint string) string
	// hear begins to hear signals, until stop is called.
	hear func(of ...os.Signal) (heard <-chan os.Signal, stop func())
	// afterwards has f done once everything is said; see app.afterwards.
	afterwards func(f func())
}
