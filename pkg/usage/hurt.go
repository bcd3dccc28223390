package usage

import (
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// throttledShare is the least share of the quota's periods in which throttling has hurt. A run that is held back in
	// a tenth of its periods loses up to a tenth of its time, which is more than two runs of one command usually
	// differ by. With a smaller share, a burst was held back for a moment, and that is what a quota is for. (The alert
	// CPUThrottlingHigh of kubernetes-mixin fires at a quarter, because it wakes somebody up; a summary does not.)
	throttledShare = 0.10
	// throttledLeast is the least time for which threads must have been held back: nobody notices less than a second,
	// and in a run of a few periods a share means nothing.
	throttledLeast = time.Second
	// waitedShare is the least share of a run's time for which all its threads must have waited before a summary says
	// so. The reason is that of throttledShare.
	waitedShare = 0.10
	// waitsShare is the same between two samples of a running job. It is smaller, so that somebody who watches the job
	// sees early what runs short.
	waitsShare = 0.01
)

// Throttled returns the share of the quota's periods, 0 to 1, in which threads were held back, and whether that has
// hurt: in a tenth of the periods or more, and for a second or more. Only then does a summary mention it, a report mark
// it and an advice raise the limit. If a figure is missing, throttling has not hurt.
func Throttled(c *job.CPUUsage) (share float64, hurt bool) {
	if c.Throttled == nil || c.Periods == nil || c.ThrottledPeriods == nil || *c.Periods == 0 {
		return 0, false
	}
	share = min(float64(*c.ThrottledPeriods)/float64(*c.Periods), 1)
	return share, share >= throttledShare && *c.Throttled >= throttledLeast
}

// waited returns what all threads waited for during at least waitedShare of the time, each with its share; empty:
// nothing.
func waited(p job.PressureUsage, wall time.Duration) string {
	if wall <= 0 {
		return ""
	}
	share := func(full *time.Duration) *float64 {
		if full == nil {
			return nil
		}
		return new(min(full.Seconds()/wall.Seconds(), 1))
	}
	parts, _ := shares(waitedShare, share(p.CPUFull), share(p.MemoryFull), share(p.IOFull))
	return strings.Join(parts, ", ")
}

// Waits returns what all threads wait for now, each with its share of the time, if that is a hundredth or more. It is
// empty if there is nothing, and [Unknown] if the kernel does not count waits.
func Waits(r job.Rate) string {
	parts, known := shares(waitsShare, r.CPUPressure, r.MemoryPressure, r.IOPressure)
	if !known {
		return Unknown
	}
	return strings.Join(parts, " ")
}

// shares writes the shares that are least or more, and reports whether any share is known.
func shares(least float64, cpu, memory, disk *float64) (parts []string, known bool) {
	for _, w := range []struct {
		name  string
		share *float64
	}{{"cpu", cpu}, {"memory", memory}, {"disk", disk}} {
		if w.share == nil {
			continue
		}
		known = true
		if *w.share >= least {
			parts = append(parts, w.name+" "+Percent(*w.share))
		}
	}
	return parts, known
}
