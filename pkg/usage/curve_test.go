package usage

import (
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

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
			if got := CPUCurve(test.samples, curveWidth); !near(got, test.cpu) {
				t.Errorf("cpu %v, want %v", got, test.cpu)
			}
			if got := MemoryCurve(test.samples, curveWidth); !near(got, test.memory) {
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
