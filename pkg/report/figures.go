package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// figure is one of those that are seen first.
type figure struct {
	Name, Text string
	// Detail is what the figure is compared with, or why it is absent.
	Detail string
	Absent bool
	Bad    bool // it has hurt
}

// minThrottled is the least time that is not shown as 0.00s.
const minThrottled = 5 * time.Millisecond

// figures are what a run is judged by.
func (r *Report) figures() []figure {
	u := r.usage()
	wall, known := r.wall()
	out := []figure{{Name: "wall time", Text: job.Duration(wall)}}
	if !known {
		out[0] = figure{Name: "wall time", Absent: true, Detail: "not known"}
	}
	if u == nil {
		return append(out, figure{Name: "usage", Absent: true, Detail: "nothing is known of it"})
	}
	cpu := figure{Name: "CPU", Absent: true, Detail: "not counted"}
	if s, ok := cpuSeconds(u); ok {
		cpu = figure{Name: "CPU", Text: job.Duration(time.Duration(s * float64(time.Second)))}
		if mean := r.Run.MeanCores(); mean != nil {
			cpu.Detail = number(*mean) + " cores on average"
		}
		if m := u.CPU.LimitMillis; m != nil {
			cpu.Detail = join(cpu.Detail, "of "+number(float64(*m)/1000))
		}
	}
	out = append(out, cpu, r.memoryFigure(u), r.ioFigure(u), r.networkFigure(u))
	if t := u.CPU.Throttled; t != nil && *t >= minThrottled {
		f := figure{Name: "throttled", Text: took(t), Detail: "threads held back by the CPU limit"}
		if p, n := u.CPU.ThrottledPeriods, u.CPU.Periods; p != nil && n != nil && *n > 0 {
			f.Detail = fmt.Sprintf("in %s of the periods", share(float64(*p), float64(*n)))
		}
		_, f.Bad = usage.Throttled(&u.CPU)
		out = append(out, f)
	}
	if k := u.Memory.OOMKills; k != nil && *k > 0 {
		f := figure{Name: "OOM kills", Text: count(*k), Bad: true}
		if v := u.Memory.OOMVictim; v != nil {
			f.Detail = "the last: " + victim(v)
		}
		out = append(out, f)
	}
	return out
}

func (r *Report) memoryFigure(u *job.Usage) figure {
	m := &u.Memory
	if m.Peak == nil {
		return figure{Name: "peak memory", Absent: true, Detail: "not counted"}
	}
	f := figure{Name: "peak memory", Text: job.MemorySize(*m.Peak)}
	if m.PeakSampled {
		f.Detail = "the highest sample"
	}
	if m.Limit != nil {
		f.Detail = join(f.Detail, "of "+job.MemorySize(*m.Limit))
	}
	return f
}

func (r *Report) ioFigure(u *job.Usage) figure {
	if u.IO.ReadBytes == nil || u.IO.WriteBytes == nil {
		return figure{Name: "disk I/O", Absent: true, Detail: "not counted"}
	}
	return figure{Name: "disk I/O", Text: decimal(float64(*u.IO.ReadBytes + *u.IO.WriteBytes)),
		Detail: fmt.Sprintf("%s read, %s written", decimal(float64(*u.IO.ReadBytes)), decimal(float64(*u.IO.WriteBytes)))}
}

func (r *Report) networkFigure(u *job.Usage) figure {
	t := u.Network.Total()
	if t == nil {
		return figure{Name: "network", Absent: true, Detail: "not counted"} // why, its picture says
	}
	return figure{Name: "network", Text: fmt.Sprintf("↓%s ↑%s", decimal(float64(t.ReceiveBytes)), decimal(float64(t.TransmitBytes))),
		Detail: fmt.Sprintf("%s packets", count(t.ReceivePackets+t.TransmitPackets))}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ", " + b
}

// victim is a process that the OOM killer chose; it named itself.
func victim(v *job.OOMVictim) string {
	s := plain(v.Name)
	if v.Bytes > 0 {
		s += " (" + job.MemorySize(v.Bytes) + ")"
	}
	return s
}

// group is a part of the table of all figures.
type group struct {
	Name string
	Rows []row
}

