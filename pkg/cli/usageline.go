package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// throttlingHurts is the share of the quota's periods with throttling from which on
	// it is told of: that from which the alert CPUThrottlingHigh of kubernetes-mixin
	// fires. Below it a burst was held back for a moment, which is what a quota is for.
	throttlingHurts = 0.25
	// throttledLeast is the least time that it has cost by then: a person does not
	// notice less than a second, and a command of a few periods has no share to speak of.
	throttledLeast = time.Second
	// pressureHurts is the share of the run in which all that there was to do waited. A
	// tenth is more than one run differs from the next by itself.
	pressureHurts = 0.10
)

// usageParts are what an attempt has cost, each figure in a few words. Those that are
// not known are left out, and so are those that tell nothing. wall is how long it ran,
// 0 if that is not known.
func usageParts(u *job.Usage, wall time.Duration, style usageStyle) []string {
	var parts []string
	add := func(known bool, format string, args ...any) {
		if known {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(u.CPU.Total != nil, "cpu %s%s", cpuTime(u.CPU.Total), style.cpu)
	add(u.Memory.Peak != nil, "memory %s%s", memoryPeak(u.Memory), style.memory)
	add(moved(u.IO.ReadBytes, u.IO.WriteBytes), "disk %s", directions(style.read, u.IO.ReadBytes, style.written, u.IO.WriteBytes))
	if net := u.Network.Total(); net != nil {
		add(true, "net %s", directions(style.received, &net.ReceiveBytes, style.sent, &net.TransmitBytes))
	}
	if share, hurts := throttled(u.CPU); hurts {
		add(true, "throttled %s in %s of the periods", cpuTime(u.CPU.Throttled), percent(share))
	}
	waits := waited(u.Pressure, wall)
	add(waits != "", "waited for %s", waits)
	if n := len(parts); n > 0 && strings.HasPrefix(u.Source, processSource) {
		parts[n-1] += " (of its processes)"
	}
	return parts
}

// processSource begins the name of a source that is weaker than a cgroup: what a process did
// that came and went unseen, and what the kernel holds for the job, is not in it.
const processSource = "proc"

// usageStyle is how the words around figures look: with arrows and curves on a
// terminal, as plain words elsewhere.
type usageStyle struct {
	read, written, received, sent string
	cpu, memory                   string // curves, each with a space before it
}

var (
	plainStyle  = usageStyle{read: "read ", written: "written ", received: "received ", sent: "sent "}
	arrowsStyle = usageStyle{read: "read ", written: "written ", received: "↓", sent: "↑"}
)

// withCurves adds the curves of samples to a style, if there are enough of them.
func (s usageStyle) withCurves(samples []job.Sample) usageStyle {
	if line := ui.Spark(cpuCurve(samples, sparkWidth)); line != "" {
		s.cpu = " " + line
	}
	if line := ui.Spark(memoryCurve(samples, sparkWidth)); line != "" {
		s.memory = " " + line
	}
	return s
}

// cpuTime is short also where it goes on for minutes: it is compared with other
// seconds.
func cpuTime(d *time.Duration) string {
	if d == nil {
		return ""
	}
	if *d >= time.Minute && *d < 1000*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return job.Duration(*d)
}

// memoryPeak says when it is only the highest of the samples: what there was between
// them nobody knows.
func memoryPeak(m job.MemoryUsage) string {
	if m.Peak == nil {
		return ""
	}
	text := job.MemorySize(*m.Peak)
	if m.PeakSampled {
		text += " or more"
	}
	if m.Limit != nil {
		text += " of " + job.MemorySize(*m.Limit)
	}
	return text
}

// moved tells that any of counters is above zero.
func moved(counters ...*uint64) bool {
	for _, c := range counters {
		if c != nil && *c > 0 {
			return true
		}
	}
	return false
}

// directions are two counters of bytes, each behind its word, as far as they are known.
func directions(firstWord string, first *uint64, secondWord string, second *uint64) string {
	var parts []string
	if first != nil {
		parts = append(parts, firstWord+job.DataSize(*first))
	}
	if second != nil {
		parts = append(parts, secondWord+job.DataSize(*second))
	}
	return strings.Join(parts, " ")
}

// throttled is the share of the quota's periods in which threads were held back, and
// whether that is worth telling.
func throttled(c job.CPUUsage) (share float64, hurts bool) {
	if c.Throttled == nil || c.Periods == nil || c.ThrottledPeriods == nil || *c.Periods == 0 {
		return 0, false
	}
	share = min(float64(*c.ThrottledPeriods)/float64(*c.Periods), 1)
	return share, share >= throttlingHurts && *c.Throttled >= throttledLeast
}

// waited names what was short so long that it is worth telling.
func waited(p job.PressureUsage, wall time.Duration) string {
	if wall <= 0 {
		return ""
	}
	var parts []string
	for _, w := range []struct {
		name string
		full *time.Duration
	}{{"cpu", p.CPUFull}, {"memory", p.MemoryFull}, {"disk", p.IOFull}} {
		if w.full == nil {
			continue
		}
		if share := min(w.full.Seconds()/wall.Seconds(), 1); share >= pressureHurts {
			parts = append(parts, w.name+" "+percent(share))
		}
	}
	return strings.Join(parts, ", ")
}

// percent writes a share as a person reads it.
func percent(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) }
