package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent"
	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

const usage = `usage: hodei-worker agent                      configured by HODEI_* variables
       hodei-worker copy PATH                 copy this program to PATH
       hodei-worker launch [flags] -- CMD...  run CMD for the agent
       hodei-worker version
`

// version is set by the linker.
var version = "dev"

// logFile takes a copy of the agent's log where it can be written.
const logFile = "/var/log/hodei/worker.log"

// terminationLog is where Kubernetes takes a container's last message from.
const terminationLog = "/dev/termination-log"

// run is the whole program; it returns its exit status.
func run(args []string, getenv func(string) string, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return contract.ExitUsage
	}
	switch args[0] {
	case contract.CommandAgent:
		return runAgent(getenv, stderr)
	case contract.CommandCopy:
		if len(args) != 2 {
			fmt.Fprint(stderr, usage)
			return contract.ExitUsage
		}
		if err := agent.Copy(args[1]); err != nil {
			// The kubelet throws a hook's output away; the container's message it keeps.
			fmt.Fprintln(stderr, "hodei-worker copy:", err)
			_ = os.WriteFile(terminationLog, []byte("copy of the launcher: "+err.Error()), 0o644)
			return contract.ExitBroken
		}
		return contract.ExitOK
	case contract.CommandLaunch:
		return launch(args[1:], stderr)
	case contract.CommandVersion:
		fmt.Fprintln(os.Stdout, version)
		return contract.ExitOK
	}
	fmt.Fprint(stderr, usage)
	return contract.ExitUsage
}

// runAgent runs the agent. SIGTERM and SIGINT are word that the Pod is being deleted: the first one
// counts, and none ends the process.
func runAgent(getenv func(string) string, stderr io.Writer) int {
	log := slog.New(slog.NewTextHandler(logWriter(stderr), nil))
	cfg, err := config(getenv)
	if err != nil {
		log.Error("agent not configured", "error", err)
		_ = os.WriteFile(cfg.TerminationLog, []byte(err.Error()), 0o644)
		return contract.ExitBroken
	}
	cfg.Log = log
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	err = agent.Run(ctx, cfg)
	if err != nil {
		log.Error("agent ends", "error", err)
	}
	return exitStatus(err)
}

// exitStatus returns what the agent's container ends with.
func exitStatus(err error) int {
	switch {
	case err == nil:
		return contract.ExitOK
	case errors.Is(err, agent.ErrNeverStarted):
		return contract.ExitNeverStarted
	case errors.Is(err, agent.ErrNoEBPF):
		return contract.ExitNoEBPF
	case errors.Is(err, agent.ErrStartTimeout):
		return contract.ExitStartTimeout
	}
	return contract.ExitBroken
}

func launch(args []string, stderr io.Writer) int {
	var cfg agent.LaunchConfig
	flags := flag.NewFlagSet(contract.CommandLaunch, flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Socket, contract.FlagSocket, "", "path of the agent's socket")
	flags.DurationVar(&cfg.Grace, contract.FlagGrace, 30*time.Second, "time between SIGTERM and SIGKILL")
	flags.BoolVar(&cfg.MergeOutput, contract.FlagMergeOutput, false, "one pipe for stdout and stderr")
	flags.BoolVar(&cfg.Stdin, contract.FlagStdin, false, "a pipe for stdin, which the agent writes")
	flags.BoolVar(&cfg.TTY, contract.FlagTTY, false, "a terminal in place of pipes")
	flags.StringVar(&cfg.Workdir, contract.FlagWorkdir, "", "directory of the command")
	flags.StringVar(&cfg.Home, contract.FlagHome, "", "directory to make a home in where the command has none")
	flags.BoolVar(&cfg.KeepHome, contract.FlagKeepHome, false, "leave HOME as it is")
	if err := flags.Parse(args); err != nil {
		return contract.ExitUsage
	}
	cfg.Command = flags.Args()
	if cfg.Socket == "" || len(cfg.Command) == 0 {
		fmt.Fprint(stderr, usage)
		return contract.ExitUsage
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals) // all that can be caught, so that none ends us
	status, err := agent.Launch(context.Background(), cfg, signals)
	switch {
	case errors.Is(err, agent.ErrAgentGone): // its own end says more
		return contract.ExitAgentGone
	case err != nil:
		fmt.Fprintf(stderr, "%s%v\n", contract.LaunchPrefix, err)
		return contract.ExitAgentGone
	}
	return status
}

