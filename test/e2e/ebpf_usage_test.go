package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// seesV2 is a shell line that says whether the job sees the directory of its cgroup of
// version 2 beside those of version 1.
const seesV2 = "[ ! -e /sys/fs/cgroup/unified/cgroup.procs ] || echo unified 1\n"

// assisted checks that eBPF assists in a job whose kernel figures are given, and returns
// why its parts are absent, "" of those that work. Programs for sockets are attached to a
// directory of cgroup v2, and nodes of version 1 need not show any; all other parts only
// take the cgroup's number, which a process has beside version 1 too.
func assisted(t *testing.T, o *job.Outcome, kernel figures) map[string]string {
	t.Helper()
	if want := fmt.Sprintf("cgroup%d+ebpf", kernel["version"]); o.Usage.Source != want {
		t.Errorf("measured by %q, want %q", o.Usage.Source, want)
	}
	absent := map[string]string{}
	var names []string
	for _, p := range o.Probes {
		absent[p.Name] = p.Absent
		names = append(names, p.Name)
	}
	slices.Sort(names)
	if want := []string{"network", "oom", "runqueue", "stats"}; !slices.Equal(names, want) {
		t.Fatalf("parts %q, want %q", names, want)
	}
	for name, reason := range absent {
		switch {
		case name == "network" && kernel["version"] == 1 && kernel["unified"] == 0:
			if !strings.HasPrefix(reason, "the job's cgroup v2 directory is not visible") {
				t.Errorf("network is absent because of %q", reason)
			}
		// before Linux 6.8
		case name == "oom" && strings.HasPrefix(reason, "the kernel's tracepoint mark_victim tells no more than a number"):
		case reason != "":
			t.Errorf("%s is absent: %s", name, reason)
		}
	}
	if counted := o.Usage.Network.Total() != nil; counted != (absent["network"] == "") {
		t.Errorf("network %+v, absent because of %q", o.Usage.Network, absent["network"])
	}
	return absent
}

// describes checks that describe tells of each part whether it works, and of those that
// don't why not.
func (tr trial) describes(t *testing.T, name string, absent map[string]string) {
	t.Helper()
	text := succeed(t, "describe", name, "--provider", tr.provider).stdout
	_, parts, _ := strings.Cut(text, "\n  eBPF:\n")
	for part, reason := range absent {
		state := "works"
		if reason != "" {
			state = "absent: " + reason
		}
		if !regexp.MustCompile(`(?m)^    ` + part + `: +` + regexp.QuoteMeta(state) + `$`).MatchString(parts) {
			t.Errorf("no %q that %q in:\n%s", part, state, text)
		}
	}
	network := "received "
	if reason := absent["network"]; reason != "" {
		network = "not counted: " + reason
	}
	if !regexp.MustCompile(`(?m)^    Network: +` + regexp.QuoteMeta(network)).MatchString(text) {
		t.Errorf("no network that is %q in:\n%s", network, text)
	}
}

// TestEBPFVictim: whom the OOM killer chose is known by its name, size and limit, and
// describe tells of the parts.
func TestEBPFVictim(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, enforcing("privileged"), "--ebpf", "require")
	const limit = 64 << 20
	name, victim := "e2e-"+rand.String(8), "eater-"+rand.String(8) // no other job's victim has that name
	script := "figures\n" + seesV2 + `sh -c 'echo ` + victim + ` >/proc/$$/comm; a=x; while :; do a=$a$a; done'; exit 3`
	outcome, kernel := measured(t, script, "--provider", tr.provider, "--name", name, "--memory=64Mi")
	if outcome.Cause != job.OOMKilled {
		t.Fatalf("ended as %+v", outcome)
	}
	absent := assisted(t, outcome, kernel)
	tr.describes(t, name, absent)
	m := outcome.Usage.Memory
	if m.OOMKills == nil || *m.OOMKills == 0 || m.Limit == nil || *m.Limit != limit {
		t.Errorf("memory %+v", m)
	}
	if reason := absent["oom"]; reason != "" {
		if m.OOMVictim != nil {
			t.Errorf("a victim %+v by a part that is absent", m.OOMVictim)
		}
		t.Skip("the kernel names no victim: " + reason)
	}
	// Of the limit the shell that waits and the launcher have a few MiB, and pages of
	// programs that it maps may be another cgroup's.
	v := m.OOMVictim
	if v == nil || v.Name != victim || v.Pid == 0 || v.LimitBytes != limit || v.Bytes < limit*3/4 || v.Bytes > limit*5/4 {
		t.Fatalf("victim %+v, want %s with most of %d bytes", v, victim, limit)
	}
	t.Logf("victim: %+v", *v)
	if !strings.Contains(outcome.Message, "the kernel killed "+victim+" (") {
		t.Errorf("it says %q", outcome.Message)
	}
}

// TestEBPFUsage: CPU time that eBPF reads is what the kernel's files say, and waits for a
// CPU are counted in the part of the time in which the agent looks.
func TestEBPFUsage(t *testing.T) {
	t.Parallel()
	tr := newTrial(t, enforcing("privileged"), "--ebpf", "require")
	name := "e2e-" + rand.String(8)
	// It wakes often: each look at the CPU time takes three processes and a pipe.
	outcome, kernel := measured(t, burn(2e9)+"figures\n"+seesV2, "--provider", tr.provider, "--name", name, "--memory=64Mi")
	if outcome.Cause != job.Completed {
		t.Fatalf("ended as %+v", outcome)
	}
	tr.describes(t, name, assisted(t, outcome, kernel))
	u := outcome.Usage
	kernel.near(t, "cpu", nanoseconds(u.CPU.Total), 0)
	// The eBPF divides the total among the two. Files of version 1 have hundredths of a
	// second of them, so that they would not add up.
	if c := u.CPU; c.Total == nil || c.User == nil || c.System == nil || (*c.Total-*c.User-*c.System).Abs() > 2*time.Microsecond {
		t.Errorf("user %s and system %s time are not the total, %s", c.User, c.System, c.Total)
	}
	kernel.near(t, "limit", u.Memory.Limit, 0)
	if u.Memory.OOMVictim != nil {
		t.Errorf("a victim %+v of nothing", u.Memory.OOMVictim)
	}
	var waits uint64
	for _, n := range u.RunQueueWaits {
		waits += n
	}
	took := outcome.Finished.Sub(outcome.Started)
	if len(u.RunQueueWaits) == 0 || waits == 0 || u.RunQueueWatched <= 0 || u.RunQueueWatched >= took {
		t.Errorf("%d waits %v seen in %s of %s", waits, u.RunQueueWaits, u.RunQueueWatched, took)
	}
	t.Logf("%d waits seen in %s of %s", waits, u.RunQueueWatched, took.Round(time.Millisecond))
}
