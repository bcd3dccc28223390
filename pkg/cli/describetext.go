package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// print writes d as kubectl describe writes its objects, with times of a zone.
func (d *description) print(out io.Writer, now time.Time, zone *time.Location) error {
	t := &describer{w: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0), zone: zone}
	t.line(0, "Name", d.Name)
	t.line(0, "Namespace", d.Namespace)
	t.line(0, "Provider", d.Provider)
	if !d.Created.IsZero() {
		t.line(0, "Created", fmt.Sprintf("%s (%s ago)", t.stamp(d.Created), duration.HumanDuration(now.Sub(d.Created))))
	}
	state := d.State
	if d.Outcome != nil {
		state = endText(d.Outcome)
	}
	t.line(0, "State", state)
	if d.Spec != nil {
		t.spec(d.Spec)
	}
	for i := range d.Attempts {
		t.attempt(&d.Attempts[i])
	}
	if len(d.Attempts) == 0 {
		t.line(0, "Attempts", "none")
	}
	switch {
	case len(d.Events) > 0:
		t.events(d.Events, now)
	case !d.absent:
		t.line(0, "Events", "none")
	}
	for _, why := range d.Missing {
		t.line(0, "Missing", why)
	}
	if t.err != nil {
		return t.err
	}
	return t.w.Flush()
}

// endText is how something ended, its cause first.
func endText(o *job.Outcome) string {
	text := o.Summary()
	if !strings.HasPrefix(text, string(o.Cause)) {
		text = string(o.Cause) + ": " + text
	}
	return text
}

// describer writes names and values, the values under one another.
type describer struct {
	w    *tabwriter.Writer
	zone *time.Location
	err  error
}

func (t *describer) write(text string) {
	if t.err == nil {
		_, t.err = io.WriteString(t.w, text)
	}
}

// line writes a name and its value; nothing where the value is empty.
func (t *describer) line(depth int, name, value string) {
	if value != "" {
		t.write(strings.Repeat("  ", depth) + name + ":\t" + ui.Printable(value) + "\n")
	}
}

// head begins a section.
func (t *describer) head(depth int, name, value string) {
	t.write(strings.TrimRight(strings.Repeat("  ", depth)+name+":\t"+ui.Printable(value), "\t ") + "\n")
}

func (t *describer) spec(s *job.Spec) {
	t.line(0, "Command", commandLine(s.Command))
	image := s.Image
	if image == "" {
		image = "the worker's own"
	}
	t.line(0, "Image", image)
	t.line(0, "User", s.User)
	t.line(0, "Workdir", s.Workdir)
	var names []string
	for _, v := range s.Env {
		names = append(names, v.Name)
	}
	for _, e := range s.EnvFrom {
		if e.Secret != "" {
			names = append(names, "all of secret/"+e.Secret)
		} else {
			names = append(names, "all of configmap/"+e.ConfigMap)
		}
	}
	t.line(0, "Environment", strings.Join(names, ", "))
	t.line(0, "CPU", quantities(s.CPU, s.CPULimit))
	t.line(0, "Memory", quantities(s.Memory, s.MemoryLimit))
	t.line(0, "Disk", quantities(s.EphemeralStorage, nil))
	if s.GPU > 0 {
		t.line(0, "GPU", fmt.Sprint(s.GPU))
	}
	for _, o := range []struct {
		name string
		d    time.Duration
	}{{"Timeout", s.Timeout}, {"Start timeout", s.StartTimeout}, {"Grace", s.Grace}, {"Linger", s.Linger}, {"TTL", s.TTL}} {
		if o.d > 0 {
			t.line(0, o.name, duration.HumanDuration(o.d))
		}
	}
	if s.Retries > 0 {
		t.line(0, "Retries", fmt.Sprint(s.Retries))
	}
	t.line(0, "Log spool", quantities(s.LogSpool, nil))
	t.line(0, "Log overflow", s.LogOverflow)
	var with []string
	for _, o := range []struct {
		name string
		on   bool
	}{{"detached", s.Detached}, {"merged output", s.MergeOutput}, {"container logs", s.ContainerLogs}} {
		if o.on {
			with = append(with, o.name)
		}
	}
	t.line(0, "With", strings.Join(with, ", "))
}

// quantities are what is asked for, and the limit if it is another.
func quantities(request, limit *resource.Quantity) string {
	switch {
	case request == nil && limit == nil:
		return ""
	case request == nil:
		return "at most " + limit.String()
	case limit == nil || limit.Cmp(*request) == 0:
		return request.String()
	}
	return request.String() + ", at most " + limit.String()
}

