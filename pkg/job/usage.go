package job

import "time"

// Usage is what a job's container has used since it started, as its kernel counts
// it. A nil figure could not be read; nothing in it is estimated.
type Usage struct {
	// Source is where the figures come from: "cgroup2+ebpf", "cgroup2",
	// "cgroup1+ebpf", "cgroup1" or "proc"; empty: nowhere, and all figures are nil.
	Source   string        `json:"source,omitempty"`
	CPU      CPUUsage      `json:"cpu,omitzero"`
	Memory   MemoryUsage   `json:"memory,omitzero"`
	IO       IOUsage       `json:"io,omitzero"`
	Network  NetworkUsage  `json:"network,omitzero"`
	Pids     PidsUsage     `json:"pids,omitzero"`
	Pressure PressureUsage `json:"pressure,omitzero"`
	// RunQueueWaits counts how often a thread waited so long for a CPU: below 1 µs,
	// then from 2^(i-1) to below 2^i µs, the last without an end. Empty: not counted.
	// They are a sample: those that were seen in RunQueueWatched, some fortieth of the time.
	RunQueueWaits []uint64 `json:"runQueueWaits,omitempty"`
	// RunQueueWatched is for how long the agent has looked for such waits.
	RunQueueWatched time.Duration `json:"runQueueWatchedNs,omitempty"`
}

// CPUUsage is CPU time, of all threads together.
type CPUUsage struct {
	Total  *time.Duration `json:"totalNs,omitempty"`
	User   *time.Duration `json:"userNs,omitempty"`
	System *time.Duration `json:"systemNs,omitempty"`
	// LimitMillis is the quota in thousandths of a core; nil: none.
	LimitMillis *uint64 `json:"limitMillis,omitempty"`
	// Throttled is how long threads were held back by the quota, in ThrottledPeriods
	// of its Periods.
	Throttled        *time.Duration `json:"throttledNs,omitempty"`
	Periods          *uint64        `json:"periods,omitempty"`
	ThrottledPeriods *uint64        `json:"throttledPeriods,omitempty"`
}

// MemoryUsage is in bytes, but for the events, which are counted.
type MemoryUsage struct {
	Current *uint64 `json:"currentBytes,omitempty"`
	Peak    *uint64 `json:"peakBytes,omitempty"`
	// PeakSampled tells that the kernel keeps no peak: it is the highest of the samples.
	PeakSampled bool    `json:"peakSampled,omitempty"`
	Anon        *uint64 `json:"anonBytes,omitempty"`
	File        *uint64 `json:"fileBytes,omitempty"`
	Kernel      *uint64 `json:"kernelBytes,omitempty"`
	Swap        *uint64 `json:"swapBytes,omitempty"`
	HugePages   *uint64 `json:"hugePagesBytes,omitempty"`
	// Limit is nil where there is none.
	Limit *uint64 `json:"limitBytes,omitempty"`
	// MaxEvents is how often memory reached its limit, OOMEvents how often that was
	// out of memory, OOMKills how many processes that has cost.
	MaxEvents *uint64    `json:"maxEvents,omitempty"`
	OOMEvents *uint64    `json:"oomEvents,omitempty"`
	OOMKills  *uint64    `json:"oomKills,omitempty"`
	OOMVictim *OOMVictim `json:"oomVictim,omitempty"`
}

// ReachedLimit tells, of a job that the OOM killer has met, whether the job's own memory
// limit had to do with it; a process is killed as well where a cgroup above, or the
// machine, has no memory left, against which a higher limit is no help. It goes by
// OOMEvents, and where the kernel does not count those (cgroup v1) by MaxEvents and by a
// peak within 1/64 of the limit. False also where nothing of it is known, as of nil.
func (u *Usage) ReachedLimit() bool {
	if u == nil {
		return false
	}
	m := &u.Memory
	if m.OOMEvents != nil { // else page cache may have filled it, without harm
		return *m.OOMEvents > 0
	}
	if m.MaxEvents != nil && *m.MaxEvents > 0 {
		return true
	}
	limit := uint64(0)
	if m.Limit != nil {
		limit = *m.Limit
	}
	if m.OOMVictim != nil && m.OOMVictim.LimitBytes > 0 {
		limit = m.OOMVictim.LimitBytes
	}
	// What a CPU has taken in advance, and gives back before the limit is said to be
	// reached, keeps the peak a little below it.
	return limit > 0 && m.Peak != nil && *m.Peak >= limit-limit/64
}

