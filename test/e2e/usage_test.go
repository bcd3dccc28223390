package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// kernelFigures is a shell function that prints what the kernel says of the container
// that it runs in, a name and a number a line, whatever the version of its cgroup:
// the job reads the same files as the agent, for itself.
const kernelFigures = `figures() {
cd /sys/fs/cgroup
if [ -f cgroup.controllers ]; then
	echo version 2
	sed -n 's/^usage_usec \(.*\)/cpu \1000/p; s/^nr_periods /periods /p
		s/^nr_throttled /throttledPeriods /p; s/^throttled_usec \(.*\)/throttled \1000/p' cpu.stat
	sed 's/^/peak /' memory.peak 2>/dev/null
	sed 's/^/limit /' memory.max
	sed -n 's/^oom_kill /kills /p' memory.events
	sed -n 's/.* wbytes=\([0-9]*\) .*/write \1/p' io.stat
	sed 's/^/pidsLimit /' pids.max
else
	echo version 1
	sed 's/^/cpu /' cpuacct/cpuacct.usage
	sed -n 's/^nr_periods /periods /p; s/^nr_throttled /throttledPeriods /p; s/^throttled_time /throttled /p' cpu/cpu.stat
	sed 's/^/peak /' memory/memory.max_usage_in_bytes
	sed 's/^/limit /' memory/memory.limit_in_bytes
	sed -n 's/^oom_kill /kills /p' memory/memory.oom_control
	sed -n 's/^[0-9]*:[0-9]* Write /write /p' blkio/blkio.throttle.io_service_bytes_recursive
	sed 's/^/pidsLimit /' pids/pids.max
fi
}
`

// burn is a shell loop that uses so many nanoseconds of CPU time, all of the container's
// before included.
func burn(ns int64) string {
	return fmt.Sprintf(`used() { figures | sed -n 's/^cpu //p'; }
while [ $(used) -lt %d ]; do i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; done
`, ns)
}

// figures are what the kernel said, each name's numbers added up.
type figures map[string]uint64

