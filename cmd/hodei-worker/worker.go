package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/agent"
	"github.com/hodei-jobs/hodei/certs"
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
		return 2
	}
	switch args[0] {
	case "agent":
		log := slog.New(slog.NewTextHandler(logWriter(stderr), nil))
		cfg, err := config(getenv)
		if err != nil {
			log.Error("agent not configured", "error", err)
			_ = os.WriteFile(cfg.TerminationLog, []byte(err.Error()), 0o644)
			return 1
		}
		cfg.Log = log
		return cfg.Run()
	case "copy":
		if len(args) != 2 {
			fmt.Fprint(stderr, usage)
			return 2
		}
		if err := agent.Copy(args[1]); err != nil {
			// The kubelet throws a hook's output away; the container's message it keeps.
			fmt.Fprintln(stderr, "hodei-worker copy:", err)
			_ = os.WriteFile(terminationLog, []byte("copy of the launcher: "+err.Error()), 0o644)
			return 1
		}
		return 0
	case "launch":
		return launch(args[1:], stderr)
	case "version":
		fmt.Fprintln(os.Stdout, version)
		return 0
	}
	fmt.Fprint(stderr, usage)
	return 2
}

func launch(args []string, stderr io.Writer) int {
	var cfg agent.LaunchConfig
	flags := flag.NewFlagSet("launch", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&cfg.Socket, "socket", "", "path of the agent's socket")
	flags.DurationVar(&cfg.Grace, "grace", 30*time.Second, "time between SIGTERM and SIGKILL")
	flags.BoolVar(&cfg.MergeOutput, "merge-output", false, "one pipe for stdout and stderr")
	flags.StringVar(&cfg.Workdir, "workdir", "", "directory of the command")
	flags.StringVar(&cfg.Home, "home", "", "directory to make a home in where the command has none")
	flags.BoolVar(&cfg.KeepHome, "keep-home", false, "leave HOME as it is")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	cfg.Command = flags.Args()
	if cfg.Socket == "" || len(cfg.Command) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	return agent.Launch(cfg)
}

// config reads the agent's configuration from the environment. On an error it
// still says where the termination message goes.
func config(getenv func(string) string) (agent.Config, error) {
	cfg := agent.Config{
		Namespace: getenv("HODEI_NAMESPACE"), Job: getenv("HODEI_JOB"),
		Attempt: getenv("HODEI_ATTEMPT"), AttemptUID: getenv("HODEI_ATTEMPT_UID"),
		Version: version,
		Socket:  getenv("HODEI_SOCKET"), SpoolDir: getenv("HODEI_SPOOL_DIR"),
		Listen: getenv("HODEI_LISTEN"), Server: getenv("HODEI_SERVER_ADDRESS"),
		Retries:        getenv("HODEI_RETRIES") != "" && getenv("HODEI_RETRIES") != "0",
		EvictionDir:    getenv("HODEI_EVICTION_DIR"),
		InPod:          getenv("KUBERNETES_SERVICE_HOST") != "", // the kubelet's, for every container
		TerminationLog: terminationLog,
	}
	if path := getenv("HODEI_TERMINATION_LOG"); path != "" {
		cfg.TerminationLog = path
	}
	for _, required := range []struct{ name, value string }{
		{"HODEI_NAMESPACE", cfg.Namespace}, {"HODEI_JOB", cfg.Job}, {"HODEI_ATTEMPT", cfg.Attempt},
		{"HODEI_ATTEMPT_UID", cfg.AttemptUID}, {"HODEI_SOCKET", cfg.Socket}, {"HODEI_SPOOL_DIR", cfg.SpoolDir},
		{"HODEI_CA_CERT_PATH", getenv("HODEI_CA_CERT_PATH")},
		{"HODEI_CLIENT_CERT_PATH", getenv("HODEI_CLIENT_CERT_PATH")},
		{"HODEI_CLIENT_KEY_PATH", getenv("HODEI_CLIENT_KEY_PATH")},
	} {
		if required.value == "" {
			return cfg, fmt.Errorf("%s is not set", required.name)
		}
	}
	if v := getenv("HODEI_MTLS_ENABLED"); v == "0" || strings.EqualFold(v, "false") {
		return cfg, fmt.Errorf("HODEI_MTLS_ENABLED=%s: mutual TLS can't be switched off", v)
	}
	if (cfg.Listen == "") == (cfg.Server == "") {
		return cfg, fmt.Errorf("exactly one of HODEI_LISTEN and HODEI_SERVER_ADDRESS must be set")
	}
	for _, d := range []struct {
		name string
		to   *time.Duration
	}{
		{"HODEI_START_TIMEOUT", &cfg.StartTimeout}, {"HODEI_TIMEOUT", &cfg.Timeout},
		{"HODEI_GRACE", &cfg.Grace}, {"HODEI_LINGER", &cfg.Linger},
	} {
		var err error
		if *d.to, err = time.ParseDuration(getenv(d.name)); err != nil {
			return cfg, fmt.Errorf("%s: %w", d.name, err)
		}
		if *d.to < 0 {
			return cfg, fmt.Errorf("%s: %s is negative", d.name, *d.to)
		}
	}
	var err error
	if cfg.StartBy, err = readInstant(getenv("HODEI_START_BY_FILE")); err != nil {
		return cfg, fmt.Errorf("HODEI_START_BY_FILE: %w", err)
	}
	if cfg.SpoolBytes, err = strconv.ParseInt(getenv("HODEI_SPOOL_BYTES"), 10, 64); err != nil {
		return cfg, fmt.Errorf("HODEI_SPOOL_BYTES: %w", err)
	}
	switch cfg.Overflow = agent.Overflow(getenv("HODEI_LOG_OVERFLOW")); cfg.Overflow {
	case agent.OverflowAuto, agent.OverflowBlock, agent.OverflowDrop:
	default:
		return cfg, fmt.Errorf("HODEI_LOG_OVERFLOW: %q: want %s or %s", cfg.Overflow, agent.OverflowBlock, agent.OverflowDrop)
	}
	switch v := getenv("HODEI_EBPF"); v {
	case "", "off":
	case string(agent.EBPFAuto), string(agent.EBPFRequire):
		cfg.EBPF = agent.EBPF(v)
	default:
		return cfg, fmt.Errorf("HODEI_EBPF: %q: want off, %s or %s", v, agent.EBPFAuto, agent.EBPFRequire)
	}
	for _, b := range []struct {
		name string
		to   *bool
	}{{"HODEI_DETACHED", &cfg.Detached}, {"HODEI_CONTAINER_LOGS", &cfg.ContainerLogs}, {"HODEI_END_COPIED", &cfg.EndCopied}} {
		switch v := getenv(b.name); v {
		case "", "0":
		case "1":
			*b.to = true
		default:
			return cfg, fmt.Errorf("%s: %q: want 0 or 1", b.name, v)
		}
	}
	serverName := getenv("HODEI_SERVER_NAME")
	if serverName == "" && cfg.Server != "" {
		if serverName, _, err = net.SplitHostPort(cfg.Server); err != nil {
			return cfg, fmt.Errorf("HODEI_SERVER_ADDRESS: %w", err)
		}
	}
	if serverName == "" {
		return cfg, fmt.Errorf("HODEI_SERVER_NAME is not set")
	}
	files := certs.Files{
		CA:   getenv("HODEI_CA_CERT_PATH"),
		Cert: getenv("HODEI_CLIENT_CERT_PATH"),
		Key:  getenv("HODEI_CLIENT_KEY_PATH"),
	}
	cfg.TLS, err = files.ClientConfig(serverName)
	return cfg, err
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
