package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

// TestOpenCgroupOutside: a launcher that is not process 1 shares its cgroup with
// others, whose figures are not the command's.
func TestOpenCgroupOutside(t *testing.T) {
	if os.Getpid() == 1 {
		t.Skip("the test is process 1 itself")
	}
	dir, _, err := openCgroup()
	if err == nil {
		dir.Close()
		t.Fatal("a cgroup was opened")
	}
	if want := "not in a container"; !strings.Contains(err.Error(), want) {
		t.Errorf("openCgroup() = %v, want %q", err, want)
	}
}

// TestTellCgroup: the launcher answers what the agent asks before the start, as often
// as it asks, and starts only when it is told to.
func TestTellCgroup(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer launcher.Close()
	defer agent.Close()
	started := make(chan error, 1)
	go func() { started <- awaitStart(t.Context(), launcher, nil) }()
	want, err := probe.OwnCgroup() // 0 before Linux 6.13
	for range 2 {
		if got := askCgroup(agent); got != want {
			t.Errorf("the launcher says %d, want %d, %v", got, want, err)
		}
	}
	if len(started) > 0 {
		t.Fatalf("the command may start, %v", <-started)
	}
	if err := send(agent, agentMsg{Start: true}); err != nil {
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
	launcher.Close()
	if got := askCgroup(agent); got != 0 {
		t.Errorf("a launcher that has gone says %d", got)
	}
}

// TestAwaitStartUntil: a launcher that must end before the command has started does.
func TestAwaitStartUntil(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer agent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := awaitStart(ctx, launcher, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestLaunchUntil: the end of the launcher's context is a SIGTERM for the command.
func TestLaunchUntil(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run("sh", "-c", "trap '' USR2; trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done")
	w.follower.until(t, "the command", func() bool { return w.follower.end > 0 })
	w.launcher.signal(t, unix.SIGUSR2)
	if r := w.ends(3); r.Cause != contract.CauseError {
		t.Errorf("exit record %v", r)
	}
}

// TestProbeTarget: what the launcher has not found to be its own is not measured.
func TestProbeTarget(t *testing.T) {
	tests := []struct {
		name   string
		dir    bool
		own    bool
		absent string
	}{
		{"no cgroup", false, true, "no cgroup of its own"},
		{"version 1, and version 2 of the machine", true, false, "no cgroup of version 2 of its own"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := &handover{ownCgroup2: test.own, files: handedOver{}}
			if test.dir {
				h.files[fdCgroup] = files(t, map[string]string{"memory/memory.usage_in_bytes": "1\n"})
			}
			target, err := probeTarget(h)
			if err == nil || !strings.Contains(err.Error(), test.absent) || target != (probe.Target{}) {
				t.Errorf("probeTarget() = %v, %v", target, err)
			}
		})
	}
}