// measured runs a script as a job and returns its end, and what its last lines say.
func measured(t *testing.T, script string, flags ...string) (*job.Outcome, figures) {
	t.Helper()
	args := append([]string{"run", "--name", jobName(t), "-o", "json"}, flags...)
	r := hodei(t, append(args, "--", "sh", "-c", kernelFigures+script)...)
	var printed strings.Builder
	var outcome *job.Outcome
	for line := range strings.Lines(r.stdout) {
		var e struct{ Type, Stream, Text string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		switch {
		case e.Type == "output" && e.Stream == "stdout":
			printed.WriteString(e.Text)
		case e.Type == "exit":
			outcome = &job.Outcome{}
			if err := json.Unmarshal([]byte(line), outcome); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
		}
	}
	if outcome == nil || outcome.Usage == nil {
		t.Fatalf("no usage at the end:\n%s\n%s", r.stdout, r.stderr)
	}
	said := figures{}
	for line := range strings.Lines(printed.String()) {
		var name string
		var n uint64
		if _, err := fmt.Sscan(line, &name, &n); err == nil { // else it is "max": no limit
			said[name] += n
		}
	}
	return outcome, said
}

// near compares a figure with the kernel's of a moment before: 2 %, and slack for what
// was used since.
func (f figures) near(t *testing.T, name string, got *uint64, slack uint64) {
	t.Helper()
	want, said := f[name]
	switch {
	case !said:
		t.Errorf("the job could not read %s", name)
	case got == nil:
		t.Errorf("%s is absent, the kernel says %d", name, want)
	case max(*got, want)-min(*got, want) > want/50+slack:
		t.Errorf("%s is %d, the kernel says %d", name, *got, want)
	default:
		t.Logf("%s: %d, the kernel says %d", name, *got, want)
	}
}

func nanoseconds(d *time.Duration) *uint64 {
	if d == nil {
		return nil
	}
	n := uint64(*d)
	return &n
}

// TestUsage: what a job has cost at its end is what the kernel says that it has cost.
func TestUsage(t *testing.T) {
	t.Parallel()
	const period = uint64(100 * time.Millisecond) // the kubelet's
	tests := []struct {
		name   string
		flags  []string
		script string
		cause  job.Cause
		check  func(t *testing.T, u *job.Usage, kernel figures)
	}{
		{"2 s of CPU time", []string{"--memory=64Mi"}, burn(2e9) + "figures", job.Completed,
			func(t *testing.T, u *job.Usage, kernel figures) {
				kernel.near(t, "cpu", nanoseconds(u.CPU.Total), 0)
				if kernel["cpu"] < 2e9 {
					t.Errorf("only %d ns were used", kernel["cpu"])
				}
				user, system := nanoseconds(u.CPU.User), nanoseconds(u.CPU.System)
				if user == nil || system == nil {
					t.Fatal("no user or system time")
				}
				both := *user + *system
				kernel.near(t, "cpu", &both, uint64(20*time.Millisecond)) // version 1 counts hundredths of a second
				if u.CPU.LimitMillis != nil {
					t.Errorf("a limit of %d", *u.CPU.LimitMillis)
				}
			}},
		{"100 MiB of memory", []string{"--memory=256Mi"}, "dd if=/dev/zero of=/dev/null bs=104857600 count=1; figures", job.Completed,
			func(t *testing.T, u *job.Usage, kernel figures) {
				kernel.near(t, "limit", u.Memory.Limit, 0)
				if _, said := kernel["peak"]; !said {
					t.Skip("the kernel keeps no peak")
				}
				kernel.near(t, "peak", u.Memory.Peak, 0)
				if u.Memory.PeakSampled || kernel["peak"] < 100<<20 || kernel["peak"] > 110<<20 {
					t.Errorf("a peak of %d, sampled: %t", kernel["peak"], u.Memory.PeakSampled)
				}
			}},
		{"out of memory", []string{"--memory=32Mi"}, `sh -c 'a=x; while :; do a=$a$a; done'; figures`, job.OOMKilled,
			func(t *testing.T, u *job.Usage, kernel figures) {
				if u.Memory.OOMKills == nil || *u.Memory.OOMKills == 0 || u.Memory.Limit == nil || *u.Memory.Limit != 32<<20 {
					t.Fatalf("memory %+v", u.Memory)
				}
				if kernel["version"] > 0 { // else the kernel has killed all of it at once
					kernel.near(t, "kills", u.Memory.OOMKills, 0)
					kernel.near(t, "peak", u.Memory.Peak, 0)
				}
			}},
		{"throttled", []string{"--cpu=200m", "--memory=64Mi"}, burn(4e8) + "figures", job.Completed,
			func(t *testing.T, u *job.Usage, kernel figures) {
				if u.CPU.LimitMillis == nil || *u.CPU.LimitMillis != 200 {
					t.Errorf("a limit of %v", u.CPU.LimitMillis)
				}
				kernel.near(t, "cpu", nanoseconds(u.CPU.Total), period)
				kernel.near(t, "periods", u.CPU.Periods, 3)
				kernel.near(t, "throttledPeriods", u.CPU.ThrottledPeriods, 3)
				kernel.near(t, "throttled", nanoseconds(u.CPU.Throttled), 3*period)
				if kernel["throttledPeriods"] == 0 {
					t.Error("it was not throttled")
				}
			}},
		{"64 MiB to the disk", []string{"--memory=256Mi", "--workdir=/tmp"},
			"dd if=/dev/zero of=file bs=1048576 count=64 conv=fsync; figures", job.Completed,
			func(t *testing.T, u *job.Usage, kernel figures) {
				if _, said := kernel["write"]; !said { // no device: see docs/usage.md
					if u.IO.WriteBytes != nil {
						t.Errorf("%d bytes written, of which the kernel knows nothing", *u.IO.WriteBytes)
					}
					t.Skip("the kernel counts no I/O of this container")
				}
				kernel.near(t, "write", u.IO.WriteBytes, 1<<20)
				if kernel["version"] == 2 && kernel["write"] < 64<<20 { // version 1 may leave it to the flusher
					t.Errorf("only %d bytes were written", kernel["write"])
				}
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			outcome, kernel := measured(t, test.script, test.flags...)
			if outcome.Cause != test.cause {
				t.Fatalf("ended as %+v", outcome)
			}
			want := fmt.Sprintf("cgroup%d", kernel["version"])
			if source := outcome.Usage.Source; kernel["version"] > 0 && source != want {
				t.Errorf("measured by %q, want %q", source, want)
			}
			test.check(t, outcome.Usage, kernel)
			if u := outcome.Usage; u.Network.Total() != nil || u.Memory.OOMVictim != nil || u.RunQueueWaits != nil ||
				outcome.Probes != nil {
				t.Errorf("figures of eBPF, which is off: %+v, %+v", u, outcome.Probes)
			}
		})
	}
}
