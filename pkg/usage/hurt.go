package usage

import (
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// ThrottledShare is the share of the quota's periods from which on throttling has hurt. A run
	// that is held back in a tenth of its periods loses up to a tenth of its time, and a tenth is
	// more than one run differs from the next by itself. Below that a burst was held back for a
	// moment, which is what a quota is for. (The alert CPUThrottlingHigh of kubernetes-mixin fires
	// from a quarter on: it wakes somebody up, a summary does not.)
	ThrottledShare = 0.10
	// ThrottledLeast is the least time that it has cost by then: a person does not notice less than
	// a second, and a command of a few periods has no share to speak of.
	ThrottledLeast = time.Second
	// WaitedShare is the share of a run's time from which on waits of all its threads are told of,
	// for the same reason as ThrottledShare.
	WaitedShare = 0.10
	// waitsShare is the same between two samples of a job that runs: who watches it is to see what
	// begins to be short.
	waitsShare = 0.01
)

// Throttled returns the share of the quota's periods, 0 to 1, in which threads were held back, and
// whether that has hurt: from [ThrottledShare] on, if it has cost [ThrottledLeast] or more. Only then
// does a summary tell of it, a report mark it and an advice raise the limit. What is not known has
// not hurt.
func Throttled(c *job.CPUUsage) (share float64, hurt bool) {
	if c.Throttled == nil || c.Periods == nil || c.ThrottledPeriods == nil || *c.Periods == 0 {
		return 0, false
	}
	share = min(float64(*c.ThrottledPeriods)/float64(*c.Periods), 1)
	return share, share >= ThrottledShare && *c.Throttled >= ThrottledLeast
}

// waited names what all threads waited for so long that it is worth telling, with its share of the
// time.
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
	parts, _ := shares(WaitedShare, share(p.CPUFull), share(p.MemoryFull), share(p.IOFull))
	return strings.Join(parts, ", ")
}

// Waits names what all threads wait for now, with its share of the time, from a hundredth on. It is
// empty if that is nothing, and [Unknown] if the kernel does not count it.
func Waits(r job.Rate) string {
	parts, known := shares(waitsShare, r.CPUPressure, r.MemoryPressure, r.IOPressure)
	if !known {
		return Unknown
	}
	return strings.Join(parts, " ")
}

// shares writes those that are at least so large, and tells whether any is known.
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
