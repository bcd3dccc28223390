package usage

import (
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// What is not known is empty, or says why.
func TestLines(t *testing.T) {
	const version1 = "Source: the kernel's files of the job's container (cgroup v1)"
	const version2 = "Source: the kernel's files of the job's container (cgroup v2)"
	quota := job.CPUUsage{Total: new(90 * time.Second), LimitMillis: new(uint64(1500)),
		Throttled: new(2 * time.Second), Periods: new(uint64(40)), ThrottledPeriods: new(uint64(20))}
	noQuota := job.CPUUsage{Throttled: new(time.Duration(0)), Periods: new(uint64(0))}
	waits := &job.Usage{Source: "cgroup2", RunQueueWaits: []uint64{50, 0, 49, 1}, RunQueueWatched: time.Second}
	for _, test := range []struct {
		name    string
		figures Figures
		want    string // the lines that say something
	}{
		{"nothing is known", Figures{Usage: &job.Usage{}}, "Source: nowhere: none could be read"},
		{"a later version's source", Figures{Usage: &job.Usage{Source: "cgroup3"}}, "Source: nowhere: none could be read"},
		{"of processes that are gone", Figures{Usage: &job.Usage{Source: "proc"}},
			"Source: /proc of the job's processes\nMemory: not counted: the processes were gone before they were looked at"},
		{"without a disk, and without eBPF", Figures{Usage: &job.Usage{Source: "cgroup1"}, NoEBPF: true},
			version1 + "\nDisk: not counted: cgroup v1 names no disk (newer kernels count only where a limit is set)\n" +
				"Network: not counted: it takes eBPF"},
		{"a probe that is absent", Figures{Usage: &job.Usage{Source: "cgroup2"},
			Probes: []job.Probe{{Name: "oom"}, {Name: "network", Absent: "no CAP_BPF"}}},
			version2 + "\nNetwork: not counted: no CAP_BPF"},
		{"a quota", Figures{Usage: &job.Usage{Source: "cgroup2", CPU: quota}, Rate: &job.Rate{Cores: new(1.25)}},
			version2 + "\nCPU: 90.0s, now 1.25 cores, limit 1.5\nThrottled: 2.00s in 20 of 40 periods"},
		{"no quota", Figures{Usage: &job.Usage{Source: "cgroup2", CPU: noQuota}},
			version2},
		{"waits for a CPU", Figures{Usage: waits, Wall: 40 * time.Second},
			version2 + "\nRun queue: of 100 waits for a CPU seen in 1.00s of 40.0s half below 1µs, 99% below 4µs"},
		{"long waits for a CPU", Figures{Usage: &job.Usage{Source: "cgroup2", RunQueueWaits: []uint64{0, 1}}},
			version2 + "\nRun queue: of 1 waits for a CPU half longer, 99% longer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var known []string
			for _, l := range test.figures.Lines() {
				if l.Text != "" {
					known = append(known, l.Name+": "+l.Text)
				}
			}
			if got := strings.Join(known, "\n"); got != test.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

func TestWaits(t *testing.T) {
	for _, test := range []struct {
		name string
		rate job.Rate
		want string
	}{
		{"not counted", job.Rate{}, Unknown},
		{"nothing", job.Rate{CPUPressure: new(0.0), MemoryPressure: new(0.009)}, ""},
		{"some", job.Rate{CPUPressure: new(0.01), MemoryPressure: new(0.5), IOPressure: new(1.0)}, "cpu 1% memory 50% disk 100%"},
	} {
		if got := Waits(test.rate); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
