package usage

import (
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestParts(t *testing.T) {
	const mi = 1 << 20
	second := new(time.Second)
	cpu := func(total time.Duration) job.Usage { return job.Usage{CPU: job.CPUUsage{Total: &total}} }
	memory := func(m job.MemoryUsage) job.Usage { return job.Usage{Memory: m} }
	peak, limit := new(uint64(812*mi)), new(uint64(1024*mi))
	disk := func(read, written *uint64) job.Usage {
		return job.Usage{IO: job.IOUsage{ReadBytes: read, WriteBytes: written}}
	}
	throttled := func(cost time.Duration, throttled, periods uint64) job.Usage {
		return job.Usage{CPU: job.CPUUsage{Throttled: &cost, Periods: &periods, ThrottledPeriods: &throttled}}
	}
	pressure := func(p job.PressureUsage) job.Usage { return job.Usage{Pressure: p} }
	for _, test := range []struct {
		name  string
		usage job.Usage
		wall  time.Duration
		want  string
	}{
		{"nothing is known", job.Usage{}, time.Minute, ""},
		{"cpu", cpu(73100 * time.Millisecond), time.Minute, "cpu 73.1s"},
		{"of processes", job.Usage{Source: "proc", CPU: job.CPUUsage{Total: second}, Memory: job.MemoryUsage{Peak: peak}}, time.Minute,
			"cpu 1.00s, memory 812Mi (of its processes)"},
		{"nothing of processes", job.Usage{Source: "proc"}, time.Minute, ""},
		{"of a cgroup", job.Usage{Source: "cgroup1", CPU: job.CPUUsage{Total: second}}, time.Minute, "cpu 1.00s"},
		{"little cpu", cpu(12 * time.Millisecond), time.Minute, "cpu 0.01s"},
		{"cpu of hours", cpu(3 * time.Hour), time.Minute, "cpu 3h0m0s"},
		{"memory without a limit", memory(job.MemoryUsage{Peak: peak}), 0, "memory 812Mi"},
		{"memory", memory(job.MemoryUsage{Peak: peak, Limit: limit}), 0, "memory 812Mi of 1Gi"},
		{"a peak that was sampled", memory(job.MemoryUsage{Peak: peak, PeakSampled: true, Limit: limit}), 0,
			"memory 812Mi or more of 1Gi"},
		{"no peak", memory(job.MemoryUsage{Current: peak}), 0, ""},
		{"disk", disk(new(uint64(0)), new(uint64(64*mi))), 0, "disk read 0B written 67.1MB"},
		{"only written is known", disk(nil, new(uint64(64*mi))), 0, "disk written 67.1MB"},
		{"no disk", disk(new(uint64(0)), new(uint64(0))), 0, ""},
		{"network", job.Usage{Network: job.NetworkUsage{
			IPv4: &job.Traffic{ReceiveBytes: 12e6}, IPv6: &job.Traffic{ReceiveBytes: 3e5, TransmitBytes: 4e5}}}, 0,
			"net received 12.3MB sent 400kB"},
		{"throttled", throttled(8*time.Second, 80, 100), 0, "throttled 8.00s in 80% of the periods"},
		{"throttled often enough", throttled(time.Second, 10, 100), 0, "throttled 1.00s in 10% of the periods"},
		{"throttled now and then", throttled(8*time.Second, 9, 100), 0, ""},
		{"throttled for a moment", throttled(time.Second-1, 3, 3), 0, ""},
		{"no periods", throttled(time.Second, 3, 0), 0, ""},
		{"pressure", pressure(job.PressureUsage{CPUFull: second, MemoryFull: second, IOFull: new(5 * time.Second)}), 10 * time.Second,
			"waited for cpu 10%, memory 10%, disk 50%"},
		{"little pressure", pressure(job.PressureUsage{CPUFull: second, MemoryFull: second, IOFull: second}), 11 * time.Second, ""},
		{"pressure of nobody knows how long", pressure(job.PressureUsage{CPUFull: second}), 0, ""},
		{"more pressure than time", pressure(job.PressureUsage{IOFull: new(5 * time.Hour)}), time.Second, "waited for disk 100%"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(Parts(&test.usage, test.wall, Plain()), ", "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}
