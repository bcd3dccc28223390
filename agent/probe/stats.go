package probe

import (
	"errors"
	"math"
	"math/bits"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Known is which figures of [Counters] are known: a set of bits.
type Known uint32

// What can be known, each with the figures that come and go together.
const (
	// KnownCPU: Usage, User, System. The v2 hierarchy always has them.
	KnownCPU Known = 1 << iota
	// KnownBandwidth: Periods, ThrottledPeriods, Throttled, with the cpu controller.
	KnownBandwidth
	// KnownQuota: Quota and Period; a cgroup without a limit has none.
	KnownQuota
	// KnownMemory: Memory, MemoryPeak, Swap and the events, with the memory controller.
	KnownMemory
	// KnownMemoryLimit: MemoryLimit; a cgroup without one has none.
	KnownMemoryLimit
	// KnownMemoryStat: Anon, File, Kernel.
	KnownMemoryStat
	// KnownPids: Pids, with the pids controller.
	KnownPids
	// KnownPidsLimit: PidsLimit; a cgroup without one has none.
	KnownPidsLimit
)

// Counters is a reading of the job's cgroup, its descendants included. Where it
// names a file, that is the one of cgroup v2 with the same figure:
// Documentation/admin-guide/cgroup-v2.rst.
type Counters struct {
	// Known says which of the others are; those that are not are 0.
	Known Known

	// CPU time in ns, of cpu.stat's usage_usec, user_usec and system_usec. The kernel
	// divides usage by the ticks that it saw in each, and so do we.
	Usage, User, System uint64
	// Periods of cpu.max that have passed with something to run, those of them that
	// were used up, and the time in ns for which CPUs had to stop: nr_periods,
	// nr_throttled, throttled_usec.
	Periods, ThrottledPeriods, Throttled uint64
	// Quota is the CPU time in ns in each Period in ns: cpu.max.
	Quota, Period uint64

	// Memory in bytes: memory.current, memory.peak, memory.swap.current, memory.max.
	Memory, MemoryPeak, Swap, MemoryLimit uint64
	// Memory in bytes, of memory.stat's anon, file and kernel. On Linux 6.16 to 6.18
	// they may be 2 s old: no program can ask for newer ones (FLUSH_TIME of mm/memcontrol.c).
	Anon, File, Kernel uint64
	// How often the limit was met, how often nothing could be freed, and how many
	// processes were killed: memory.events' max, oom and oom_kill.
	MaxEvents, OOMEvents, OOMKills uint64

	// Processes and threads: pids.current, pids.max.
	Pids, PidsLimit uint64
}

// Has says whether all of k are known.
func (s *Counters) Has(k Known) bool { return s.Known&k == k }

// record is struct record of bpf/stats.c, in the machine's byte order.
type record struct {
	ID                                  uint64
	Have                                uint32
	Level                               int32
	Usage, User, System                 uint64
	Period, Quota, Throttled            uint64
	Periods, ThrottledPeriods           uint32
	Memory, MemoryPeak, MemoryMax       uint64
	Swap                                uint64
	EventsMax, EventsOOM, EventsOOMKill uint64
	Anon, File, Kernel                  uint64
	Pids, PidsLimit                     uint64
}

// What bpf/stats.c has found.
const (
	haveBandwidth     = 1 << 0
	haveMemory        = 1 << 1
	haveMemoryStat    = 1 << 2
	memoryStatAssumed = 1 << 3
	havePids          = 1 << 4
)

// stats reads by an iterator over cgroups that has only one to go through
// (bpf/stats.c).
type stats struct {
	objects struct {
		Stats *ebpf.Program `ebpf:"stats"`
	}
	iterator *iterator
	level    int32
	check    *statCheck // nil: done, or not needed
	record   record
	// The last figures given, as the kernel keeps them: none may fall.
	user, system uint64
}

func openStats(job job) (*stats, error) {
	spec, err := loadStats()
	if err != nil {
		return nil, err
	}
	if err := setVariable(spec, "page_size", uint64(os.Getpagesize())); err != nil {
		return nil, err
	}
	s := &stats{}
	if err := job.load(spec, &s.objects); err != nil {
		return nil, err
	}
	if s.iterator, err = openIterator(s.objects.Stats.FD(), job); err != nil {
		_ = s.close()
		if errors.Is(err, unix.ENOENT) && job.dir != nil {
			return nil, errGone
		}
		if errors.Is(err, unix.ENOENT) {
			return nil, absence("the job's cgroup is outside of the agent's cgroup namespace, " +
				"and its v2 directory is not visible to its launcher")
		}
		return nil, err
	}
	switch ok, err := s.iterator.read(&s.record); {
	case err != nil:
		_ = s.close()
		return nil, err
	case !ok || s.record.ID != job.id:
		_ = s.close()
		return nil, errGone
	case s.record.Level == 0:
		_ = s.close()
		return nil, errRoot
	}
	s.level = s.record.Level
	if s.record.Have&memoryStatAssumed != 0 {
		s.check = openStatCheck(job.dir)
	}
	return s, nil
}

// Stats fills c with the job's counters of this moment, without an allocation. It is
// false, and c is as it was, if the part is absent or the cgroup is gone.
func (p *Probe) Stats(c *Counters) bool {
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stats == nil {
		return false
	}
	return p.stats.read(c)
}

func (s *stats) read(c *Counters) bool {
	r := &s.record
	if ok, err := s.iterator.read(r); !ok || err != nil {
		return false
	}
	assumed := r.Have&memoryStatAssumed != 0
	if assumed && s.check.against(r) {
		assumed = false
	}
	*c = r.counters()
	if assumed {
		c.Known &^= KnownMemoryStat
		c.Anon, c.File, c.Kernel = 0, 0, 0
	}
	s.user, s.system = divide(r.Usage, r.User, r.System, s.user, s.system)
	c.User, c.System = s.user, s.system
	return true
}

// counters is what the record says, but for user and system time.
func (r *record) counters() Counters {
	c := Counters{Known: KnownCPU, Usage: r.Usage}
	if r.Have&haveBandwidth != 0 {
		c.Known |= KnownBandwidth
		c.Periods, c.ThrottledPeriods, c.Throttled = uint64(r.Periods), uint64(r.ThrottledPeriods), r.Throttled
		if r.Quota != math.MaxUint64 { // RUNTIME_INF of kernel/sched
			c.Known |= KnownQuota
			c.Quota, c.Period = r.Quota, r.Period
		}
	}
	if r.Have&haveMemory != 0 {
		c.Known |= KnownMemory
		c.Memory, c.MemoryPeak, c.Swap = r.Memory, r.MemoryPeak, r.Swap
		c.MaxEvents, c.OOMEvents, c.OOMKills = r.EventsMax, r.EventsOOM, r.EventsOOMKill
		if limit, ok := bytesOfLimit(r.MemoryMax); ok {
			c.Known |= KnownMemoryLimit
			c.MemoryLimit = limit
		}
	}
	if r.Have&haveMemoryStat != 0 {
		c.Known |= KnownMemoryStat
		c.Anon, c.File, c.Kernel = r.Anon, r.File, r.Kernel
	}
	if r.Have&havePids != 0 {
		c.Known |= KnownPids
		c.Pids = r.Pids
		if r.PidsLimit <= pidsMost {
			c.Known |= KnownPidsLimit
			c.PidsLimit = r.PidsLimit
		}
	}
	return c
}

// pidsMost is PID_MAX_LIMIT of linux/threads.h on 64 bits: one more means "max".
const pidsMost = 4 << 20

// bytesOfLimit is a limit that the kernel keeps in pages (linux/page_counter.h);
// false: PAGE_COUNTER_MAX, there is none.
func bytesOfLimit(pages uint64) (uint64, bool) {
	size := uint64(os.Getpagesize())
	if pages >= math.MaxInt64/size {
		return 0, false
	}
	return pages * size, true
}

// divide makes user and system time of usage in the proportion of the ticks that
// fell into each; neither falls below what it was. It is cputime_adjust of
// kernel/sched/cputime.c, which makes cpu.stat's.
func divide(usage, userTicks, systemTicks, userWas, systemWas uint64) (user, system uint64) {
	switch {
	case userWas+systemWas >= usage:
		return userWas, systemWas
	case systemTicks == 0:
		system = 0
	case userTicks == 0:
		system = usage
	default:
		hi, lo := bits.Mul64(systemTicks, usage)
		ticks, carry := bits.Add64(userTicks, systemTicks, 0)
		if carry != 0 || hi >= ticks { // nonsense, and Div64 would not survive it
			return userWas, usage - userWas
		}
		system, _ = bits.Div64(hi, lo, ticks)
	}
	system = max(system, systemWas)
	if system > usage-userWas {
		system = usage - userWas
	}
	return usage - system, system
}

func (s *stats) close() error {
	if s == nil {
		return nil
	}
	return errors.Join(s.iterator.close(), s.check.close(), s.objects.Stats.Close())
}
