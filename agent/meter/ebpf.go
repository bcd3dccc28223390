package meter

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/ellipsis"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// ErrCapable means that the agent could not give up its capabilities. The command must not run beside an agent that has
// any.
var ErrCapable = errors.New("no command is started beside capabilities")

// absentBytes bounds the reason why a part is absent. The kernel's verifier may write a lot.
const absentBytes = 300

// jobProbe is the eBPF that assists a meter; nil: none does.
type jobProbe struct {
	*probe.Probe
	why string // why Probe is nil
	// counters are the latest counters, if counted is true.
	counters probe.Counters
	counted  bool
}

// openProbe loads the parts of eBPF that work here, and then gives up the capabilities that loading needs: the job's
// own code never runs beside an agent that has any. The error is ErrCapable, or says why nothing works if eBPF is
// required.
func (o Options) openProbe(launcher *handover.Launcher) (*jobProbe, error) {
	p := o.loadProbe(launcher)
	if o.DropCapabilities {
		if err := dropCapabilities(); err != nil {
			p.close()
			return nil, fmt.Errorf("%w: %w", ErrCapable, err)
		}
	}
	if p == nil {
		return nil, nil //nolint:nilnil // nil is none
	}
	p.Check()
	for _, part := range p.states() {
		o.Log.Info("eBPF", "part", part.Name, "absent", part.Absent)
	}
	if o.RequireEBPF && !p.works() {
		p.close()
		return nil, errors.New(whyNone(p.states()))
	}
	return p, nil
}

// loadProbe loads the parts of eBPF that work here; nil: eBPF is not wanted.
func (o Options) loadProbe(launcher *handover.Launcher) *jobProbe {
	if !o.EBPF {
		return nil
	}
	p := &jobProbe{}
	target, err := probeTarget(launcher)
	if err != nil {
		p.why = err.Error()
		return p
	}
	defer closeOther(target.Dir, launcher.Files[handover.FDCgroup])
	p.Probe = probe.Open(target)
	return p
}

// probeTarget returns the job's cgroup of version 2, if the launcher has found that it is its container's alone. The
// launcher can be believed, because it runs before any code of the job. The target has the cgroup's directory if that
// is visible, and its number from the kernel or, in another PID namespace, from the launcher.
func probeTarget(launcher *handover.Launcher) (probe.Target, error) {
	dir := launcher.Files[handover.FDCgroup]
	switch {
	case dir == nil:
		return probe.Target{}, errors.New("the job has no cgroup of its own")
	case !launcher.OwnCgroup2:
		return probe.Target{}, errors.New("the job has no cgroup of version 2 of its own, or none that can be told from the machine's")
	case isCgroup2(dir):
		return probe.Target{Dir: dir}, nil
	}
	var t probe.Target
	var err error
	if t.ID, err = probe.PeerCgroup(launcher.Conn); err != nil {
		t.ID = handover.AskCgroup(launcher.Conn)
	}
	// systemd mounts version 2 as "unified", beside the directories of version 1.
	if fd, err := unix.Openat(int(dir.Fd()), "unified", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0); err == nil {
		t.Dir = os.NewFile(uintptr(fd), dir.Name()+"/unified")
	}
	return t, nil
}

func isCgroup2(dir *os.File) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(dir.Fd()), &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC
}

// closeOther closes f, unless it is kept.
func closeOther(f, kept *os.File) {
	if f != nil && f != kept {
		f.Close()
	}
}

// whyNone says why no part works. It names each reason once.
func whyNone(parts []*hodeipb.Probe) string {
	var reasons []string
	names := map[string][]string{}
	for _, p := range parts {
		if names[p.Absent] == nil {
			reasons = append(reasons, p.Absent)
		}
		names[p.Absent] = append(names[p.Absent], p.Name)
	}
	if len(reasons) == 1 {
		return reasons[0]
	}
	for i, reason := range reasons {
		reasons[i] = strings.Join(names[reason], ", ") + ": " + reason
	}
	return strings.Join(reasons, "; ")
}

// works reports whether at least one part works.
func (p *jobProbe) works() bool {
	return p != nil && slices.ContainsFunc(p.Parts(), func(part probe.Part) bool { return part.Err == nil })
}

func (p *jobProbe) close() {
	if p != nil {
		_ = p.Probe.Close() // it ends with this process at the latest
	}
}

// states returns the parts as they are now. See [Meter.Probes].
func (p *jobProbe) states() (parts []*hodeipb.Probe) {
	if p == nil {
		return nil
	}
	if p.Probe == nil {
		for _, name := range []string{probe.Network, probe.Stats, probe.OOM, probe.RunQueue} {
			parts = append(parts, &hodeipb.Probe{Name: name, Absent: p.why})
		}
		return parts
	}
	for _, part := range p.Parts() {
		made := &hodeipb.Probe{Name: part.Name}
		if part.Err != nil {
			made.Absent = ellipsis.Cut(printable(part.Err.Error()), absentBytes)
		}
		parts = append(parts, made)
	}
	return parts
}

