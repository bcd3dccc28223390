// Package meter measures a job: by its cgroup, or by its processes if it has no cgroup of its own, and by eBPF. Start
// with [Open], whose [Meter] takes single samples, and with [Sampler], which takes them as often as somebody asks and
// keeps them for everybody who reads. [OutOfMemory] says whether the OOM killer has ended the job.
//
// It reads what agent/cgroup, agent/proc and agent/probe find, sends nothing, and decides nothing about the job.
package meter

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/cgroup"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/proc"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Meter measures the job: by its cgroup, or by its processes if it has no cgroup of its own, and by eBPF. It must be
// used by one goroutine at a time.
type Meter struct {
	began     time.Time
	group     *cgroup.Reader // nil: the job has none of its own
	processes *proc.Tree     // nil: they can't be seen, or group has the figures
	probe     *jobProbe      // nil: no eBPF assists

	sample  cgroup.Sample
	highest uint64 // memory, of all samples
}

// Options is how a job is measured. All but Log may be zero.
type Options struct {
	// EBPF lets eBPF assist as far as it works here. With RequireEBPF it is an error if no part of it works.
	EBPF, RequireEBPF bool
	// DropCapabilities gives up all capabilities of this process after eBPF was loaded.
	DropCapabilities bool
	Log              *slog.Logger
}

// Open finds out how the job of a launcher can be measured. The error is ErrCapable, or says that eBPF is required and
// no part of it works.
func Open(launcher *handover.Launcher, o Options) (*Meter, error) {
	m := &Meter{began: time.Now()}
	var whyNot []error
	dir := launcher.Files[handover.FDCgroup]
	if dir != nil {
		var err error
		if m.group, err = cgroup.Open(dir); err == nil && m.group.Version() == cgroup.None {
			err = fmt.Errorf("no file in %s is known", cgroup.Mount)
		}
		if err != nil {
			whyNot = append(whyNot, err)
			m.group.Close()
			m.group = nil
		}
	}
	if m.group == nil {
		var err error
		if m.processes, err = proc.Open("/proc", handover.PeerOf(launcher.Conn).PID); err != nil {
			whyNot = append(whyNot, err)
		}
	}
	if m.source() == "" {
		o.Log.Warn("the job can't be measured", "error", errors.Join(whyNot...))
	}
	var err error
	if m.probe, err = o.openProbe(launcher); err != nil {
		m.Close()
		return nil, err
	}
	if m.group.Version() == cgroup.V2 {
		m.group.Leave(m.probe.replaces()...)
	}
	return m, nil
}

// Close frees what the meter holds.
func (m *Meter) Close() {
	m.group.Close()
	m.probe.close()
}

// Probes returns the parts of eBPF as they are now, with the reason why a part is absent; nil: eBPF was not tried. They
// go into the State when the meter is opened, and again into the ExitRecord, because a part may fail meanwhile.
func (m *Meter) Probes() []*hodeipb.Probe { return m.probe.states() }

// source returns where the figures come from, in the words of an exit record; empty: nothing can be measured.
func (m *Meter) source() string {
	var source string
	switch {
	case m.group.Version() == cgroup.V2:
		source = "cgroup2"
	case m.group.Version() != cgroup.None: // a hybrid has most figures from version 1
		source = "cgroup1"
	case m.processes != nil:
		source = "proc"
	default:
		return ""
	}
	if m.probe.works() {
		source += "+ebpf"
	}
	return source
}

// Measure takes a sample; nil: nothing can be measured.
func (m *Meter) Measure() *hodeipb.Metrics {
	f := &figures{}
	if f.usage.Source = m.source(); f.usage.Source == "" {
		return nil
	}
	m.byCgroup(f)
	counted := m.probe.count()
	if !counted { // once more: either it has just gone, or something was short for a moment
		m.byCgroup(f)
		counted = m.probe.count()
	}
	// Once the cgroup is gone, old counters and the last contents of the files belong together. While the job lives,
	// old counters are left out.
	gone := m.group.Gone()
	m.byProcesses(f)
	m.probe.add(f, counted || gone)
	m.peak(f)
	// The time is counted from the start, so a clock that is set back does not reorder samples. Figures of a cgroup
	// that is gone keep the time at which they were read.
	age := time.Since(m.began)
	if gone {
		age = m.sample.Time.Sub(m.began)
	}
	return &hodeipb.Metrics{Time: timestamppb.New(m.began.Add(max(age, 0))), Usage: &f.usage}
}

