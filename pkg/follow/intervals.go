package follow

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
)

const (
	// FollowedEvery is the time between two samples of a job that somebody follows: short enough to draw a curve of a
	// run of seconds. A sample costs the agent some microseconds.
	FollowedEvery = time.Second
	// UnwatchedEvery is the time between two samples that nobody looks at now: they are for the store and the summary.
	UnwatchedEvery = 10 * time.Second
	// LeastEvery is the shortest time that agents accept.
	LeastEvery = 100 * time.Millisecond
)

// FaultNote says that an agent was turned away for what it sent, and what was wrong with that.
func FaultNote(f *coordinator.Fault) string { return "the agent was turned away: " + f.Error() }

// MaxJobs bounds the jobs whose agents a command meets at once. Each costs a connection and some megabytes of memory,
// and nobody can watch more.
const MaxJobs = 50
