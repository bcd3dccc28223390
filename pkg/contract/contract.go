// Package contract holds what the program hodei-worker and those who start it agree on: the
// names of its commands, flags and variables, their values, its exit statuses, and the words
// that it leaves behind. There are three authors: the manifest of pkg/provider/kubernetes,
// pkg/provider/local, and cmd/hodei-worker with the package agent. Start with the variables,
// [EnvJob] and those beside it.
//
// The two sides may be of different versions: a job that runs keeps the worker that it was
// started with. So a name or a number here changes its meaning never, and is only added to.
//
// The package has constants and no logic, and imports nothing that isn't the standard
// library's. What an agent and a coordinator say to each other is in pkg/hodeipb.
package contract

// The commands of hodei-worker, its first argument.
const (
	// CommandAgent runs the agent. It has no flags: the variables configure it.
	CommandAgent = "agent"
	// CommandCopy copies the program to the path that is its argument.
	CommandCopy = "copy"
	// CommandLaunch runs the job's command, which stands behind "--", as the Flag constants say.
	CommandLaunch = "launch"
	// CommandVersion prints the version of the program.
	CommandVersion = "version"
)

// The flags of CommandLaunch, without their dashes. Durations are Go's, such as 1m30s.
const (
	FlagSocket      = "socket"       // path of the agent's unix socket; required
	FlagGrace       = "grace"        // duration between SIGTERM and SIGKILL
	FlagMergeOutput = "merge-output" // one pipe for stdout and stderr
	FlagStdin       = "stdin"        // a pipe for stdin, which the agent writes
	FlagTTY         = "tty"          // a terminal in place of pipes
	FlagWorkdir     = "workdir"      // directory of the command
	FlagHome        = "home"         // directory to make a home in where the command has none
	FlagKeepHome    = "keep-home"    // leave HOME as it is
)

// Exit statuses of CommandAgent. The podFailurePolicy of a Job tells them apart, so they stand
// in the Jobs of running clusters.
const (
	// ExitOK means that the job ended, however it ended. The exit record says how.
	ExitOK = 0
	// ExitBroken means that the agent could not do its work. The command may have run.
	ExitBroken = 1
	// ExitNeverStarted means that the command never started, and may be started by another
	// attempt.
	ExitNeverStarted = 90
	// ExitNoEBPF means that eBPF is required and can't be had here. The command was not started,
	// and another attempt would end the same way.
	ExitNoEBPF = 91
	// ExitStartTimeout means that the command never started, and must not be started any more:
	// somebody may have been told that it never will.
	ExitStartTimeout = 92
)

// Exit statuses of CommandLaunch besides the command's own, which is 128+n where signal n killed
// it. ExitTimeout and ExitCancelled replace the command's where the job was told to stop.
// The command line ends with the same numbers.
const (
	ExitTimeout   = 124 // the job ran longer than its timeout, as timeout(1)
	ExitAgentGone = 125 // there was no agent, or it died while the command ran, or the rest of the input can't come
	ExitCannotRun = 126 // the command can't be executed, as sh(1)
	ExitNotFound  = 127 // the command was not found, as sh(1)
	ExitCancelled = 130 // somebody asked the job to stop, as sh(1) after Ctrl-C
)

// ExitUsage is the exit status of hodei-worker for arguments that it does not know.
const ExitUsage = 2

// LaunchPrefix begins each line that the launcher itself writes to stderr, which is the log of
// the job's container. If such a line is the first one, the command never started.
const LaunchPrefix = "hodei-worker launch: "

// Causes that an agent may give in an exit record. Exit records with these words lie in log
// stores. There is none where the launcher was killed: only the container's status tells why.
const (
	CauseCompleted        = "Completed"        // the command exited 0
	CauseError            = "Error"            // the command exited with another status
	CauseSignaled         = "Signaled"         // a signal killed the command
	CauseOOMKilled        = "OOMKilled"        // the kernel killed a process of the job for its memory
	CauseDeadlineExceeded = "DeadlineExceeded" // the job ran longer than its timeout
	CauseCancelled        = "Cancelled"        // somebody asked the job to stop
	CauseInputLost        = "InputLost"        // the rest of the job's input will not come
)

// EvictionBytes is the size limit of the volume at EnvEvictionDir. An agent writes several times
// as much to it, to have the kubelet evict the Pod.
const EvictionBytes = 1 << 20

// MessageBytes is all that the kubelet reads of a container's message.
const MessageBytes = 4096

// JobURI returns the SPIFFE URI that the certificates of a job carry as their only URI name,
// spiffe://hodei/ns/<namespace>/job/<job>. Both names are RFC 1123 labels, which JobURI does not
// check.
func JobURI(namespace, job string) string {
	return JobURIPrefix + namespace + JobURIMiddle + job
}

// JobExecURI returns the SPIFFE URI of a certificate with which commands may be run beside a job's: that of
// the job with ExecPath behind it. It is the only URI name of that certificate.
func JobExecURI(namespace, job string) string {
	return JobURI(namespace, job) + ExecPath
}

// ExecPath is the end of a JobExecURI.
const ExecPath = "/exec"

// The parts of a job's URI around the namespace. A label has no slash, so JobURIMiddle is never
// part of a name.
const (
	JobURIPrefix = "spiffe://hodei/ns/"
	JobURIMiddle = "/job/"
)
