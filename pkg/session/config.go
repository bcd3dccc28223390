package session

import (
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// Config is what a session, and the end of a job, depend on: plain values, and the narrow things that they need
// of a command.
type Config struct {
	Spec  *job.Spec
	Place place.Place
	// follow: its output is shown. fallback: there is no tunnel to the agent, and the container's log is followed in
	// its place, if output is wanted.
	Follow, Fallback bool

	Screen        *output.Screen
	Events        *output.Events // nil: the output goes to stdout and stderr as it is
	UsageInterval time.Duration  // between two events of it; 0: none
	exporter      *exporter.Exporter
	Samples       []job.Sample // of the attempt that the summary is of

	// Again returns the command line that ran the job, up to the --; empty: another process has run it.
	Again func() string
	// Streams are those that output is shown on.
	Streams func() *output.Streams
	// Named makes a hint one that can be typed.
	Named func(hint string) string
	// Hear begins to hear signals, until stop is called.
	Hear func(of ...os.Signal) (heard <-chan os.Signal, stop func())
	// Afterwards has f done once everything is said; see app.afterwards.
	Afterwards func(f func())
}
