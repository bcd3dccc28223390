package agent

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// peakBytes is the most memory that a process has ever had, by VmHWM of
// /proc/PID/status.
func peakBytes(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmHWM in:\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// buildWorker builds the real program: static, as it is in its image.
func buildWorker(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "hodei-worker")
	build := exec.Command("go", "build", "-o", program, "../cmd/hodei-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// workerEnv is what the real program has to be told to be w's agent.
func workerEnv(w *worker) []string {
	return []string{
		contract.EnvNamespace + "=" + w.cfg.Namespace, contract.EnvJob + "=" + w.cfg.Job,
		contract.EnvAttempt + "=" + w.cfg.Attempt, contract.EnvAttemptUID + "=" + w.cfg.AttemptUID,
		contract.EnvSocket + "=" + w.cfg.Socket,
		contract.EnvSpoolDir + "=" + w.cfg.SpoolDir,
		fmt.Sprint(contract.EnvSpoolBytes, "=", w.cfg.SpoolBytes),
		contract.EnvServerAddress + "=" + w.cfg.Server, contract.EnvServerName + "=" + testID.ServerName(),
		contract.EnvCACertPath + "=" + filepath.Join(w.dir, "ca.crt"),
		contract.EnvClientCertPath + "=" + filepath.Join(w.dir, "client.crt"),
		contract.EnvClientKeyPath + "=" + filepath.Join(w.dir, "client.key"),
		contract.EnvStartTimeout + "=1m", contract.EnvTimeout + "=0", contract.EnvGrace + "=1s", contract.EnvLinger + "=1m",
		contract.EnvTerminationLog + "=" + w.cfg.TerminationLog,
	}
}

// TestMemory lets a job print 200 MB while its coordinator stores nothing, and
// then sends all of it. The program is the real one: the race detector takes
// several times the memory.
func TestMemory(t *testing.T) {
	t.Parallel()
	const printed, bound = 200_000_000, 32 << 20
	program := buildWorker(t)

	w := newWorker(t)
	stored := make(chan struct{})
	release := sync.OnceFunc(func() { close(stored) })
	defer release()
	peak := 0
	w.follower.output = func(b *hodeipb.Batch) {
		<-stored
		if b.Offset < printed/2 && b.Offset+uint64(len(b.Data)) >= printed/2 {
			peak = peakBytes(t, w.agent.cmd.Process.Pid)
		}
	}
	w.serve()
	w.agent = start(t, nil, append(append([]string{"env"}, workerEnv(w)...), program, "agent")...)
	w.launcher = start(t, nil, program, "launch", "--socket="+w.cfg.Socket, "--", "head", "-c", fmt.Sprint(printed), "/dev/zero")
	w.launcher.exits(t, 0)
	if got := peakBytes(t, w.agent.cmd.Process.Pid); got > bound {
		t.Errorf("the agent took %d MiB while nothing was stored", got>>20)
	}
	release()
	r := w.ends(0)
	t.Logf("the agent's peak is %d MiB", peak>>20)
	if r.End != printed || peak == 0 || peak > bound {
		t.Errorf("%d bytes stored; the agent took %d MiB", r.End, peak>>20)
	}
}
