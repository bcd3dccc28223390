package contract

// EnvPrefix begins the name of every variable of hodei. A command sees none of those that were
// meant for hodei or the agent.
const EnvPrefix = "HODEI_"

// Variables that say who the agent is. All are required. The job's command gets EnvJob and
// EnvAttempt too.
const (
	EnvNamespace  = "HODEI_NAMESPACE"   // of the job; also in its certificate
	EnvJob        = "HODEI_JOB"         // the job's name; also in its certificate
	EnvAttempt    = "HODEI_ATTEMPT"     // the attempt's name: its Pod's
	EnvAttemptUID = "HODEI_ATTEMPT_UID" // distinguishes two attempts of one name
)

// Variables that say where the agent keeps the output, and what it does with it. EnvSocket,
// EnvSpoolDir and EnvSpoolBytes are required.
const (
	EnvSocket     = "HODEI_SOCKET"      // path of the unix socket on which the launcher is awaited
	EnvSpoolDir   = "HODEI_SPOOL_DIR"   // directory of the output
	EnvSpoolBytes = "HODEI_SPOOL_BYTES" // most bytes of it, a decimal number
	// EnvLogOverflow is OverflowBlock or OverflowDrop. If it is not set, the job waits for somebody
	// who follows it.
	EnvLogOverflow = "HODEI_LOG_OVERFLOW"
	// EnvDetached is True if nobody follows the job from its start.
	EnvDetached = "HODEI_DETACHED"
	// EnvStdin is True if the command reads its stdin from a coordinator. The launcher has FlagStdin
	// then, and the start of the command is held until a coordinator lets it go on.
	EnvStdin = "HODEI_STDIN"
	// EnvTTY is True if stdin, stdout and stderr of the command are a terminal. EnvStdin is True then, and
	// the launcher has FlagTTY in place of FlagStdin.
	EnvTTY = "HODEI_TTY"
	// EnvExec is True if coordinators whose certificate has JobExecURI may have commands run beside the job's.
	EnvExec = "HODEI_EXEC"
	// EnvExecSocket is the path of a unix socket on which such coordinators arrive, where EnvListen is not set.
	EnvExecSocket = "HODEI_EXEC_SOCKET"
	// EnvContainerLogs is True to copy the output to the log of the job's container.
	EnvContainerLogs = "HODEI_CONTAINER_LOGS"
	// EnvEndCopied is True if the agent need not wait for a coordinator when that log has all.
	EnvEndCopied = "HODEI_END_COPIED"
)

// Variables that say how the agent meets its coordinator. Exactly one of EnvListen and
// EnvServerAddress is set. EnvServerName is required with EnvListen, the paths always.
const (
	EnvListen         = "HODEI_LISTEN"           // loopback address, host:port, on which coordinators arrive
	EnvServerAddress  = "HODEI_SERVER_ADDRESS"   // address, host:port, of the coordinator to dial
	EnvServerName     = "HODEI_SERVER_NAME"      // DNS name that the coordinator's certificate must have
	EnvCACertPath     = "HODEI_CA_CERT_PATH"     // PEM file of the authorities that the agent accepts
	EnvClientCertPath = "HODEI_CLIENT_CERT_PATH" // PEM file of the job's certificate
	EnvClientKeyPath  = "HODEI_CLIENT_KEY_PATH"  // PEM file of its key
	// EnvMTLSEnabled can't be false or 0. Nobody sets it; it tells those who try.
	EnvMTLSEnabled = "HODEI_MTLS_ENABLED"
)

// Variables of time. All but EnvStartByFile are required, and durations such as 1m30s.
const (
	EnvStartTimeout = "HODEI_START_TIMEOUT" // how long the launcher is awaited
	EnvTimeout      = "HODEI_TIMEOUT"       // of the command, from its start; 0s: none
	EnvGrace        = "HODEI_GRACE"         // between SIGTERM and SIGKILL
	EnvLinger       = "HODEI_LINGER"        // how long an ended attempt waits to be stored
	// EnvStartByFile is the path of a file with a time in RFC 3339, after which the command must not
	// start. An empty file sets no such time.
	EnvStartByFile = "HODEI_START_BY_FILE"
)

// The other variables, all optional.
const (
	// EnvEvictionDir is a volume of EvictionBytes. The agent overfills it to have the Pod evicted
	// when the command must not start any more.
	EnvEvictionDir = "HODEI_EVICTION_DIR"
	// EnvRetries is how many attempts may follow a failed one; 0 is none.
	EnvRetries = "HODEI_RETRIES"
	// EnvEBPF is EBPFOff, which is meant if it is not set, EBPFAuto or EBPFRequire.
	EnvEBPF = "HODEI_EBPF"
	// EnvTerminationLog is the file for the container's message, if it is not Kubernetes' own.
	EnvTerminationLog = "HODEI_TERMINATION_LOG"
)

// True is the value of a variable that is true. A variable that is 0, empty or not set is false,
// and any other value an error.
const True = "1"

// Values of EnvLogOverflow: what happens when the spool is full of output that nobody has
// stored.
const (
	OverflowBlock = "block" // the job waits
	OverflowDrop  = "drop"  // the oldest output is dropped
)

// Values of EnvEBPF: whether eBPF assists the measuring.
const (
	EBPFOff     = "off"     // it is not tried
	EBPFAuto    = "auto"    // it does as far as it can be had
	EBPFRequire = "require" // where nothing of it can be had, the command is not started
)
