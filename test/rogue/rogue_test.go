package rogue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/test/program"
)

// Bounds of what a coordinator takes, whatever its agents do. Without an attack hodei run
// takes some 60 MiB and hodei server some 70.
const (
	maxResidentBytes = 200 << 20
	maxSaidBytes     = 32 << 10
	// maxFiles are some of the attempt of a run, and some of each of 300.
	maxFiles, maxManyFiles = 60, 3000
)

func hodei(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "hodei"), args...)
	cmd.Dir = home
	// The year 9999 ends nine hours early there.
	cmd.Env = []string{"HOME=" + home, "KUBECONFIG=none", "PATH=" + bin, "TZ=Asia/Tokyo"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// entries counts the files and directories in one, and tells names with anything unusual in them.
func entries(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if n++; !regexp.MustCompile(`^[A-Za-z0-9._-]*$`).MatchString(d.Name()) {
			t.Errorf("it has made %q", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestRun: hodei run ends as one run does, with events that are JSON.
func TestRun(t *testing.T) {
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			home := t.TempDir()
			cmd := hodei(t, home, "run", "--provider", "local", "--name", attack.name, "-o", "json", "--", "x")
			var out, said bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(program.Patience, func() { _ = cmd.Process.Kill() })
			defer late.Stop()
			ended := make(chan struct{})
			go func() {
				_ = cmd.Wait() // its state tells the rest
				close(ended)
			}()
			resident := peakUntil(cmd.Process.Pid, ended)
			made := entries(t, home)
			t.Logf("%s, %d MiB, %d bytes of messages, %d of events, %d files", cmd.ProcessState, resident>>20, said.Len(), out.Len(), made)
			if code := cmd.ProcessState.ExitCode(); code < 0 || code == 2 || strings.Contains(said.String(), "goroutine ") {
				t.Errorf("%s: %.2000s", cmd.ProcessState, said.String())
			}
			if resident > maxResidentBytes || said.Len() > maxSaidBytes || out.Len() > maxSaidBytes || made > maxFiles {
				t.Errorf("it took too much; it said\n%.2000s\n%.2000s", said.String(), out.String())
			}
			last := ""
			for line := range strings.Lines(out.String()) {
				var event struct{ Type string }
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatalf("%v: %.300q", err, line)
				}
				last = event.Type
			}
			if n := strings.Count(out.String(), "the agent was turned away: "); attack.told != "" &&
				(n != 1 || !strings.Contains(out.String(), attack.told)) {
				t.Errorf("it says %d times that the agent was turned away, want %q:\n%.2000s", n, attack.told, out.String())
			}
			if last != "exit" {
				t.Errorf("the last event is %q; stderr:\n%.2000s", last, said.String())
			}
		})
	}
}

// TestServer: hodei server goes on, and serves another job afterwards.
func TestServer(t *testing.T) {
	for _, attack := range attacks {
		t.Run(attack.name, func(t *testing.T) {
			home := t.TempDir()
			if out, err := hodei(t, home, "certs", "generate").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			authority, err := certs.LoadAuthority(filepath.Join(home, "certs"))
			if err != nil {
				t.Fatal(err)
			}
			web, address := free(t), free(t)
			cmd := hodei(t, home, "server", "--listen", web, "--grpc-listen", address)
			var said bytes.Buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() {
				_ = cmd.Wait()
				close(ended)
			}()
			program.Until(t, "server", func() bool {
				answer, err := http.Get("http://" + web + "/healthz")
				return err == nil && answer.Body.Close() == nil
			})
			before := mustPeak(t, cmd.Process.Pid)
			attack.start(t.Context(), newAgent(t, authority, address, attack.name))
			resident, open := mustPeak(t, cmd.Process.Pid), descriptors(t, cmd.Process.Pid)
			if err := newAgent(t, authority, address, "honest").honest(t.Context()); err != nil {
				t.Errorf("another job is not served: %v", err)
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(program.Patience):
				_ = cmd.Process.Kill()
				<-ended
			}
			made := entries(t, home)
			t.Logf("%s, %d MiB before, %d in it, %d descriptors, %d bytes of log, %d files", cmd.ProcessState, before>>20, resident>>20,
				open, said.Len(), made)
			if !cmd.ProcessState.Success() || strings.Contains(said.String(), "goroutine ") {
				t.Errorf("%s: %.2000s", cmd.ProcessState, said.String())
			}
			if resident > maxResidentBytes || said.Len() > maxSaidBytes || made > maxManyFiles || open > 100 {
				t.Errorf("it took too much; its log:\n%.2000s", said.String())
			}
		})
	}
}

// newAgent has the certificate of a job.
func newAgent(t *testing.T, authority *certs.Authority, address, job string) *agent {
	t.Helper()
	id := certs.ID{Namespace: "local", Job: job}
	issued, err := authority.IssueJob(id)
	if err != nil {
		t.Fatal(err)
	}
	at := files(t.TempDir())
	for path, content := range map[string][]byte{at.CA: issued.CA, at.Cert: issued.ClientCert, at.Key: issued.ClientKey} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := at.ClientConfig("localhost")
	if err != nil {
		t.Fatal(err)
	}
	return &agent{namespace: id.Namespace, job: id.Job, attempt: job + "-x", uid: "uid", server: address, tls: config}
}

// free is an address that nobody has.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// peak is the most memory that a process has ever had; an error: it has ended.
func peak(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("no VmHWM in:\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	return n << 10, err
}

func mustPeak(t *testing.T, pid int) int {
	t.Helper()
	n, err := peak(pid)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// peakUntil looks at a process's peak until it has ended: what wait4(2) says afterwards is
// its children's too.
func peakUntil(pid int, ended <-chan struct{}) (most int) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if n, err := peak(pid); err == nil {
			most = max(most, n)
		}
		select {
		case <-ticker.C:
		case <-ended:
			return most
		}
	}
}

func descriptors(t *testing.T, pid int) int {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}
