package wire

import (
	"math"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// Usage puts an agent's figures into the words of a job; nil stays nil.
func Usage(u *hodeipb.Usage) *job.Usage {
	if u == nil {
		return nil
	}
	return &job.Usage{
		Source: u.Source,
		CPU: job.CPUUsage{
			Total: duration(u.CpuNs), User: duration(u.CpuUserNs), System: duration(u.CpuSystemNs),
			LimitMillis: u.CpuLimitMillis, Throttled: duration(u.CpuThrottledNs),
			Periods: u.CpuPeriods, ThrottledPeriods: u.CpuThrottledPeriods,
		},
		Memory: job.MemoryUsage{
			Current: u.MemoryBytes, Peak: u.MemoryPeakBytes, PeakSampled: u.MemoryPeakSampled,
			Anon: u.MemoryAnonBytes, File: u.MemoryFileBytes, Kernel: u.MemoryKernelBytes,
			Swap: u.MemorySwapBytes, HugePages: u.HugePagesBytes, Limit: u.MemoryLimitBytes,
			MaxEvents: u.MemoryMaxEvents, OOMEvents: u.OomEvents, OOMKills: u.OomKills, OOMVictim: victim(u.OomVictim),
		},
		IO:      job.IOUsage{ReadBytes: u.IoReadBytes, WriteBytes: u.IoWriteBytes, ReadOps: u.IoReadOps, WriteOps: u.IoWriteOps},
		Network: job.NetworkUsage{IPv4: traffic(u.NetIpv4), IPv6: traffic(u.NetIpv6)},
		Pids:    job.PidsUsage{Current: u.Pids, Limit: u.PidsLimit},
		Pressure: job.PressureUsage{
			CPUSome: duration(u.CpuPressureSomeNs), CPUFull: duration(u.CpuPressureFullNs),
			MemorySome: duration(u.MemoryPressureSomeNs), MemoryFull: duration(u.MemoryPressureFullNs),
			IOSome: duration(u.IoPressureSomeNs), IOFull: duration(u.IoPressureFullNs),
		},
		RunQueueWaits: u.RunQueueWaits, RunQueueWatched: time.Duration(min(u.RunQueueWatchedNs, math.MaxInt64)),
	}
}

// Sample puts one of an agent's samples into the words of a job.
func Sample(m *hodeipb.Metrics) job.Sample {
	s := job.Sample{Time: local(m.Time)}
	if u := Usage(m.Usage); u != nil {
		s.Usage = *u
	}
	return s
}

// Probes puts the parts of an agent's eBPF into the words of a job.
func Probes(probes []*hodeipb.Probe) []job.Probe {
	var out []job.Probe
	for _, p := range probes {
		out = append(out, job.Probe{Name: p.Name, Absent: p.Absent})
	}
	return out
}

// duration is of nanoseconds; absurd ones become the longest.
func duration(ns *uint64) *time.Duration {
	if ns == nil {
		return nil
	}
	d := time.Duration(min(*ns, math.MaxInt64))
	return &d
}

func traffic(t *hodeipb.Traffic) *job.Traffic {
	if t == nil {
		return nil
	}
	return &job.Traffic{
		ReceiveBytes: t.ReceiveBytes, ReceivePackets: t.ReceivePackets,
		TransmitBytes: t.TransmitBytes, TransmitPackets: t.TransmitPackets,
	}
}

func victim(v *hodeipb.OOMVictim) *job.OOMVictim {
	if v == nil {
		return nil
	}
	return &job.OOMVictim{Name: v.Name, Pid: v.Pid, Bytes: v.Bytes, LimitBytes: v.LimitBytes}
}

// Samples returns samples as a job has them, in their order.
func Samples(metrics []*hodeipb.Metrics) []job.Sample {
	samples := make([]job.Sample, 0, len(metrics))
	for _, m := range metrics {
		samples = append(samples, Sample(m))
	}
	return samples
}
