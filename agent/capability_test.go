package agent

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// capabilitySets matches those of a thread that it can use, or take up.
var capabilitySets = regexp.MustCompile(`(?m)^Cap(?:Inh|Prm|Eff|Amb):\s+(\w+)$`)

// TestDropCapabilities: the job's own code never runs beside an agent with any, in
// none of its threads.
func TestDropCapabilities(t *testing.T) {
	t.Parallel()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	if data[0].Permitted == 0 {
		t.Skip("we have no capabilities that could be dropped")
	}
	for _, test := range []struct {
		name  string
		inPod bool
	}{{"in a Pod", true}, {"as a process of a machine", false}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			program := buildWorker(t)
			w := newWorker(t)
			w.serve()
			env := workerEnv(w)
			if test.inPod {
				env = append(env, "KUBERNETES_SERVICE_HOST=10.0.0.1")
			}
			w.agent = start(t, nil, append(append([]string{"env"}, env...), program, "agent")...)
			// Their status as the command finds it.
			w.launcher = start(t, nil, program, "launch", "--socket="+w.cfg.Socket, "--",
				"sh", "-c", fmt.Sprintf("cat /proc/%d/task/*/status", w.agent.cmd.Process.Pid))
			w.launcher.exits(t, 0)
			w.ends(0)
			w.follower.mu.Lock()
			defer w.follower.mu.Unlock()
			sets := capabilitySets.FindAllStringSubmatch(string(w.follower.head), -1)
			if len(sets) < 8 || len(sets)%4 != 0 { // Go has more than one thread
				t.Fatalf("%d sets in\n%s", len(sets), w.follower.head)
			}
			some := false
			for _, set := range sets {
				some = some || strings.Trim(set[1], "0") != ""
			}
			if some == test.inPod {
				t.Errorf("the agent's sets while the command runs: %q", sets)
			}
		})
	}
}
