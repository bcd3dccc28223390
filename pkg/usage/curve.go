package usage

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// leastPoints is the fewest points that are drawn: with fewer, a line of bars tells no more than a number.
const leastPoints = 3

// CPUCurve returns the use of CPU over a run, in cores: the mean in each of n equal parts of its time, or of fewer
// parts if there are few samples. samples are in the order of their times. The curve is nil if fewer than four have
// the figure.
func CPUCurve(samples []job.Sample, n int) []float64 {
	var known []job.Sample
	for _, s := range samples {
		if s.Usage.CPU.Total != nil {
			known = append(known, s)
		}
	}
	return curve(known, min(n, len(known)-1), func(from, to time.Time) float64 {
		return (cpuAt(known, to) - cpuAt(known, from)) / to.Sub(from).Seconds()
	})
}

// MemoryCurve returns the highest use of memory in each part, in bytes. See [CPUCurve] for the parts.
func MemoryCurve(samples []job.Sample, n int) []float64 {
	var known []job.Sample
	for _, s := range samples {
		if s.Usage.Memory.Current != nil {
			known = append(known, s)
		}
	}
	return curve(known, min(n, len(known)-1), func(from, to time.Time) float64 {
		highest := 0.0
		for i, s := range known {
			// A sample counts until the next one.
			if !s.Time.After(to) && (!s.Time.Before(from) || i+1 < len(known) && known[i+1].Time.After(to)) {
				highest = max(highest, float64(*s.Usage.Memory.Current))
			}
		}
		return highest
	})
}

// curve divides the time of samples into n equal parts, and returns the value of each. It is nil if there are too few.
func curve(samples []job.Sample, n int, value func(from, to time.Time) float64) []float64 {
	if n < leastPoints {
		return nil
	}
	first, last := samples[0].Time, samples[len(samples)-1].Time
	part := last.Sub(first) / time.Duration(n)
	if part <= 0 {
		return nil
	}
	values := make([]float64, n)
	for i := range values {
		from := first.Add(time.Duration(i) * part)
		values[i] = value(from, from.Add(part))
	}
	return values
}

// cpuAt returns the CPU time at t, in seconds. It takes the time to grow evenly between two samples.
func cpuAt(samples []job.Sample, t time.Time) float64 {
	before := samples[0]
	for _, s := range samples {
		total := s.Usage.CPU.Total.Seconds()
		if s.Time.Before(t) {
			before = s
			continue
		}
		had, wall := before.Usage.CPU.Total.Seconds(), s.Time.Sub(before.Time)
		if wall <= 0 {
			return total
		}
		return had + (total-had)*t.Sub(before.Time).Seconds()/wall.Seconds()
	}
	return before.Usage.CPU.Total.Seconds()
}