// row is a figure of the table; one that is absent has no text.
type row struct{ Name, Text string }

// groups are all figures, the absent ones too.
func (r *Report) groups() []group {
	u := r.usage()
	if u == nil {
		return nil
	}
	c, m, p := &u.CPU, &u.Memory, &u.Pressure
	// A limit that is not there is none where the file was read that would tell it.
	cgroup := strings.HasPrefix(u.Source, "cgroup")
	none := func(limit string, read bool) string {
		if limit == "" && cgroup && read {
			return "none"
		}
		return limit
	}
	groups := []group{
		{"CPU", []row{
			{"total", spent(c.Total)}, {"user", spent(c.User)}, {"system", spent(c.System)},
			{"limit, in cores", none(cores(c.LimitMillis), c.Periods != nil)},
			{"throttled", spent(c.Throttled)}, {"periods", counted(c.Periods)}, {"periods throttled", counted(c.ThrottledPeriods)},
		}},
		{"Memory", []row{
			{"at the end", inMemory(m.Current)}, {"peak", inMemory(m.Peak)}, {"limit", none(inMemory(m.Limit), m.Current != nil)},
			{"anonymous", inMemory(m.Anon)}, {"file cache", inMemory(m.File)},
			{"kernel", inMemory(m.Kernel)}, {"swap", inMemory(m.Swap)}, {"huge pages", inMemory(m.HugePages)},
			{"limit reached", counted(m.MaxEvents)}, {"out of memory", counted(m.OOMEvents)}, {"killed for it", counted(m.OOMKills)},
		}},
		{"Disk I/O", []row{
			{"read", onDisk(u.IO.ReadBytes)}, {"written", onDisk(u.IO.WriteBytes)}, {"reads", counted(u.IO.ReadOps)},
			{"writes", counted(u.IO.WriteOps)},
		}},
		{"Network", append(traffic("IPv4", u.Network.IPv4), traffic("IPv6", u.Network.IPv6)...)},
		{"Processes and threads",
			[]row{{"at the end", counted(u.Pids.Current)}, {"limit", none(counted(u.Pids.Limit), u.Pids.Current != nil)}}},
		{"Pressure: time in which threads waited for", []row{
			{"CPU, some", spent(p.CPUSome)}, {"CPU, all", spent(p.CPUFull)}, {"memory, some", spent(p.MemorySome)},
			{"memory, all", spent(p.MemoryFull)},
			{"I/O, some", spent(p.IOSome)}, {"I/O, all", spent(p.IOFull)},
		}},
	}
	if m.OOMVictim != nil {
		groups[1].Rows = append(groups[1].Rows, row{"last victim", victim(m.OOMVictim)})
	}
	if m.PeakSampled {
		groups[1].Rows[1].Name = "highest sample"
	}
	if o := r.Run.Outcome; o != nil && len(o.Probes) > 0 {
		ebpf := group{Name: "eBPF"}
		for _, probe := range o.Probes {
			text := "works"
			if probe.Absent != "" {
				text = "absent: " + plain(probe.Absent)
			}
			ebpf.Rows = append(ebpf.Rows, row{plain(probe.Name), text})
		}
		groups = append(groups, ebpf)
	}
	return groups
}

func traffic(family string, t *job.Traffic) []row {
	if t == nil {
		return []row{{family, ""}}
	}
	return []row{
		{family + " received", fmt.Sprintf("%s in %s packets", decimal(float64(t.ReceiveBytes)), count(t.ReceivePackets))},
		{family + " sent", fmt.Sprintf("%s in %s packets", decimal(float64(t.TransmitBytes)), count(t.TransmitPackets))},
	}
}

func spent(d *time.Duration) string {
	if d == nil {
		return ""
	}
	return took(d)
}

func counted(n *uint64) string {
	if n == nil {
		return ""
	}
	return count(*n)
}

func inMemory(n *uint64) string {
	if n == nil {
		return ""
	}
	return job.MemorySize(*n)
}

func onDisk(n *uint64) string {
	if n == nil {
		return ""
	}
	return decimal(float64(*n))
}

func cores(millis *uint64) string {
	if millis == nil {
		return ""
	}
	return number(float64(*millis) / 1000)
}