// config reads the agent's configuration from the environment. On an error it
// still says where the termination message goes.
func config(getenv func(string) string) (agent.Config, error) {
	cfg := agent.Config{
		Namespace: getenv(contract.EnvNamespace), Job: getenv(contract.EnvJob),
		Attempt: getenv(contract.EnvAttempt), AttemptUID: getenv(contract.EnvAttemptUID),
		Version: version,
		Socket:  getenv(contract.EnvSocket), SpoolDir: getenv(contract.EnvSpoolDir),
		Listen: getenv(contract.EnvListen), Server: getenv(contract.EnvServerAddress), ExecSocket: getenv(contract.EnvExecSocket),
		Retries:        getenv(contract.EnvRetries) != "" && getenv(contract.EnvRetries) != "0",
		EvictionDir:    getenv(contract.EnvEvictionDir),
		InPod:          getenv("KUBERNETES_SERVICE_HOST") != "", // the kubelet's, for every container
		TerminationLog: cmp.Or(getenv(contract.EnvTerminationLog), terminationLog),
	}
	if err := checkSet(getenv); err != nil {
		return cfg, err
	}
	for _, read := range []func(*agent.Config, func(string) string) error{readTimes, readSpool, readWords, readTLS} {
		if err := read(&cfg, getenv); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// checkSet checks that the variables that every agent needs are there, and that none contradicts
// another.
func checkSet(getenv func(string) string) error {
	for _, name := range []string{
		contract.EnvNamespace, contract.EnvJob, contract.EnvAttempt, contract.EnvAttemptUID, contract.EnvSocket, contract.EnvSpoolDir,
		contract.EnvCACertPath, contract.EnvClientCertPath, contract.EnvClientKeyPath,
	} {
		if getenv(name) == "" {
			return fmt.Errorf("%s is not set", name)
		}
	}
	if v := getenv(contract.EnvMTLSEnabled); v == "0" || strings.EqualFold(v, "false") {
		return fmt.Errorf("%s=%s: mutual TLS can't be switched off", contract.EnvMTLSEnabled, v)
	}
	if (getenv(contract.EnvListen) == "") == (getenv(contract.EnvServerAddress) == "") {
		return fmt.Errorf("exactly one of %s and %s must be set", contract.EnvListen, contract.EnvServerAddress)
	}
	return nil
}

func readTimes(cfg *agent.Config, getenv func(string) string) error {
	for _, d := range []struct {
		name string
		to   *time.Duration
	}{
		{contract.EnvStartTimeout, &cfg.StartTimeout}, {contract.EnvTimeout, &cfg.Timeout},
		{contract.EnvGrace, &cfg.Grace}, {contract.EnvLinger, &cfg.Linger},
	} {
		var err error
		if *d.to, err = time.ParseDuration(getenv(d.name)); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if *d.to < 0 {
			return fmt.Errorf("%s: %s is negative", d.name, *d.to)
		}
	}
	var err error
	if cfg.StartBy, err = readInstant(getenv(contract.EnvStartByFile)); err != nil {
		return fmt.Errorf("%s: %w", contract.EnvStartByFile, err)
	}
	return nil
}

func readSpool(cfg *agent.Config, getenv func(string) string) error {
	var err error
	if cfg.SpoolBytes, err = strconv.ParseInt(getenv(contract.EnvSpoolBytes), 10, 64); err != nil {
		return fmt.Errorf("%s: %w", contract.EnvSpoolBytes, err)
	}
	switch cfg.Overflow = agent.Overflow(getenv(contract.EnvLogOverflow)); cfg.Overflow {
	case agent.OverflowAuto, agent.OverflowBlock, agent.OverflowDrop:
		return nil
	}
	return fmt.Errorf("%s: %q: want %s or %s", contract.EnvLogOverflow, cfg.Overflow, agent.OverflowBlock, agent.OverflowDrop)
}

// readWords reads the variables that have one of a few values.
func readWords(cfg *agent.Config, getenv func(string) string) error {
	switch v := getenv(contract.EnvEBPF); v {
	case "", contract.EBPFOff:
	case contract.EBPFAuto, contract.EBPFRequire:
		cfg.EBPF = agent.EBPF(v)
	default:
		return fmt.Errorf("%s: %q: want %s, %s or %s", contract.EnvEBPF, v, contract.EBPFOff, contract.EBPFAuto, contract.EBPFRequire)
	}
	for _, b := range []struct {
		name string
		to   *bool
	}{
		{contract.EnvDetached, &cfg.Detached}, {contract.EnvContainerLogs, &cfg.ContainerLogs},
		{contract.EnvEndCopied, &cfg.EndCopied}, {contract.EnvStdin, &cfg.Stdin}, {contract.EnvTTY, &cfg.TTY},
		{contract.EnvExec, &cfg.Exec},
	} {
		switch v := getenv(b.name); v {
		case "", "0":
		case contract.True:
			*b.to = true
		default:
			return fmt.Errorf("%s: %q: want 0 or %s", b.name, v, contract.True)
		}
	}
	return nil
}

func readTLS(cfg *agent.Config, getenv func(string) string) error {
	var err error
	serverName := getenv(contract.EnvServerName)
	if serverName == "" && cfg.Server != "" {
		if serverName, _, err = net.SplitHostPort(cfg.Server); err != nil {
			return fmt.Errorf("%s: %w", contract.EnvServerAddress, err)
		}
	}
	if serverName == "" {
		return fmt.Errorf("%s is not set", contract.EnvServerName)
	}
	files := certs.Files{
		CA:   getenv(contract.EnvCACertPath),
		Cert: getenv(contract.EnvClientCertPath),
		Key:  getenv(contract.EnvClientKeyPath),
	}
	cfg.TLS, err = files.ClientConfig(serverName)
	return err
}

// readInstant reads a time in RFC 3339 from a file. No file, and an empty one, is the zero
// time.
func readInstant(path string) (time.Time, error) {
	if path == "" {
		return time.Time{}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return time.Time{}, err
	}
	return time.Parse(time.RFC3339, string(text))
}

// logWriter writes to w, and to logFile where that is possible.
func logWriter(w io.Writer) io.Writer {
	f, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return w
	}
	return io.MultiWriter(w, f)
}
