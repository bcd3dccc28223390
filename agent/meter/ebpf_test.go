package meter

import (
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

func TestWhyNone(t *testing.T) {
	part := func(name, absent string) *hodeipb.Probe { return &hodeipb.Probe{Name: name, Absent: absent} }
	tests := []struct {
		name  string
		parts []*hodeipb.Probe
		want  string
	}{
		{"one reason", []*hodeipb.Probe{part("network", "no BTF"), part("stats", "no BTF"), part("oom", "no BTF")}, "no BTF"},
		{"some", []*hodeipb.Probe{part("network", "no NET_ADMIN"), part("stats", "no BTF"), part("oom", "no BTF")},
			"network: no NET_ADMIN; stats, oom: no BTF"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := whyNone(test.parts); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
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
			h := &handover.Launcher{OwnCgroup2: test.own, Files: handover.Files{}}
			if test.dir {
				h.Files[handover.FDCgroup] = files(t, map[string]string{"memory/memory.usage_in_bytes": "1\n"})
			}
			target, err := probeTarget(h)
			if err == nil || !strings.Contains(err.Error(), test.absent) || target != (probe.Target{}) {
				t.Errorf("probeTarget() = %v, %v", target, err)
			}
		})
	}
}