// byCgroup fills in the figures of the cgroup's files. Once the files are gone, these are the last ones.
func (m *Meter) byCgroup(f *figures) {
	if m.group == nil {
		return
	}
	s, u := &m.sample, &f.usage
	m.group.Read(s)
	f.put(&u.CpuNs, s.CPU.Total)
	f.put(&u.CpuUserNs, s.CPU.User)
	f.put(&u.CpuSystemNs, s.CPU.System)
	f.put(&u.CpuThrottledNs, s.CPU.Throttled)
	f.put(&u.CpuPeriods, s.CPU.Periods)
	f.put(&u.CpuThrottledPeriods, s.CPU.ThrottledPeriods)
	f.put(&u.CpuLimitMillis, millis(s.CPU.Limit, s.CPU.Period))
	f.put(&u.MemoryBytes, s.Memory.Current)
	f.put(&u.MemoryPeakBytes, s.Memory.Peak)
	f.put(&u.MemoryAnonBytes, s.Memory.Anon)
	f.put(&u.MemoryFileBytes, s.Memory.File)
	f.put(&u.MemoryKernelBytes, s.Memory.Kernel)
	f.put(&u.MemorySwapBytes, s.Memory.Swap)
	f.put(&u.MemoryLimitBytes, s.Memory.Limit)
	f.put(&u.MemoryMaxEvents, s.Memory.MaxEvents)
	f.put(&u.OomEvents, s.Memory.OOMEvents)
	f.put(&u.OomKills, s.Memory.OOMKills)
	f.put(&u.HugePagesBytes, s.HugePages)
	f.put(&u.IoReadBytes, s.IO.ReadBytes)
	f.put(&u.IoWriteBytes, s.IO.WriteBytes)
	f.put(&u.IoReadOps, s.IO.ReadOps)
	f.put(&u.IoWriteOps, s.IO.WriteOps)
	f.put(&u.Pids, s.Pids.Current)
	f.put(&u.PidsLimit, s.Pids.Limit)
	f.put(&u.CpuPressureSomeNs, s.Pressure.CPUSome)
	f.put(&u.CpuPressureFullNs, s.Pressure.CPUFull)
	f.put(&u.MemoryPressureSomeNs, s.Pressure.MemorySome)
	f.put(&u.MemoryPressureFullNs, s.Pressure.MemoryFull)
	f.put(&u.IoPressureSomeNs, s.Pressure.IOSome)
	f.put(&u.IoPressureFullNs, s.Pressure.IOFull)
}

// millis returns a quota in thousandths of a core.
func millis(limit, period cgroup.Figure) cgroup.Figure {
	if !limit.Known || !period.Known || period.N == 0 || limit.N > 1<<53 {
		return cgroup.Figure{}
	}
	return known(limit.N * 1000 / period.N)
}

// byProcesses fills in what /proc says about the launcher's descendants.
func (m *Meter) byProcesses(f *figures) {
	if m.processes == nil {
		return
	}
	l, _ := m.processes.Look() // once the launcher is gone, l is what was seen last
	u := &f.usage
	f.put(&u.CpuUserNs, known(uint64(l.CPU.User)))
	f.put(&u.CpuSystemNs, known(uint64(l.CPU.System)))
	f.put(&u.CpuNs, known(uint64(l.CPU.Total())))
	if l.HasIO {
		f.put(&u.IoReadBytes, known(l.IO.Read))
		f.put(&u.IoWriteBytes, known(l.IO.Written))
	}
	if l.Whole && l.Processes > 0 {
		f.put(&u.MemoryBytes, known(l.Resident))
		f.put(&u.MemoryAnonBytes, known(l.Anon))
		f.put(&u.Pids, known(l.Threads))
	}
}

// End adds the figures that the launcher has sent at its end. exit is nil if it has sent nothing.
func (m *Meter) End(exit *handover.Exit) {
	if m.processes == nil || exit == nil {
		return
	}
	m.processes.ReplaceReaped(proc.Spent{User: exit.CPUUser, System: exit.CPUSystem})
	m.highest = max(m.highest, exit.PeakBytes)
}

// peak fills in the highest of all samples, if the kernel has no peak of its own.
func (m *Meter) peak(f *figures) {
	u := &f.usage
	m.highest = max(m.highest, u.GetMemoryBytes(), u.GetMemoryPeakBytes())
	if u.MemoryPeakBytes == nil && m.highest > 0 {
		f.put(&u.MemoryPeakBytes, known(m.highest))
		u.MemoryPeakSampled = true
	}
}

// figures is a Usage with room for its numbers, so that a sample takes one allocation instead of one for each number.
type figures struct {
	usage hodeipb.Usage
	room  [40]uint64 // more than there are optional numbers
	used  int
}

// put sets a field of the usage to v, unless v is not known.
func (f *figures) put(field **uint64, v cgroup.Figure) {
	if !v.Known {
		return
	}
	switch {
	case *field != nil:
	case f.used == len(f.room):
		*field = new(uint64)
	default:
		*field = &f.room[f.used]
		f.used++
	}
	**field = v.N
}

func known(n uint64) cgroup.Figure { return cgroup.Figure{N: n, Known: true} }
