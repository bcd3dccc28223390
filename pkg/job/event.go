package job

import (
	"fmt"
	"time"
)

// Phase is a step on the way from a command line to a running command. The
// order of the constants is the usual order in time; the cluster may tell of an
// image only after its agent has attached.
type Phase int

// The phases.
const (
	Submitted Phase = iota // the API server has the job
	Scheduled              // a node is chosen
	Pulling                // an image is being pulled; passed over when it is there
	Pulled                 // the job's image is on the node
	AgentUp                // the agent has attached to the coordinator
	Running                // the command runs

	phaseCount int = iota
)

// phases are the names by which events, reports and the command line know the phases.
var phases = [phaseCount]string{
	Submitted: "submitted", Scheduled: "scheduled", Pulling: "pulling", Pulled: "image", AgentUp: "agent up", Running: "running",
}

// String returns the phase's name as it is shown; of a number that is no phase the number.
func (p Phase) String() string {
	if p < 0 || int(p) >= phaseCount {
		return fmt.Sprintf("phase %d", int(p))
	}
	return phases[p]
}

// next is what a job waits for once it has reached a phase.
var next = map[Phase]string{
	Submitted: "waiting for a node",
	Scheduled: "waiting for the images",
	Pulled:    "waiting for the agent",
	AgentUp:   "waiting for the command",
}

// Next says what a job in this phase waits for; empty: for nothing that has a name.
func (p Phase) Next() string { return next[p] }

// MarshalText returns the phase's name. It never fails.
func (p Phase) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText takes a phase's name, and refuses any other text.
func (p *Phase) UnmarshalText(text []byte) error {
	for i, name := range phases {
		if name == string(text) {
			*p = Phase(i)
			return nil
		}
	}
	return fmt.Errorf("no phase is called %q", text)
}

// Event is one thing that happened to a job, for showing.
type Event struct {
	Phase  Phase     `json:"phase"`
	Time   time.Time `json:"time"`
	Detail string    `json:"detail,omitempty"`
	// Waiting marks that Phase has not been reached, and Detail is why.
	Waiting bool `json:"waiting,omitempty"`
	// Here marks the submission of a job to this machine, where it waits for no node and no image.
	Here bool `json:"-"`
}

// Next says what a job waits for once e has happened; empty: for nothing that has a name.
func (e Event) Next() string {
	if e.Here && e.Phase == Submitted {
		return Pulled.Next()
	}
	return e.Phase.Next()
}

// Observer is told what becomes of a job while a provider watches it. Its functions are called one
// after the other, by the goroutine that watches.
type Observer struct {
	// Report takes the phases of the start, and what is waited for meanwhile. It is required.
	Report func(Event)
	// JobEnded, if not nil, is called when the job's container of an attempt has ended while its agent
	// runs, with how: an agent that waits for a launcher can't know.
	JobEnded func(attempt, how string)
	// NeverStarted, if not nil, is called when an attempt has ended whose command never started: it has
	// no output.
	NeverStarted func(attempt string)
}
