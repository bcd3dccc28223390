package usage

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Figures are all that is known of what an attempt has used.
type Figures struct {
	// Usage are the figures. It must not be nil.
	Usage *job.Usage
	// Rate is what the attempt uses now; nil: not known, or the attempt is over.
	Rate *job.Rate
	// Wall is how long the command ran; 0: not known.
	Wall time.Duration
	// Probes are the parts of the eBPF assist. NoEBPF is true if there is none. Without Probes and NoEBPF, nothing is
	// known of eBPF.
	Probes []job.Probe
	NoEBPF bool
}

// Line is a figure, or several that belong together, in words.
type Line struct {
	Name string
	// Text is empty where nothing is known.
	Text string
}

// Lines returns all figures in words, always the same ones in the same order. A figure that is not known has no text.
func (f *Figures) Lines() []Line {
	u := f.Usage
	var rate job.Rate
	if f.Rate != nil {
		rate = *f.Rate
	}
	return []Line{
		{"Source", sourceText(u.Source)},
		{"CPU", cpuText(u.CPU, rate)},
		{"Throttled", throttledText(u.CPU)},
		{"Memory", memoryText(u)},
		{"Of that", listed(
			sized("anonymous", u.Memory.Anon), sized("page cache", u.Memory.File), sized("kernel", u.Memory.Kernel),
			sized("swap", u.Memory.Swap), sized("huge pages", u.Memory.HugePages))},
		{"Out of memory", listed(
			counted("limit reached", u.Memory.MaxEvents), counted("events", u.Memory.OOMEvents),
			counted("kills", u.Memory.OOMKills), victimText(u.Memory.OOMVictim))},
		{"Disk", ioText(u, rate)},
		{"Network", f.networkText(rate)},
		{"Threads", threadsText(u.Pids)},
		{"Waited", listed(
			timed("cpu", u.Pressure.CPUSome, u.Pressure.CPUFull), timed("memory", u.Pressure.MemorySome, u.Pressure.MemoryFull),
			timed("disk", u.Pressure.IOSome, u.Pressure.IOFull))},
		{"Run queue", f.runQueueText()},
	}
}

// listed joins the parts that are not empty.
func listed(parts ...string) string {
	var known []string
	for _, p := range parts {
		if p != "" {
			known = append(known, p)
		}
	}
	return strings.Join(known, ", ")
}

func cpuText(c job.CPUUsage, rate job.Rate) string {
	if c.Total == nil {
		return ""
	}
	text := cpuTime(c.Total)
	if c.User != nil && c.System != nil {
		text += fmt.Sprintf(" (%s user, %s system)", cpuTime(c.User), cpuTime(c.System))
	}
	if rate.Cores != nil {
		text += fmt.Sprintf(", now %.2f cores", *rate.Cores)
	}
	if c.LimitMillis != nil {
		text += fmt.Sprintf(", limit %g", float64(*c.LimitMillis)/1000)
	}
	return text
}

func throttledText(c job.CPUUsage) string {
	if c.Throttled == nil || c.Periods != nil && *c.Periods == 0 { // there is no quota
		return ""
	}
	text := cpuTime(c.Throttled)
	if c.Periods != nil && c.ThrottledPeriods != nil {
		text += fmt.Sprintf(" in %d of %d periods", *c.ThrottledPeriods, *c.Periods)
	}
	return text
}

// memoryText writes the use of memory. If there is none, it says why, if that is known.
func memoryText(u *job.Usage) string {
	m := u.Memory
	if m.Current == nil && m.Peak == nil && u.Source == processSource {
		return "not counted: the processes were gone before they were looked at"
	}
	peak := ""
	if m.Peak != nil {
		peak = "peak " + job.MemorySize(*m.Peak)
		if m.PeakSampled {
			peak += " or more: the highest sample"
		}
	}
	limit := ""
	if m.Limit != nil {
		limit = "limit " + job.MemorySize(*m.Limit)
	}
	current := ""
	if m.Current != nil {
		current = job.MemorySize(*m.Current)
	}
	return listed(current, peak, limit)
}

func sized(name string, bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	return name + " " + job.MemorySize(*bytes)
}

func counted(name string, n *uint64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%s %d", name, *n)
}