// OOMVictim is the largest process of the job that the OOM killer chose.
type OOMVictim struct {
	// Name is at most 15 bytes, and the process's own choice.
	Name string `json:"name"`
	// Pid is that of the node's PID namespace.
	Pid uint32 `json:"pid"`
	// Bytes is what it held in memory, LimitBytes its cgroup's limit, which need not be
	// what was reached; 0: unknown, or none.
	Bytes      uint64 `json:"bytes,omitempty"`
	LimitBytes uint64 `json:"limitBytes,omitempty"`
}

// IOUsage is that of block devices, of all together.
type IOUsage struct {
	ReadBytes  *uint64 `json:"readBytes,omitempty"`
	WriteBytes *uint64 `json:"writeBytes,omitempty"`
	ReadOps    *uint64 `json:"readOps,omitempty"`
	WriteOps   *uint64 `json:"writeOps,omitempty"`
}

// NetworkUsage is that of the job's own sockets. What goes over loopback is
// transmitted and received.
type NetworkUsage struct {
	IPv4 *Traffic `json:"ipv4,omitempty"`
	IPv6 *Traffic `json:"ipv6,omitempty"`
}

// Total is both address families together; nil if neither was counted.
func (n NetworkUsage) Total() *Traffic {
	var total *Traffic
	for _, t := range []*Traffic{n.IPv4, n.IPv6} {
		if t == nil {
			continue
		}
		if total == nil {
			total = &Traffic{}
		}
		total.ReceiveBytes += t.ReceiveBytes
		total.ReceivePackets += t.ReceivePackets
		total.TransmitBytes += t.TransmitBytes
		total.TransmitPackets += t.TransmitPackets
	}
	return total
}

// Traffic is bytes, headers of IP and above included, and packets.
type Traffic struct {
	ReceiveBytes    uint64 `json:"receiveBytes"`
	ReceivePackets  uint64 `json:"receivePackets"`
	TransmitBytes   uint64 `json:"transmitBytes"`
	TransmitPackets uint64 `json:"transmitPackets"`
}

// PidsUsage counts processes and threads.
type PidsUsage struct {
	Current *uint64 `json:"current,omitempty"`
	// Limit is nil where there is none.
	Limit *uint64 `json:"limit,omitempty"`
}

// PressureUsage is how long some, or all, of the threads that had something to do
// waited for what was short (the kernel's PSI).
type PressureUsage struct {
	CPUSome    *time.Duration `json:"cpuSomeNs,omitempty"`
	CPUFull    *time.Duration `json:"cpuFullNs,omitempty"`
	MemorySome *time.Duration `json:"memorySomeNs,omitempty"`
	MemoryFull *time.Duration `json:"memoryFullNs,omitempty"`
	IOSome     *time.Duration `json:"ioSomeNs,omitempty"`
	IOFull     *time.Duration `json:"ioFullNs,omitempty"`
}

// Sample is a usage at a time, by the worker's clock.
type Sample struct {
	Time  time.Time `json:"time"`
	Usage Usage     `json:"usage"`
}

// Probe is a part of the eBPF that assists the measuring.
type Probe struct {
	Name string `json:"name"`
	// Absent is why it does not work, in one line; empty: it does.
	Absent string `json:"absent,omitempty"`
}

// Run is what is known of one attempt of a job once it is over: what a report shows
// and an advice stands on. What is not known is empty.
type Run struct {
	Namespace string `json:"namespace,omitempty"`
	Provider  string `json:"provider,omitempty"`
	Attempt   string `json:"attempt,omitempty"`
	Spec      *Spec  `json:"spec,omitempty"`
	// Phases are those of the start, in the order of their times.
	Phases  []Event  `json:"phases,omitempty"`
	Outcome *Outcome `json:"outcome,omitempty"`
	// Samples are in the order of their times, not evenly spaced, and at most a few
	// hundred: of a long job every second, fourth, ... one was kept.
	Samples []Sample `json:"samples,omitempty"`
}
