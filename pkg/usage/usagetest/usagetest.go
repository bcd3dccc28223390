// Package usagetest has figures of a job for tests of what shows them. It is for tests alone.
package usagetest

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Began is when the job of [Sample] began.
var Began = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

// Sample is taken so many seconds after Began, of a job that has used so many cores of two ever
// since. It has all figures that hodei top shows.
func Sample(seconds int, cores float64) *job.Sample {
	n := uint64(seconds)
	return &job.Sample{Time: Began.Add(time.Duration(n) * time.Second), Usage: job.Usage{
		CPU: job.CPUUsage{
			Total: new(time.Duration(cores * float64(n) * 1e9)), LimitMillis: new(uint64(2000)),
			Periods: new(10 * n), ThrottledPeriods: new(3 * n),
		},
		Memory:  job.MemoryUsage{Current: new(uint64(512 << 20)), Peak: new(uint64(812 << 20)), Limit: new(uint64(1 << 30))},
		IO:      job.IOUsage{ReadBytes: new(1000 * n), WriteBytes: new(2_500_000 * n)},
		Network: job.NetworkUsage{IPv4: &job.Traffic{ReceiveBytes: 100 * n, TransmitBytes: 200 * n}},
		Pids:    job.PidsUsage{Current: new(uint64(7))},
		Pressure: job.PressureUsage{
			CPUFull:    new(time.Duration(n) * 100 * time.Millisecond),
			MemoryFull: new(time.Duration(0)),
			IOFull:     new(time.Duration(n) * 20 * time.Millisecond),
		},
	}}
}
