package job

import "time"

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
)

var phases = [...]string{"submitted", "scheduled", "pulling", "image", "agent up", "running"}

// String is the phase's name as it is shown.
func (p Phase) String() string { return phases[p] }

// Event is one thing that happened to a job, for showing.
type Event struct {
	Phase  Phase
	Time   time.Time
	Detail string
	// Waiting marks that Phase has not been reached, and Detail is why.
	Waiting bool
}
