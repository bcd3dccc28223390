package follow

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
)

const (
	// FollowedEvery is between two samples of a job that is followed: short enough
	// for a curve of a run of seconds. An agent's sample costs some microseconds.
	FollowedEvery = time.Second
	// UnwatchedEvery is between those of a job that nobody looks at: its store or its
	// summary is to have them later.
	UnwatchedEvery = 10 * time.Second
	// LeastEvery is the agents' own bound.
	LeastEvery = 100 * time.Millisecond
)

// FaultNote says what is wrong with an agent that was not let in for what it sent.
func FaultNote(f *coordinator.Fault) string { return "the agent was turned away: " + f.Error() }

// MaxJobs bounds the jobs whose agents a command meets at once: each costs a connection, some
// megabytes of memory and a part of a person's attention.
const MaxJobs = 50
