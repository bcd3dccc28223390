package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/agent"
	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

// environment is one that config takes, of an agent in a Pod.
func environment(t testing.TB) map[string]string {
	t.Helper()
	dir := t.TempDir()
	authority, err := certs.NewAuthority(0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := authority.IssueJob(certs.ID{Namespace: "jobs", Job: "make-k3x9z"})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]string{
		contract.EnvNamespace: "jobs", contract.EnvJob: "make-k3x9z",
		contract.EnvAttempt: "pod-1", contract.EnvAttemptUID: "uid-1",
		contract.EnvSocket: "/run/s", contract.EnvSpoolDir: "/spool", contract.EnvSpoolBytes: "1048576",
		contract.EnvListen: "127.0.0.1:7778", contract.EnvServerName: "make-k3x9z.jobs.hodei",
		contract.EnvCACertPath:     filepath.Join(dir, "ca.crt"),
		contract.EnvClientCertPath: filepath.Join(dir, "client.crt"),
		contract.EnvClientKeyPath:  filepath.Join(dir, "client.key"),
		contract.EnvStartTimeout:   "10m0s", contract.EnvTimeout: "0s", contract.EnvGrace: "30s", contract.EnvLinger: "1m",
	}
}

func TestConfig(t *testing.T) {
	env := environment(t)
	got, err := config(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if got.TLS == nil || got.TLS.ServerName != "make-k3x9z.jobs.hodei" {
		t.Errorf("TLS %v", got.TLS)
	}
	got.TLS = nil
	want := agent.Config{
		Namespace: "jobs", Job: "make-k3x9z", Attempt: "pod-1", AttemptUID: "uid-1", Version: version,
		Socket: "/run/s", SpoolDir: "/spool", SpoolBytes: 1 << 20, Listen: "127.0.0.1:7778",
		StartTimeout: 10 * time.Minute, Grace: 30 * time.Second, Linger: time.Minute, TerminationLog: terminationLog,
	}
	if got != want {
		t.Errorf("got %+v\nwant %+v", got, want)
	}

	env[contract.EnvListen], env[contract.EnvServerName], env[contract.EnvServerAddress] = "", "", "server.example:50051"
	env[contract.EnvRetries], env[contract.EnvTimeout] = "2", "90s"
	env[contract.EnvTerminationLog], env["KUBERNETES_SERVICE_HOST"] = "/tmp/t", "10.0.0.1"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.TLS.ServerName != "server.example" || got.Server != "server.example:50051" || !got.Retries ||
		got.Timeout != 90*time.Second || got.TerminationLog != "/tmp/t" || !got.InPod {
		t.Errorf("got %+v, %v", got, err)
	}
	env[contract.EnvRetries] = "0"
	env[contract.EnvLogOverflow], env[contract.EnvDetached], env[contract.EnvContainerLogs] = "block", "1", "1"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.EBPF != agent.EBPFOff || got.Retries || got.Overflow != agent.OverflowBlock || !got.Detached ||
		!got.ContainerLogs {
		t.Errorf("got %+v, %v", got, err)
	}
	env[contract.EnvLogOverflow], env[contract.EnvDetached], env[contract.EnvContainerLogs] = "drop", "0", "0"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.Overflow != agent.OverflowDrop || got.Detached || got.ContainerLogs {
		t.Errorf("got %+v, %v", got, err)
	}
	startBy := filepath.Join(t.TempDir(), "start-by")
	env[contract.EnvStartByFile], env[contract.EnvEvictionDir] = startBy, "/full"
	for content, want := range map[string]time.Time{"": {}, "2026-03-01T12:00:00Z": time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} {
		if err := os.WriteFile(startBy, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config(func(name string) string { return env[name] }); err != nil || !got.StartBy.Equal(want) ||
			got.EvictionDir != "/full" {
			t.Errorf("start by %q: got %+v, %v", content, got, err)
		}
	}
	for word, want := range map[string]agent.EBPF{"off": agent.EBPFOff, "auto": agent.EBPFAuto, "require": agent.EBPFRequire} {
		env[contract.EnvEBPF] = word
		if got, err := config(func(name string) string { return env[name] }); err != nil || got.EBPF != want {
			t.Errorf("HODEI_EBPF=%s: got %q, %v", word, got.EBPF, err)
		}
	}
}

// TestConfigErrors holds that every error names the variable to look at.
func TestConfigErrors(t *testing.T) {
	good := environment(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := environment(t)
	tests := []struct {
		name, variable, value string
		want                  string // besides the variable
	}{
		{"namespace", contract.EnvNamespace, "", "is not set"},
		{"job", contract.EnvJob, "", "is not set"},
		{"attempt", contract.EnvAttempt, "", "is not set"},
		{"uid", contract.EnvAttemptUID, "", "is not set"},
		{"socket", contract.EnvSocket, "", "is not set"},
		{"spool", contract.EnvSpoolDir, "", "is not set"},
		{"start by, no file", contract.EnvStartByFile, "/no/such/file", "no such file"},
		{"start by, garbage", contract.EnvStartByFile, garbage, "cannot parse"},
		{"mTLS off", contract.EnvMTLSEnabled, "0", "can't be switched off"},
		{"mTLS off, in a word", contract.EnvMTLSEnabled, "False", "can't be switched off"},
		{"neither way to meet", contract.EnvListen, "", "exactly one of HODEI_LISTEN and HODEI_SERVER_ADDRESS must be set"},
		{"both ways to meet", contract.EnvServerAddress, "127.0.0.1:1", "exactly one of HODEI_LISTEN and HODEI_SERVER_ADDRESS must be set"},
		{"server name", contract.EnvServerName, "", "is not set"},
		{"no start timeout", contract.EnvStartTimeout, "", "invalid duration"},
		{"no timeout", contract.EnvTimeout, "", "invalid duration"},
		{"no grace", contract.EnvGrace, "", "invalid duration"},
		{"no linger", contract.EnvLinger, "", "invalid duration"},
		{"without a unit", contract.EnvGrace, "30", "missing unit"},
		{"negative", contract.EnvLinger, "-1s", "-1s is negative"},
		{"no spool bytes", contract.EnvSpoolBytes, "", "invalid syntax"},
		{"spool bytes with a unit", contract.EnvSpoolBytes, "1Gi", "invalid syntax"},
		{"overflow in other words", contract.EnvLogOverflow, "Drop", `"Drop": want block or drop`},
		{"eBPF in another word", contract.EnvEBPF, "on", `"on": want off, auto or require`},
		{"detached in a word", contract.EnvDetached, "yes", `"yes": want 0 or 1`},
		{"container's log in a word", contract.EnvContainerLogs, "true", `"true": want 0 or 1`},
		{"no CA", contract.EnvCACertPath, "", "is not set"},
		{"no certificate", contract.EnvClientCertPath, "", "is not set"},
		{"no key", contract.EnvClientKeyPath, "", "is not set"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := maps.Clone(good)
			env[tt.variable] = tt.value
			_, err := config(func(name string) string { return env[name] })
			if err == nil || !strings.Contains(err.Error(), tt.variable) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s: %s", err, tt.variable, tt.want)
			}
		})
	}
	// A file is named by its path, which says more than the variable.
	files := []struct{ name, variable, value, want string }{
		{"CA that is not there", contract.EnvCACertPath, "/no/ca.crt", "/no/ca.crt: "},
		{"certificate that is not there", contract.EnvClientCertPath, "/no/client.crt", "/no/client.crt: "},
		{"key that is not there", contract.EnvClientKeyPath, "/no/client.key", "/no/client.key: "},
		{"CA that is none", contract.EnvCACertPath, garbage, garbage + ": "},
		{"key of another", contract.EnvClientKeyPath, other[contract.EnvClientKeyPath], "private key does not match"},
		{"address without a port", contract.EnvServerAddress, "server", "HODEI_SERVER_ADDRESS: "},
	}
	for _, tt := range files {
		t.Run(tt.name, func(t *testing.T) {
			env := maps.Clone(good)
			env[tt.variable] = tt.value
			if tt.variable == contract.EnvServerAddress {
				env[contract.EnvListen], env[contract.EnvServerName] = "", ""
			}
			_, err := config(func(name string) string { return env[name] })
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{
		{}, {"agents"}, {"copy"}, {"copy", "a", "b"}, {"launch"}, {"launch", "--", "true"},
		{"launch", "--socket=/s"}, {"launch", "--socket=/s", "--"}, {"launch", "--sockets=/s", "--", "true"},
		{"launch", "--grace=1", "--socket=/s", "--", "true"},
	} {
		var stderr bytes.Buffer
		if code := run(args, os.Getenv, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, stderr %q", args, code, stderr.String())
		}
	}
}

// TestExitStatus: a Job's podFailurePolicy tells by them whether the command may be started again.
func TestExitStatus(t *testing.T) {
	for err, want := range map[error]int{
		nil: contract.ExitOK, errors.New("broken"): contract.ExitBroken, agent.ErrNeverStarted: contract.ExitNeverStarted,
		agent.ErrNoEBPF: contract.ExitNoEBPF, fmt.Errorf("why: %w", agent.ErrStartTimeout): contract.ExitStartTimeout,
	} {
		if got := exitStatus(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}

// TestNotConfigured holds that the container's message says why.
func TestNotConfigured(t *testing.T) {
	env := environment(t)
	env[contract.EnvJob] = ""
	env[contract.EnvTerminationLog] = filepath.Join(t.TempDir(), "termination")
	var stderr bytes.Buffer
	code := run([]string{"agent"}, func(name string) string { return env[name] }, &stderr)
	message, err := os.ReadFile(env[contract.EnvTerminationLog])
	if code != 1 || err != nil || string(message) != "HODEI_JOB is not set" || !strings.Contains(stderr.String(), "HODEI_JOB is not set") {
		t.Errorf("exit status %d, message %q (%v), stderr %q", code, message, err, stderr.String())
	}
}

// TestStatic holds that the program runs in an image without a C library, as
// the launcher has to, and from any path.
func TestStatic(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "hodei-worker")
	build := exec.Command("go", "build", "-trimpath", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %s", p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err == nil && len(libs) > 0 {
		t.Errorf("it needs %v", libs)
	}

	copied := filepath.Join(dir, "launcher")
	if out, err := exec.Command(program, "copy", copied).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, out)
	}
	if out, err := exec.Command(copied, "version").Output(); err != nil || string(out) != "dev\n" {
		t.Errorf("version of the copy: %q, %v", out, err)
	}
}
