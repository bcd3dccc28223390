package job

import (
	"encoding/json"
	"testing"
	"time"
)

func TestRateBetween(t *testing.T) {
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	sample := func(after time.Duration, cpu time.Duration, n uint64) Sample {
		half := cpu / 2
		return Sample{Time: at.Add(after), Usage: Usage{
			CPU: CPUUsage{Total: &cpu, Periods: new(10 * n), ThrottledPeriods: new(4 * n)},
			IO:  IOUsage{ReadBytes: new(100 * n), WriteBytes: new(200 * n)},
			Network: NetworkUsage{IPv4: &Traffic{ReceiveBytes: n, TransmitBytes: 2 * n},
				IPv6: &Traffic{ReceiveBytes: n, TransmitBytes: n}},
			Pressure: PressureUsage{CPUFull: &half, MemoryFull: &cpu},
		}}
	}
	for _, test := range []struct {
		name     string
		from, to Sample
		want     string
	}{
		{"all", sample(0, 0, 0), sample(2*time.Second, time.Second, 10),
			`{"cores":0.5,"readBytesPerSecond":500,"writeBytesPerSecond":1000,"receiveBytesPerSecond":10,"transmitBytesPerSecond":15,` +
				`"throttledShare":0.4,"cpuPressureShare":0.25,"memoryPressureShare":0.5}`},
		{"nothing grew", sample(0, time.Second, 1), sample(time.Second, time.Second, 1),
			`{"cores":0,"readBytesPerSecond":0,"writeBytesPerSecond":0,"receiveBytesPerSecond":0,"transmitBytesPerSecond":0,` +
				`"cpuPressureShare":0,"memoryPressureShare":0}`},
		{"counters went back", sample(0, 2*time.Second, 5), sample(time.Second, time.Second, 4), `{}`},
		{"no time between", sample(0, 0, 0), sample(0, time.Second, 1), `{}`},
		{"backwards", sample(time.Second, 0, 0), sample(0, time.Second, 1), `{}`},
		{"pressure of more than the time", sample(0, 0, 0), sample(time.Second, 3*time.Second, 0),
			`{"cores":3,"readBytesPerSecond":0,"writeBytesPerSecond":0,"receiveBytesPerSecond":0,"transmitBytesPerSecond":0,` +
				`"cpuPressureShare":1,"memoryPressureShare":1}`},
		{"no figures", Sample{Time: at}, Sample{Time: at.Add(time.Second)}, `{}`},
		{"known once", Sample{Time: at}, sample(time.Second, time.Second, 1), `{}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := json.Marshal(RateBetween(test.from, test.to))
			if err != nil || string(got) != test.want {
				t.Errorf("got %s, %v\nwant %s", got, err, test.want)
			}
		})
	}
}

func TestMeanCores(t *testing.T) {
	at := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	sample := func(after, cpu time.Duration) Sample {
		return Sample{Time: at.Add(after), Usage: Usage{CPU: CPUUsage{Total: &cpu}}}
	}
	outcome := func(wall, cpu time.Duration) *Outcome {
		return &Outcome{Started: at, Finished: at.Add(wall), Usage: &Usage{CPU: CPUUsage{Total: &cpu}}}
	}
	const start = 30 * time.Millisecond // what the container's start has cost
	for _, test := range []struct {
		name string
		run  Run
		want float64 // below 0: none
	}{
		{"nothing known", Run{}, -1},
		{"true", Run{Samples: []Sample{sample(0, start), sample(2*time.Millisecond, start)}, Outcome: outcome(2*time.Millisecond, start)},
			-1},
		{"the start is not the command's",
			Run{Samples: []Sample{sample(0, start)}, Outcome: outcome(200*time.Millisecond, start+100*time.Millisecond)}, 0.5},
		{"it runs", Run{Samples: []Sample{sample(0, start), sample(2*time.Second, start+time.Second)}}, 0.5},
		{"short, without samples", Run{Outcome: outcome(4*time.Second, time.Second)}, -1},
		{"long, without samples", Run{Outcome: outcome(10*time.Second, 5*time.Second)}, 0.5},
		{"samples without CPU", Run{Samples: []Sample{{Time: at}}, Outcome: outcome(10*time.Second, 5*time.Second)}, 0.5},
		{"not counted", Run{Outcome: &Outcome{Started: at, Finished: at.Add(time.Hour), Usage: &Usage{}}}, -1},
		{"went back", Run{Samples: []Sample{sample(0, start), sample(time.Second, 0)}}, -1},
		{"less than nothing", Run{Outcome: outcome(10*time.Second, -time.Second)}, -1},
		{"its start is not known", Run{Outcome: &Outcome{Finished: at, Usage: outcome(0, start).Usage}}, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.run.MeanCores()
			if (got == nil) != (test.want < 0) || got != nil && *got != test.want {
				t.Errorf("got %v, want %g", got, test.want)
			}
		})
	}
}