func victimText(v *job.OOMVictim) string {
	if v == nil {
		return ""
	}
	text := fmt.Sprintf("killed %s (pid %d on the node", v.Name, v.Pid)
	if v.Bytes > 0 {
		text += ", " + job.MemorySize(v.Bytes)
	}
	return text + ")"
}

// ioText writes what was read and written. If nothing was counted, it says why, if that is known.
func ioText(usage *job.Usage, rate job.Rate) string {
	u := usage.IO
	text := directions("read ", u.ReadBytes, "written ", u.WriteBytes)
	switch {
	case text == "" && strings.HasPrefix(usage.Source, "cgroup1"):
		return "not counted: cgroup v1 names no disk (newer kernels count only where a limit is set)"
	case text == "":
		return ""
	}
	if u.ReadOps != nil && u.WriteOps != nil {
		text += fmt.Sprintf(" in %d and %d operations", *u.ReadOps, *u.WriteOps)
	}
	if rate.ReadBytes != nil && rate.WriteBytes != nil {
		text += fmt.Sprintf(", now %s and %s", PerSecond(rate.ReadBytes), PerSecond(rate.WriteBytes))
	}
	return text
}

// networkText writes what was received and sent, which only eBPF counts. If nothing was counted, it says why, if that
// is known.
func (f *Figures) networkText(rate job.Rate) string {
	n := f.Usage.Network
	total := n.Total()
	if total == nil {
		for _, p := range f.Probes {
			if p.Name == "network" && p.Absent != "" {
				return "not counted: " + p.Absent
			}
		}
		if f.NoEBPF {
			return "not counted: it takes eBPF"
		}
		return ""
	}
	text := directions("received ", &total.ReceiveBytes, "sent ", &total.TransmitBytes)
	text += fmt.Sprintf(" in %d and %d packets", total.ReceivePackets, total.TransmitPackets)
	if n.IPv6 != nil {
		text += fmt.Sprintf(", of that by IPv6 %s and %s", job.DataSize(n.IPv6.ReceiveBytes), job.DataSize(n.IPv6.TransmitBytes))
	}
	if rate.ReceiveBytes != nil && rate.TransmitBytes != nil {
		text += fmt.Sprintf(", now %s and %s", PerSecond(rate.ReceiveBytes), PerSecond(rate.TransmitBytes))
	}
	return text
}

func threadsText(p job.PidsUsage) string {
	if p.Current == nil {
		return ""
	}
	text := fmt.Sprint(*p.Current)
	if p.Limit != nil {
		text += fmt.Sprintf(" of %d", *p.Limit)
	}
	return text + ", the launcher's among them"
}

// timed writes for how long some threads waited, and for how long all of them did.
func timed(name string, some, full *time.Duration) string {
	switch {
	case some == nil && full == nil:
		return ""
	case full == nil:
		return name + " " + cpuTime(some)
	case some == nil:
		return name + " all " + cpuTime(full)
	}
	return fmt.Sprintf("%s %s (all %s)", name, cpuTime(some), cpuTime(full))
}

// runQueueText writes how long threads waited for a CPU, to the next power of two, and during which part of the run the
// waits were counted.
func (f *Figures) runQueueText() string {
	waits := f.Usage.RunQueueWaits
	var total float64
	for _, n := range waits {
		total += float64(n)
	}
	if total == 0 {
		return ""
	}
	seen := ""
	if f.Usage.RunQueueWatched > 0 {
		seen = " seen in " + job.Duration(f.Usage.RunQueueWatched)
		if f.Wall > 0 {
			seen += " of " + job.Duration(f.Wall)
		}
	}
	return fmt.Sprintf("of %.0f waits for a CPU%s half %s, 99%% %s", total, seen, below(waits, 0.5*total), below(waits, 0.99*total))
}

// below writes the duration that at least n of the waits stayed below.
func below(waits []uint64, n float64) string {
	const longest = 40 // of the powers of two: two weeks
	var sum float64
	for i, count := range waits {
		if sum += float64(count); sum < n {
			continue
		}
		if i == len(waits)-1 || i >= longest {
			break
		}
		return "below " + time.Duration(int64(1)<<i*int64(time.Microsecond)).String()
	}
	return "longer"
}
