package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

func TestStartDeadline(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name    string
		startBy time.Time
		want    time.Duration // from now
		message string
	}{
		{name: "from our own start", want: 10 * time.Minute, message: "no launcher came within 10m0s: "},
		{name: "from the job's creation", startBy: now.Add(9 * time.Minute), want: 9 * time.Minute,
			message: "no launcher came by 2026-03-01T12:09:00Z, 10m0s after the job was made: "},
		{name: "over when we came", startBy: now.Add(-time.Hour), want: -time.Hour,
			message: "no launcher came by 2026-03-01T11:00:00Z, 10m0s after the job was made: "},
		{name: "this node's clock is behind", startBy: now.Add(20 * time.Minute), want: 10 * time.Minute,
			message: "no launcher came within 10m0s: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Config{StartTimeout: 10 * time.Minute, StartBy: test.startBy}
			deadline := c.startDeadline(now)
			if got := deadline.Sub(now); got != test.want {
				t.Errorf("%s from now, want %s", got, test.want)
			}
			if late(deadline, deadline.Add(-1)) || !late(deadline, deadline) {
				t.Error("it is not the deadline that tells who is late")
			}
			if got := c.tooLate(deadline).Error(); !strings.HasPrefix(got, test.message) {
				t.Errorf("%q, want %q", got, test.message)
			}
		})
	}
}

// TestStartByIsOver: an agent whose job was said never to start lets nobody in.
func TestStartByIsOver(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.StartBy = time.Now().Add(-time.Minute)
	w.serve()
	w.startAgent()
	w.agent.exits(t, contract.ExitStartTimeout)
	w.terminationSays("no launcher came by ")
}

// TestEviction: an agent whose start timeout is over fills the volume, and is there for the
// kubelet to evict its Pod.
func TestEviction(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.EvictionDir = t.TempDir()
	w.cfg.StartTimeout = 10 * time.Millisecond
	w.serve()
	w.startAgent()
	for deadline := time.Now().Add(agenttest.Patience); ; time.Sleep(time.Millisecond) { // nothing tells
		var s unix.Stat_t
		if unix.Stat(filepath.Join(w.cfg.EvictionDir, "overfull"), &s) == nil && s.Size >= overfillBytes {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the volume is not overfull")
		}
	}
	if _, err := os.Stat(w.cfg.Socket); !os.IsNotExist(err) {
		t.Errorf("a launcher could still come: %v", err)
	}
	select {
	case <-w.agent.ended:
		t.Fatal("the agent has ended: the kubelet would not evict its Pod")
	default:
	}
	w.agent.signal(t, unix.SIGTERM)
	w.agent.exits(t, contract.ExitStartTimeout)
	w.terminationSays("no launcher came within 10ms: ")
}

// TestRun: an agent that is told to end before its launcher has come returns why, leaves that as the
// container's message, and nothing running.
func TestRun(t *testing.T) {
	before := runtime.NumGoroutine()
	w := newWorker(t)
	w.cfg.Listen, w.cfg.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	err := Run(ctx, w.cfg)
	const want = "told to end before the job's container started"
	if !errors.Is(err, ErrNeverStarted) || errors.Is(err, ErrStartTimeout) || err.Error() != want {
		t.Errorf("error %v", err)
	}
	w.terminationSays(want)
	for deadline := time.Now().Add(agenttest.Patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
	}
}
