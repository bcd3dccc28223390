package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// sources says where figures come from.
var sources = map[string]string{
	"cgroup2":      "the kernel's files of the job's container (cgroup v2)",
	"cgroup1":      "the kernel's files of the job's container (cgroup v1)",
	"cgroup2+ebpf": "the kernel's files of the job's container (cgroup v2), and eBPF",
	"cgroup1+ebpf": "the kernel's files of the job's container (cgroup v1), and eBPF",
	procSource:     "/proc of the job's processes",
	"proc+ebpf":    "/proc of the job's processes, and eBPF",
}

// procSource is that of a job without a container.
const procSource = "proc"

// ebpfSource ends the name of a source that eBPF assists.
const ebpfSource = "+ebpf"

// ebpfOff tells that no eBPF assists: its agent says so, now or in its exit record. Samples
// that are stored do not tell of parts that are absent.
func (a *describedAttempt) ebpfOff() bool {
	told := a.asked || a.Outcome != nil && a.Sampled.IsZero()
	return told && len(a.Probes) == 0 && a.Usage != nil && a.Usage.Source != "" && !strings.HasSuffix(a.Usage.Source, ebpfSource)
}

func (t *describer) usage(a *describedAttempt) {
	u := a.Usage
	when := "at its end"
	if !a.Sampled.IsZero() {
		when = "at " + t.stamp(a.Sampled)
	}
	t.head(1, "Usage", when)
	source := sources[u.Source]
	if source == "" {
		source = "nowhere: none could be read"
	}
	t.line(2, "Source", source)
	var rate job.Rate
	if a.Rate != nil {
		rate = *a.Rate
	}
	t.line(2, "CPU", cpuText(u.CPU, rate))
	t.line(2, "Throttled", throttledText(u.CPU))
	t.line(2, "Memory", memoryText(u))
	t.line(2, "Of that", listed(
		sized("anonymous", u.Memory.Anon), sized("page cache", u.Memory.File), sized("kernel", u.Memory.Kernel),
		sized("swap", u.Memory.Swap), sized("huge pages", u.Memory.HugePages)))
	t.line(2, "Out of memory", listed(counted64("limit reached", u.Memory.MaxEvents), counted64("events", u.Memory.OOMEvents), counted64("kills", u.Memory.OOMKills), victimText(u.Memory.OOMVictim)))
	t.line(2, "Disk", ioText(u, rate))
	t.line(2, "Network", networkText(a, rate))
	if u.Pids.Current != nil {
		t.line(2, "Threads", of(count(u.Pids.Current), u.Pids.Limit)+", the launcher's among them")
	}
	t.line(2, "Waited", listed(
		timed("cpu", u.Pressure.CPUSome, u.Pressure.CPUFull), timed("memory", u.Pressure.MemorySome, u.Pressure.MemoryFull),
		timed("disk", u.Pressure.IOSome, u.Pressure.IOFull)))
	t.line(2, "Run queue", runQueueText(u, a.Outcome))
}

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

// memoryText says why there is nothing, where that is known.
func memoryText(u *job.Usage) string {
	m := u.Memory
	if m.Current == nil && m.Peak == nil && u.Source == procSource {
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

func counted64(name string, n *uint64) string {
	if n == nil {
		return ""
	}
	return fmt.Sprintf("%s %d", name, *n)
}

func victimText(v *job.OOMVictim) string {
	if v == nil {
		return ""
	}
	text := fmt.Sprintf("killed %s (pid %d on the node", ui.Printable(v.Name), v.Pid)
	if v.Bytes > 0 {
		text += ", " + job.MemorySize(v.Bytes)
	}
	return text + ")"
}

// ioText says why there is nothing, where that is known.
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
		text += fmt.Sprintf(", now %s and %s", perSecond(rate.ReadBytes), perSecond(rate.WriteBytes))
	}
	return text
}

// networkText says why there is nothing, where that is known: only the eBPF could tell.
func networkText(a *describedAttempt, rate job.Rate) string {
	n := a.Usage.Network
	total := n.Total()
	if total == nil {
		for _, p := range a.Probes {
			if p.Name == "network" && p.Absent != "" {
				return "not counted: " + p.Absent
			}
		}
		if a.ebpfOff() {
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
		text += fmt.Sprintf(", now %s and %s", perSecond(rate.ReceiveBytes), perSecond(rate.TransmitBytes))
	}
	return text
}

// of adds a limit to a figure.
func of(text string, limit *uint64) string {
	if limit != nil {
		text += fmt.Sprintf(" of %d", *limit)
	}
	return text
}

// timed is how long some, and all, waited.
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

// runQueueText is how long threads waited for a CPU, as far as powers of two tell, and
// that they are a sample.
func runQueueText(u *job.Usage, o *job.Outcome) string {
	waits := u.RunQueueWaits
	var total float64
	for _, n := range waits {
		total += float64(n)
	}
	if total == 0 {
		return ""
	}
	below := func(share float64) string {
		var sum float64
		for i, n := range waits {
			if sum += float64(n); sum >= share*total {
				if i == len(waits)-1 || i >= 40 { // two weeks
					return "longer"
				}
				return "below " + time.Duration(int64(1)<<i*int64(time.Microsecond)).String()
			}
		}
		return "longer"
	}
	seen := ""
	if u.RunQueueWatched > 0 {
		seen = " seen in " + job.Duration(u.RunQueueWatched)
		if o != nil && o.Finished.After(o.Started) && !o.Started.IsZero() {
			seen += " of " + job.Duration(o.Finished.Sub(o.Started))
		}
	}
	return fmt.Sprintf("of %.0f waits for a CPU%s half %s, 99%% %s", total, seen, below(0.5), below(0.99))
}