func (t *describer) attempt(a *describedAttempt) {
	t.head(0, "Attempt", a.Name)
	t.line(1, "Node", a.Node)
	if a.Outcome != nil {
		t.line(1, "End", endText(a.Outcome))
	}
	for i, e := range a.Phases {
		if i == 0 {
			t.head(1, "Start", "")
		}
		name, detail := e.Phase.String(), e.Detail
		if e.Waiting {
			detail = "waiting: " + detail
		}
		since := ""
		if i > 0 {
			since = " (+" + job.Duration(max(0, e.Time.Sub(a.Phases[0].Time))) + ")"
		}
		t.line(2, name, strings.TrimSpace(t.stamp(e.Time)+since+"  "+detail))
	}
	if a.Usage != nil {
		t.usage(a)
	}
	t.probes(a)
}

// sources says where figures come from.
var sources = map[string]string{
	"cgroup2":      "the kernel's files of the job's container (cgroup v2)",
	"cgroup1":      "the kernel's files of the job's container (cgroup v1)",
	"cgroup2+ebpf": "the kernel's files of the job's container (cgroup v2), and eBPF",
	"cgroup1+ebpf": "the kernel's files of the job's container (cgroup v1), and eBPF",
	"proc":         "/proc of the job's processes",
}

func (t *describer) usage(a *describedAttempt) {
	u := a.Usage
	when := "at its end"
	if a.Outcome == nil {
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
	t.line(2, "Memory", memoryText(u.Memory))
	t.line(2, "Of that", listed(
		sized("anonymous", u.Memory.Anon), sized("page cache", u.Memory.File), sized("kernel", u.Memory.Kernel),
		sized("swap", u.Memory.Swap), sized("huge pages", u.Memory.HugePages)))
	t.line(2, "Out of memory", listed(counted64("limit reached", u.Memory.MaxEvents), counted64("events", u.Memory.OOMEvents), counted64("kills", u.Memory.OOMKills), victimText(u.Memory.OOMVictim)))
	t.line(2, "Disk", ioText(u.IO, rate))
	t.line(2, "Network", networkText(u.Network, rate, a.Probes))
	if u.Pids.Current != nil {
		t.line(2, "Processes", of(count(u.Pids.Current), u.Pids.Limit))
	}
	t.line(2, "Waited", listed(
		timed("cpu", u.Pressure.CPUSome, u.Pressure.CPUFull), timed("memory", u.Pressure.MemorySome, u.Pressure.MemoryFull),
		timed("disk", u.Pressure.IOSome, u.Pressure.IOFull)))
	t.line(2, "Run queue", runQueueText(u.RunQueueWaits))
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

func memoryText(m job.MemoryUsage) string {
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

func ioText(u job.IOUsage, rate job.Rate) string {
	text := directions("read ", u.ReadBytes, "written ", u.WriteBytes)
	if text == "" {
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

// networkText says why there is nothing, where only the eBPF could tell.
func networkText(n job.NetworkUsage, rate job.Rate, probes []job.Probe) string {
	total := n.Total()
	if total == nil {
		for _, p := range probes {
			if p.Name == "network" && p.Absent != "" {
				return "not counted: " + p.Absent
			}
		}
		return "not counted: it takes eBPF"
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

// runQueueText is how long threads waited for a CPU, as far as powers of two tell.
func runQueueText(waits []uint64) string {
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
	return fmt.Sprintf("of %.0f waits for a CPU half %s, 99%% %s", total, below(0.5), below(0.99))
}

// probes says of each part of the eBPF whether it works, and why not.
func (t *describer) probes(a *describedAttempt) {
	if len(a.Probes) == 0 {
		if a.Usage != nil {
			t.line(1, "eBPF", "off")
		}
		return
	}
	t.head(1, "eBPF", "")
	for _, p := range a.Probes {
		state := "works"
		if p.Absent != "" {
			state = "absent: " + p.Absent
		}
		t.line(2, ui.Printable(p.Name), state)
	}
}

func (t *describer) events(events []describedEvent, now time.Time) {
	t.head(0, "Events", "")
	if t.err == nil { // columns of their own
		t.err = t.w.Flush()
	}
	t.write("  Age\tType\tReason\tObject\tMessage\n")
	for _, e := range events {
		age := duration.HumanDuration(now.Sub(e.Last))
		if e.Count > 1 {
			age += fmt.Sprintf(" (x%d)", e.Count)
		}
		t.write(fmt.Sprintf("  %s\t%s\t%s\t%s\t%s\n", age, e.Type, e.Reason, e.Object, e.Message))
	}
	if t.err == nil {
		t.err = t.w.Flush()
	}
}

// stamp is a time as kubectl shows it.
func (t *describer) stamp(at time.Time) string { return at.In(t.zone).Format(time.RFC1123Z) }
