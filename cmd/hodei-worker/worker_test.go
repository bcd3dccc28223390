package main

import (
	"bytes"
	"debug/elf"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/agent"
	"github.com/hodei-jobs/hodei/certs"
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
		"HODEI_NAMESPACE": "jobs", "HODEI_JOB": "make-k3x9z",
		"HODEI_ATTEMPT": "pod-1", "HODEI_ATTEMPT_UID": "uid-1",
		"HODEI_SOCKET": "/run/s", "HODEI_SPOOL_DIR": "/spool", "HODEI_SPOOL_BYTES": "1048576",
		"HODEI_LISTEN": "127.0.0.1:7778", "HODEI_SERVER_NAME": "make-k3x9z.jobs.hodei",
		"HODEI_CA_CERT_PATH":     filepath.Join(dir, "ca.crt"),
		"HODEI_CLIENT_CERT_PATH": filepath.Join(dir, "client.crt"),
		"HODEI_CLIENT_KEY_PATH":  filepath.Join(dir, "client.key"),
		"HODEI_START_TIMEOUT":    "10m0s", "HODEI_TIMEOUT": "0s", "HODEI_GRACE": "30s", "HODEI_LINGER": "1m",
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

	env["HODEI_LISTEN"], env["HODEI_SERVER_NAME"], env["HODEI_SERVER_ADDRESS"] = "", "", "server.example:50051"
	env["HODEI_RETRIES"], env["HODEI_TIMEOUT"], env["HODEI_TERMINATION_LOG"], env["KUBERNETES_SERVICE_HOST"] = "2", "90s", "/tmp/t", "10.0.0.1"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.TLS.ServerName != "server.example" || got.Server != "server.example:50051" || !got.Retries || got.Timeout != 90*time.Second || got.TerminationLog != "/tmp/t" || !got.InPod {
		t.Errorf("got %+v, %v", got, err)
	}
	env["HODEI_RETRIES"] = "0"
	env["HODEI_LOG_OVERFLOW"], env["HODEI_DETACHED"], env["HODEI_CONTAINER_LOGS"] = "block", "1", "1"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.EBPF != agent.EBPFOff || got.Retries || got.Overflow != agent.OverflowBlock || !got.Detached || !got.ContainerLogs {
		t.Errorf("got %+v, %v", got, err)
	}
	env["HODEI_LOG_OVERFLOW"], env["HODEI_DETACHED"], env["HODEI_CONTAINER_LOGS"] = "drop", "0", "0"
	got, err = config(func(name string) string { return env[name] })
	if err != nil || got.Overflow != agent.OverflowDrop || got.Detached || got.ContainerLogs {
		t.Errorf("got %+v, %v", got, err)
	}
	startBy := filepath.Join(t.TempDir(), "start-by")
	env["HODEI_START_BY_FILE"], env["HODEI_EVICTION_DIR"] = startBy, "/full"
	for content, want := range map[string]time.Time{"": {}, "2026-03-01T12:00:00Z": time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} {
		if err := os.WriteFile(startBy, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config(func(name string) string { return env[name] }); err != nil || !got.StartBy.Equal(want) || got.EvictionDir != "/full" {
			t.Errorf("start by %q: got %+v, %v", content, got, err)
		}
	}
	for word, want := range map[string]agent.EBPF{"off": agent.EBPFOff, "auto": agent.EBPFAuto, "require": agent.EBPFRequire} {
		env["HODEI_EBPF"] = word
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
		{"namespace", "HODEI_NAMESPACE", "", "is not set"},
		{"job", "HODEI_JOB", "", "is not set"},
		{"attempt", "HODEI_ATTEMPT", "", "is not set"},
		{"uid", "HODEI_ATTEMPT_UID", "", "is not set"},
		{"socket", "HODEI_SOCKET", "", "is not set"},
		{"spool", "HODEI_SPOOL_DIR", "", "is not set"},
		{"start by, no file", "HODEI_START_BY_FILE", "/no/such/file", "no such file"},
		{"start by, garbage", "HODEI_START_BY_FILE", garbage, "cannot parse"},
		{"mTLS off", "HODEI_MTLS_ENABLED", "0", "can't be switched off"},
		{"mTLS off, in a word", "HODEI_MTLS_ENABLED", "False", "can't be switched off"},
		{"neither way to meet", "HODEI_LISTEN", "", "exactly one of HODEI_LISTEN and HODEI_SERVER_ADDRESS must be set"},
		{"both ways to meet", "HODEI_SERVER_ADDRESS", "127.0.0.1:1", "exactly one of HODEI_LISTEN and HODEI_SERVER_ADDRESS must be set"},
		{"server name", "HODEI_SERVER_NAME", "", "is not set"},
		{"no start timeout", "HODEI_START_TIMEOUT", "", "invalid duration"},
		{"no timeout", "HODEI_TIMEOUT", "", "invalid duration"},
		{"no grace", "HODEI_GRACE", "", "invalid duration"},
		{"no linger", "HODEI_LINGER", "", "invalid duration"},
		{"without a unit", "HODEI_GRACE", "30", "missing unit"},
		{"negative", "HODEI_LINGER", "-1s", "-1s is negative"},
		{"no spool bytes", "HODEI_SPOOL_BYTES", "", "invalid syntax"},
		{"spool bytes with a unit", "HODEI_SPOOL_BYTES", "1Gi", "invalid syntax"},
		{"overflow in other words", "HODEI_LOG_OVERFLOW", "Drop", `"Drop": want block or drop`},
		{"eBPF in another word", "HODEI_EBPF", "on", `"on": want off, auto or require`},
		{"detached in a word", "HODEI_DETACHED", "yes", `"yes": want 0 or 1`},
		{"container's log in a word", "HODEI_CONTAINER_LOGS", "true", `"true": want 0 or 1`},
		{"no CA", "HODEI_CA_CERT_PATH", "", "is not set"},
		{"no certificate", "HODEI_CLIENT_CERT_PATH", "", "is not set"},
		{"no key", "HODEI_CLIENT_KEY_PATH", "", "is not set"},
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
		{"CA that is not there", "HODEI_CA_CERT_PATH", "/no/ca.crt", "/no/ca.crt: "},
		{"certificate that is not there", "HODEI_CLIENT_CERT_PATH", "/no/client.crt", "/no/client.crt: "},
		{"key that is not there", "HODEI_CLIENT_KEY_PATH", "/no/client.key", "/no/client.key: "},
		{"CA that is none", "HODEI_CA_CERT_PATH", garbage, garbage + ": "},
		{"key of another", "HODEI_CLIENT_KEY_PATH", other["HODEI_CLIENT_KEY_PATH"], "private key does not match"},
		{"address without a port", "HODEI_SERVER_ADDRESS", "server", "HODEI_SERVER_ADDRESS: "},
	}
	for _, tt := range files {
		t.Run(tt.name, func(t *testing.T) {
			env := maps.Clone(good)
			env[tt.variable] = tt.value
			if tt.variable == "HODEI_SERVER_ADDRESS" {
				env["HODEI_LISTEN"], env["HODEI_SERVER_NAME"] = "", ""
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
		{"launch", "--socket=/s"}, {"launch", "--socket=/s", "--"}, {"launch", "--sockets=/s", "--", "true"}, {"launch", "--grace=1", "--socket=/s", "--", "true"},
	} {
		var stderr bytes.Buffer
		if code := run(args, os.Getenv, &stderr); code != 2 || stderr.Len() == 0 {
			t.Errorf("%q: exit status %d, stderr %q", args, code, stderr.String())
		}
	}
}

// TestNotConfigured holds that the container's message says why.
func TestNotConfigured(t *testing.T) {
	env := environment(t)
	env["HODEI_JOB"] = ""
	env["HODEI_TERMINATION_LOG"] = filepath.Join(t.TempDir(), "termination")
	var stderr bytes.Buffer
	code := run([]string{"agent"}, func(name string) string { return env[name] }, &stderr)
	message, err := os.ReadFile(env["HODEI_TERMINATION_LOG"])
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
