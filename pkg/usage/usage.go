// Package usage says in a few words what a job has used, and decides which figures have hurt it, so that the summary of
// a run, describe, top, report and advise agree. Start with [Parts], the words of a summary. [Figures] has everything
// that is known, and [Throttled] is the rule for a CPU limit that has hurt.
//
// It measures nothing and draws nothing: curves are numbers. Texts of the job itself, such as the name of a process or
// the reason why a probe is absent, are passed on unchanged. The caller makes them printable.
package usage

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Unknown stands for a figure that is not known, where something has to be shown.
const Unknown = "-"

// Parts returns what an attempt has cost, each figure in a few words. It leaves out figures that
// are not known or tell nothing. wall is how long the command ran; 0: not known.
func Parts(u *job.Usage, wall time.Duration, style Style) []string {
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
	if share, hurt := Throttled(&u.CPU); hurt {
		add(true, "throttled %s in %s of the periods", cpuTime(u.CPU.Throttled), Percent(share))
	}
	waits := waited(u.Pressure, wall)
	add(waits != "", "waited for %s", waits)
	if n := len(parts); n > 0 && strings.HasPrefix(u.Source, processSource) {
		parts[n-1] += " (of its processes)"
	}
	return parts
}

// Style is how the words around figures look. The zero value has none: start with [Plain] or
// [Arrows].
type Style struct {
	read, written, received, sent string
	cpu, memory                   string // curves, each with a space before it
}

// Plain returns the style for what is not a terminal: words alone.
func Plain() Style {
	return Style{read: "read ", written: "written ", received: "received ", sent: "sent "}
}

// Arrows returns the style for a terminal.
func Arrows() Style {
	return Style{read: "read ", written: "written ", received: "↓", sent: "↑"}
}

// curveWidth is the width in columns of a curve between words, with which a summary fits 100 columns.
const curveWidth = 8

// WithCurves returns s with a curve behind CPU and one behind memory, if there are enough samples. draw writes a curve.
func (s Style) WithCurves(samples []job.Sample, draw func(values []float64) string) Style {
	if line := draw(CPUCurve(samples, curveWidth)); line != "" {
		s.cpu = " " + line
	}
	if line := draw(MemoryCurve(samples, curveWidth)); line != "" {
		s.memory = " " + line
	}
	return s
}

// cpuTime writes d in seconds if it is below 1000 s, because readers compare it with other seconds.
func cpuTime(d *time.Duration) string {
	if d == nil {
		return ""
	}
	if *d >= time.Minute && *d < 1000*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return job.Duration(*d)
}

// memoryPeak writes the peak and the limit. If the peak is only the highest sample it adds "or more", because the use
// may have been higher between two samples.
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

// moved reports whether any of counters is known and above zero.
func moved(counters ...*uint64) bool {
	for _, c := range counters {
		if c != nil && *c > 0 {
			return true
		}
	}
	return false
}

// directions writes two counters of bytes, each behind its word. A counter that is not known is left out.
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

// Percent writes a share, 0 to 1, in percent: 80%.
func Percent(share float64) string { return fmt.Sprintf("%.0f%%", 100*share) }

// PerSecond writes a rate of bytes. It returns [Unknown] for nil, and for a rate that no counter of 64 bits can have.
func PerSecond(rate *float64) string {
	if rate == nil || *rate < 0 || *rate >= 1<<63 {
		return Unknown
	}
	return job.DataSize(uint64(*rate+0.5)) + "/s"
}
