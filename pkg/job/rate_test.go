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
			CPU:      CPUUsage{Total: &cpu, Periods: new(10 * n), ThrottledPeriods: new(4 * n)},
			IO:       IOUsage{ReadBytes: new(100 * n), WriteBytes: new(200 * n)},
			Network:  NetworkUsage{IPv4: &Traffic{ReceiveBytes: n, TransmitBytes: 2 * n}, IPv6: &Traffic{ReceiveBytes: n, TransmitBytes: n}},
			Pressure: PressureUsage{CPUFull: &half, MemoryFull: &cpu},
		}}
	}
	for _, test := range []struct {
		name     string
		from, to Sample
		want     string
	}{
		{"all", sample(0, 0, 0), sample(2*time.Second, time.Second, 10),
			`{"cores":0.5,"readBytesPerSecond":500,"writeBytesPerSecond":1000,"receiveBytesPerSecond":10,"transmitBytesPerSecond":15,"throttledShare":0.4,"cpuPressureShare":0.25,"memoryPressureShare":0.5}`},
		{"nothing grew", sample(0, time.Second, 1), sample(time.Second, time.Second, 1),
			`{"cores":0,"readBytesPerSecond":0,"writeBytesPerSecond":0,"receiveBytesPerSecond":0,"transmitBytesPerSecond":0,"cpuPressureShare":0,"memoryPressureShare":0}`},
		{"counters went back", sample(0, 2*time.Second, 5), sample(time.Second, time.Second, 4), `{}`},
		{"no time between", sample(0, 0, 0), sample(0, time.Second, 1), `{}`},
		{"backwards", sample(time.Second, 0, 0), sample(0, time.Second, 1), `{}`},
		{"pressure of more than the time", sample(0, 0, 0), sample(time.Second, 3*time.Second, 0),
			`{"cores":3,"readBytesPerSecond":0,"writeBytesPerSecond":0,"receiveBytesPerSecond":0,"transmitBytesPerSecond":0,"cpuPressureShare":1,"memoryPressureShare":1}`},
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
