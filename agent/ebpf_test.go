package agent

import (
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// noCgroup is why there is no eBPF for a process of this machine.
const noCgroup = "the job has no cgroup of its own"

func TestEBPFAuto(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.EBPF = EBPFAuto
	w.run("echo", "hello")
	r := w.ends(0)
	parts := []string{probe.Network, probe.Stats, probe.OOM, probe.RunQueue}
	for _, has := range []struct {
		name   string
		probes []*hodeipb.Probe
	}{
		{"the exit record", r.Probes},
		{"the last state", w.follower.states[len(w.follower.states)-1].Probes},
		{"the container's message", w.termination().Probes},
	} {
		if len(has.probes) != len(parts) {
			t.Fatalf("%s tells of %v", has.name, has.probes)
		}
		for i, p := range has.probes {
			if p.Name != parts[i] || p.Absent != noCgroup {
				t.Errorf("%s tells of %v", has.name, p)
			}
		}
	}
	if r.Usage.GetSource() != "proc" {
		t.Errorf("measured by %q", r.Usage.GetSource())
	}
}

// TestEBPFRequired: the command is not started, and why is the container's message.
func TestEBPFRequired(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.cfg.EBPF = EBPFRequire
	w.run("echo", "hello")
	w.agent.exits(t, contract.ExitNoEBPF)
	w.launcher.exits(t, contract.ExitAgentGone)
	w.terminationSays(noCgroup)
	if said := w.launcher.stderr.String(); !strings.Contains(said, "the agent did not let the command start") {
		t.Errorf("the launcher says %q", said)
	}
	w.follower.mu.Lock()
	defer w.follower.mu.Unlock()
	if w.follower.end > 0 || w.follower.exit != nil {
		t.Errorf("%d bytes of output, and exit record %v", w.follower.end, w.follower.exit)
	}
}

func TestEBPFOff(t *testing.T) {
	t.Parallel()
	w := newWorker(t)
	w.run("echo", "hello")
	if r := w.ends(0); len(r.Probes) > 0 {
		t.Errorf("probes %v", r.Probes)
	}
}
