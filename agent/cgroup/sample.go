package cgroup

import (
	"math/bits"
	"time"
)

// Figure is a number that the kernel gives, or its absence.
type Figure struct {
	// N is the number; 0 if it is not known.
	N uint64
	// Known tells that the kernel gave N. A limit is not known where there is none.
	Known bool
}

// plus adds two figures; the sum is absent if one of them is, or if it overflows.
func (f Figure) plus(g Figure) Figure {
	n, carry := bits.Add64(f.N, g.N, 0)
	if !f.Known || !g.Known || carry != 0 {
		return Figure{}
	}
	return Figure{n, true}
}

// times multiplies a figure, which is absent if that overflows.
func (f Figure) times(n uint64) Figure {
	high, low := bits.Mul64(f.N, n)
	if !f.Known || high != 0 {
		return Figure{}
	}
	return Figure{low, true}
}

// Sample is what the kernel counts for the job's container since that started,
// all processes together, its launcher included. The zero Sample knows nothing.
//
// The files are those of Documentation/admin-guide/cgroup-v2.rst and, for version
// 1, of Documentation/admin-guide/cgroup-v1.
type Sample struct {
	// Time is when the sample was begun; zero if there was none. The files are
	// read one after another, within some 10 µs.
	Time     time.Time
	CPU      CPU
	Memory   Memory
	IO       IO
	Pids     Pids
	Pressure Pressure
	// HugePages is the memory in huge pages in bytes, all sizes together; Memory
	// does not count it, unless version 2 is mounted with memory_hugetlb_accounting.
	// Files hugetlb.SIZE.current; hugetlb.SIZE.usage_in_bytes (cgroup-v1/hugetlb.rst).
	HugePages Figure
}

// CPU is time on CPUs, in nanoseconds over all of them together, and how the
// limit cut it.
type CPU struct {
	// Total, User and System are the time that was used. Files cpu.stat (usage_usec,
	// user_usec, system_usec); cpuacct.usage in nanoseconds and cpuacct.stat, which
	// counts whole hundredths of a second, so that User and System fall short of Total by
	// up to 20 ms (cgroup-v1/cpuacct.rst).
	Total, User, System Figure
	// Periods have passed in which the job wanted CPU under a limit, and in
	// ThrottledPeriods of them it had to stop. Throttled is how long its CPUs' run
	// queues stood still for that in all: it may exceed the time on the clock. It is less
	// than the job waited where a cgroup above has the same limit, as a Pod's does when all of its
	// containers have one: what that one stops first is counted there. Files
	// cpu.stat in both versions (nr_periods, nr_throttled, throttled_usec or
	// throttled_time; Documentation/scheduler/sched-bwc.rst).
	Periods, ThrottledPeriods, Throttled Figure
	// Limit is the time that the job may use in each Period, both in nanoseconds;
	// twice the period is two CPUs. Limit is absent without a limit. Files cpu.max;
	// cpu.cfs_quota_us and cpu.cfs_period_us.
	Limit, Period Figure
}

// Memory is in bytes. It counts what is charged to the job: its processes' own
// memory, the page cache of the files that it was first to touch, tmpfs (an emptyDir in
// memory and /dev/shm), and the kernel's memory on its behalf.
type Memory struct {
	// Current is all of it now. Files memory.current; memory.usage_in_bytes
	// (cgroup-v1/memory.rst, as all of version 1 here).
	Current Figure
	// Peak is the most that Current has been; cache counts, so a job that
	// reads much comes near its limit without harm. Files memory.peak (since Linux
	// 5.19; absent before); memory.max_usage_in_bytes.
	Peak Figure
	// Anon is memory that no file backs: heaps and stacks. File is the page cache,
	// tmpfs included. Files memory.stat (anon, file; total_rss, total_cache).
	Anon, File Figure
	// Kernel is the kernel's own memory for the job. Files memory.stat (kernel,
	// since Linux 5.18; absent before); memory.kmem.usage_in_bytes.
	Kernel Figure
	// Swap is what was moved to disk. Files memory.swap.current; memory.stat
	// (total_swap). Absent where the kernel does not account for swap.
	Swap Figure
	// Limit is the most that Current can be; absent without a limit of the
	// container's own. Files memory.max; memory.limit_in_bytes.
	Limit Figure
	// MaxEvents is how often Current ran into Limit, so that the kernel had to
	// reclaim: harmless when it was cache. Files memory.events (max); memory.failcnt and,
	// where swap is accounted for, memory.memsw.failcnt together: each attempt fails at one
	// of the two limits.
	MaxEvents Figure
	// OOMEvents is how often that did not help and an allocation was about to fail.
	// File memory.events (oom); version 1 does not tell.
	OOMEvents Figure
	// OOMKills is how many processes the OOM killer has killed. Files memory.events
	// (oom_kill); memory.oom_control (oom_kill, since Linux 4.13; absent before).
	OOMKills Figure
}

// IO is what went to and came from block devices, all together: what the page
// cache served or has not written back yet is not in it, and where one device lies on
// another (device mapper, loop) the kernel counts both. Files io.stat (rbytes,
// wbytes, rios, wios); blkio.throttle.io_service_bytes_recursive and
// io_serviced_recursive, on old kernels the same without _recursive
// (cgroup-v1/blkio-controller.rst).
//
// Version 1 can't tell whose data is written back later: only direct and
// synchronous writes are the job's there. Since Linux 6.10 it counts nothing on a disk for
// which nobody has set a limit since it appeared, and says 0; so figures without any disk are
// absent in version 1, which can also mean that the job used none.
type IO struct {
	// ReadBytes and WriteBytes are the bytes.
	ReadBytes, WriteBytes Figure
	// ReadOps and WriteOps are the operations.
	ReadOps, WriteOps Figure
}

// Pids counts tasks, which are threads and not processes.
type Pids struct {
	// Current is how many there are now. File pids.current in both versions
	// (cgroup-v1/pids.rst).
	Current Figure
	// Limit is the most that there can be; absent without a limit. File pids.max.
	Limit Figure
}

// Pressure is how long tasks of the job stood still for want of something, in
// nanoseconds on the clock: some of them (Some), or all that had work to do at
// once (Full). Version 1 has none; a hybrid may. Files cpu.pressure, memory.pressure and
// io.pressure (total; Documentation/accounting/psi.rst); cpu's full since Linux 5.13.
// Absent where the kernel was built or booted without it.
type Pressure struct {
	CPUSome, CPUFull       Figure
	MemorySome, MemoryFull Figure
	IOSome, IOFull         Figure
}