// replaces returns the cgroup's files that need not be read, because the probe has their figures. Files that say how a
// job has ended and what it has cost are not among them, because the probe may fail.
func (p *jobProbe) replaces() []string {
	if p == nil || !p.Stats(&p.counters) {
		return nil
	}
	p.counted = true
	return p.fileNames()
}

// fileNames returns the files with the figures that the latest counters have.
func (p *jobProbe) fileNames() (files []string) {
	for _, of := range []struct {
		known probe.Known
		files []string
	}{
		{probe.KnownQuota, []string{"cpu.max"}},
		{probe.KnownMemory, []string{"memory.current", "memory.swap.current"}},
		{probe.KnownMemoryLimit, []string{"memory.max"}},
		{probe.KnownMemoryStat, []string{"memory.stat"}},
		{probe.KnownPids, []string{"pids.current"}},
		{probe.KnownPidsLimit, []string{"pids.max"}},
	} {
		if p.counters.Has(of.known) {
			files = append(files, of.files...)
		}
	}
	return files
}

// count reads the counters again. It returns false if that fails and has worked before.
func (p *jobProbe) count() bool {
	if p == nil {
		return true
	}
	if p.Stats(&p.counters) {
		p.counted = true
		return true
	}
	return !p.counted
}

// add fills in what the probe measures. current is true if its counters are as new as the other figures.
func (p *jobProbe) add(f *figures, current bool) {
	if p == nil {
		return
	}
	if p.counted && current {
		p.addCounters(f)
	}
	u := &f.usage
	if t, ok := p.Network(); ok {
		u.NetIpv4, u.NetIpv6 = traffic(t.Receive4, t.Transmit4), traffic(t.Receive6, t.Transmit6)
	}
	if v, ok := p.Victim(); ok {
		u.OomVictim = &hodeipb.OOMVictim{Name: printable(v.Name), Pid: v.PID, Bytes: v.Bytes, LimitBytes: v.Limit}
	}
	if h, ok := p.RunQueue(); ok {
		u.RunQueueWaits, u.RunQueueWatchedNs = h.Counts[:], uint64(h.Watched)
	}
}

func (p *jobProbe) addCounters(f *figures) {
	c, u := &p.counters, &f.usage
	for _, of := range []struct {
		known probe.Known
		field **uint64
		n     uint64
	}{
		{probe.KnownCPU, &u.CpuNs, c.Usage},
		{probe.KnownCPU, &u.CpuUserNs, c.User},
		{probe.KnownCPU, &u.CpuSystemNs, c.System},
		{probe.KnownBandwidth, &u.CpuPeriods, c.Periods},
		{probe.KnownBandwidth, &u.CpuThrottledPeriods, c.ThrottledPeriods},
		{probe.KnownBandwidth, &u.CpuThrottledNs, c.Throttled},
		{probe.KnownMemory, &u.MemoryBytes, c.Memory},
		{probe.KnownMemory, &u.MemoryPeakBytes, c.MemoryPeak},
		{probe.KnownMemory, &u.MemorySwapBytes, c.Swap},
		{probe.KnownMemory, &u.MemoryMaxEvents, c.MaxEvents},
		{probe.KnownMemory, &u.OomEvents, c.OOMEvents},
		{probe.KnownMemory, &u.OomKills, c.OOMKills},
		{probe.KnownMemoryLimit, &u.MemoryLimitBytes, c.MemoryLimit},
		{probe.KnownMemoryStat, &u.MemoryAnonBytes, c.Anon},
		{probe.KnownMemoryStat, &u.MemoryFileBytes, c.File},
		{probe.KnownMemoryStat, &u.MemoryKernelBytes, c.Kernel},
		{probe.KnownPids, &u.Pids, c.Pids},
		{probe.KnownPidsLimit, &u.PidsLimit, c.PidsLimit},
	} {
		if c.Has(of.known) {
			f.put(of.field, known(of.n))
		}
	}
	if c.Has(probe.KnownQuota) {
		f.put(&u.CpuLimitMillis, millis(known(c.Quota), known(c.Period)))
	}
}

func traffic(receive, transmit probe.Count) *hodeipb.Traffic {
	return &hodeipb.Traffic{
		ReceiveBytes: receive.Bytes, ReceivePackets: receive.Packets,
		TransmitBytes: transmit.Bytes, TransmitPackets: transmit.Packets,
	}
}
