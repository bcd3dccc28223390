package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/job"
)

func TestUsageParts(t *testing.T) {
	const mi = 1 << 20
	second := new(time.Second)
	for _, test := range []struct {
		name  string
		usage job.Usage
		wall  time.Duration
		want  string
	}{
		{"nothing is known", job.Usage{}, time.Minute, ""},
		{"cpu", job.Usage{CPU: job.CPUUsage{Total: new(73100 * time.Millisecond)}}, time.Minute, "cpu 73.1s"},
		{"of processes", job.Usage{Source: "proc", CPU: job.CPUUsage{Total: second}, Memory: job.MemoryUsage{Peak: new(uint64(812 * mi))}}, time.Minute, "cpu 1.00s, memory 812Mi (of its processes)"},
		{"nothing of processes", job.Usage{Source: "proc"}, time.Minute, ""},
		{"of a cgroup", job.Usage{Source: "cgroup1", CPU: job.CPUUsage{Total: second}}, time.Minute, "cpu 1.00s"},
		{"little cpu", job.Usage{CPU: job.CPUUsage{Total: new(12 * time.Millisecond)}}, time.Minute, "cpu 0.01s"},
		{"cpu of hours", job.Usage{CPU: job.CPUUsage{Total: new(3 * time.Hour)}}, time.Minute, "cpu 3h0m0s"},
		{"memory without a limit", job.Usage{Memory: job.MemoryUsage{Peak: new(uint64(812 * mi))}}, 0, "memory 812Mi"},
		{"memory", job.Usage{Memory: job.MemoryUsage{Peak: new(uint64(812 * mi)), Limit: new(uint64(1024 * mi))}}, 0, "memory 812Mi of 1Gi"},
		{"a peak that was sampled", job.Usage{Memory: job.MemoryUsage{Peak: new(uint64(812 * mi)), PeakSampled: true, Limit: new(uint64(1024 * mi))}}, 0, "memory 812Mi or more of 1Gi"},
		{"no peak", job.Usage{Memory: job.MemoryUsage{Current: new(uint64(812 * mi))}}, 0, ""},
		{"disk", job.Usage{IO: job.IOUsage{ReadBytes: new(uint64(0)), WriteBytes: new(uint64(64 * mi))}}, 0, "disk read 0B written 67.1MB"},
		{"only written is known", job.Usage{IO: job.IOUsage{WriteBytes: new(uint64(64 * mi))}}, 0, "disk written 67.1MB"},
		{"no disk", job.Usage{IO: job.IOUsage{ReadBytes: new(uint64(0)), WriteBytes: new(uint64(0))}}, 0, ""},
		{"network", job.Usage{Network: job.NetworkUsage{IPv4: &job.Traffic{ReceiveBytes: 12e6}, IPv6: &job.Traffic{ReceiveBytes: 3e5, TransmitBytes: 4e5}}}, 0, "net received 12.3MB sent 400kB"},
		{"throttled", job.Usage{CPU: job.CPUUsage{Throttled: new(8 * time.Second), Periods: new(uint64(100)), ThrottledPeriods: new(uint64(80))}}, 0, "throttled 8.00s in 80% of the periods"},
		{"throttled now and then", job.Usage{CPU: job.CPUUsage{Throttled: new(8 * time.Second), Periods: new(uint64(100)), ThrottledPeriods: new(uint64(24))}}, 0, ""},
		{"throttled for a moment", job.Usage{CPU: job.CPUUsage{Throttled: new(time.Second - 1), Periods: new(uint64(3)), ThrottledPeriods: new(uint64(3))}}, 0, ""},
		{"no periods", job.Usage{CPU: job.CPUUsage{Throttled: second, Periods: new(uint64(0)), ThrottledPeriods: new(uint64(3))}}, 0, ""},
		{"pressure", job.Usage{Pressure: job.PressureUsage{CPUFull: second, MemoryFull: second, IOFull: new(5 * time.Second)}}, 10 * time.Second, "waited for cpu 10%, memory 10%, disk 50%"},
		{"little pressure", job.Usage{Pressure: job.PressureUsage{CPUFull: second, MemoryFull: second, IOFull: second}}, 11 * time.Second, ""},
		{"pressure of nobody knows how long", job.Usage{Pressure: job.PressureUsage{CPUFull: second}}, 0, ""},
		{"more pressure than time", job.Usage{Pressure: job.PressureUsage{IOFull: new(5 * time.Hour)}}, time.Second, "waited for disk 100%"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(usageParts(&test.usage, test.wall, plainStyle), ", "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// ramp is a run that uses more cores, and more memory, each second.
func ramp(n int) []job.Sample {
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	var samples []job.Sample
	var cpu time.Duration
	for i := range n {
		cpu += time.Duration(i) * time.Second
		samples = append(samples, job.Sample{Time: at.Add(time.Duration(i) * time.Second),
			Usage: job.Usage{CPU: job.CPUUsage{Total: new(cpu)}, Memory: job.MemoryUsage{Current: new(uint64(i))}}})
	}
	return samples
}

func TestCurves(t *testing.T) {
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	uneven := ramp(9)
	uneven = append(uneven[:2], uneven[6:]...) // the rate between is the mean
	for _, test := range []struct {
		name        string
		samples     []job.Sample
		cpu, memory []float64
	}{
		{"none", nil, nil, nil},
		{"too few", ramp(3), nil, nil},
		{"just enough", ramp(4), []float64{1, 2, 3}, []float64{1, 2, 3}},
		{"more than the width", ramp(17), []float64{1.5, 3.5, 5.5, 7.5, 9.5, 11.5, 13.5, 15.5}, []float64{2, 4, 6, 8, 10, 12, 14, 16}},
		{"uneven", uneven, []float64{2.5, 4, 4, 7.5}, []float64{1, 1, 6, 8}},
		{"at one time", []job.Sample{ramp(1)[0], ramp(1)[0], ramp(1)[0], ramp(1)[0]}, nil, nil},
		{"without figures", []job.Sample{{Time: at}, {Time: at.Add(1)}, {Time: at.Add(2)}, {Time: at.Add(3)}}, nil, nil},
		{"backwards", []job.Sample{ramp(4)[3], ramp(4)[2], ramp(4)[1], ramp(4)[0]}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := cpuCurve(test.samples, sparkWidth); !near(got, test.cpu) {
				t.Errorf("cpu %v, want %v", got, test.cpu)
			}
			if got := memoryCurve(test.samples, sparkWidth); !near(got, test.memory) {
				t.Errorf("memory %v, want %v", got, test.memory)
			}
		})
	}
}

func near(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if d := a[i] - b[i]; d < -1e-6 || d > 1e-6 {
			return false
		}
	}
	return true
}

// The cost stands behind a short end, and before a long one.
func TestSummaryPlain(t *testing.T) {
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	usage := &job.Usage{CPU: job.CPUUsage{Total: new(2 * time.Second)}}
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		want    string
	}{
		{"success", job.Outcome{Cause: job.Completed, Started: began, Finished: began.Add(time.Second), Usage: usage}, "exit 0 in 1.00s, cpu 2.00s\n"},
		{"no usage", job.Outcome{Cause: job.Completed, Started: began, Finished: began.Add(time.Second)}, "exit 0 in 1.00s\n"},
		{"no figures", job.Outcome{Cause: job.Error, Code: 3, Usage: &job.Usage{}}, "exit 3\n"},
		{"a message", job.Outcome{Cause: job.Completed, Message: "held open", Usage: usage}, "used cpu 2.00s\nexit 0: held open\n"},
		{"a message and no usage", job.Outcome{Cause: job.Completed, Message: "held open"}, "exit 0: held open\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			a := &app{IOStreams: genericiooptions.IOStreams{ErrOut: &out}, getenv: func(string) string { return "" }}
			newScreen(a, false).summary(&test.outcome, ramp(20))
			if out.String() != test.want {
				t.Errorf("got  %q\nwant %q", out.String(), test.want)
			}
		})
	}
}

func TestMoreMemory(t *testing.T) {
	q := func(s string) *resource.Quantity { return new(resource.MustParse(s)) }
	for _, test := range []struct {
		name string
		spec job.Spec
		used *job.Usage
		want string
	}{
		{"its memory", job.Spec{Memory: q("512Mi")}, nil, "--memory 1Gi"},
		{"its limit", job.Spec{Memory: q("512Mi"), MemoryLimit: q("1Gi")}, nil, "--memory-limit 2Gi"},
		{"the cluster's", job.Spec{}, &job.Usage{Memory: job.MemoryUsage{Limit: new(uint64(256 << 20))}}, "--memory 512Mi"},
		{"none is known", job.Spec{}, &job.Usage{}, "--memory SIZE"},
		{"nothing is known", job.Spec{}, nil, "--memory SIZE"},
		{"absurd", job.Spec{}, &job.Usage{Memory: job.MemoryUsage{Limit: new(uint64(1 << 63))}}, "--memory SIZE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := "run it again with more memory: " + test.want
			if got := moreMemory(&test.spec, test.used); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}
