package exporter

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// metric is one name and where its values are. Names follow
// https://prometheus.io/docs/practices/naming/: base units, counters end with _total.
type metric struct {
	desc   *prometheus.Desc
	kind   prometheus.ValueType
	values func(*job.Usage) []value
}

// value is one of a metric's, with what tells it from the others of the attempt.
type value struct {
	value  float64
	labels []string
}

// lastSample tells figures that stand still from an agent that says nothing.
var lastSample = describe("last_sample_timestamp_seconds", "When the figures were read, by the worker's clock.")

// metrics are those of an attempt. A figure that is not known has no series.
var metrics = []metric{
	seconds("cpu_seconds_total", "CPU time of all threads.", func(u *job.Usage) *time.Duration { return u.CPU.Total }),
	seconds("cpu_user_seconds_total", "CPU time in user mode.", func(u *job.Usage) *time.Duration { return u.CPU.User }),
	seconds("cpu_system_seconds_total", "CPU time in the kernel.", func(u *job.Usage) *time.Duration { return u.CPU.System }),
	{describe("cpu_limit_cores", "The CPU quota; no series: none."), prometheus.GaugeValue, func(u *job.Usage) []value {
		if u.CPU.LimitMillis == nil {
			return nil
		}
		return []value{{value: float64(*u.CPU.LimitMillis) / 1000}}
	}},
	seconds("cpu_throttled_seconds_total", "Time that threads were held back by the CPU quota.",
		func(u *job.Usage) *time.Duration { return u.CPU.Throttled }),
	counter("cpu_periods_total", "Periods of the CPU quota.", func(u *job.Usage) *uint64 { return u.CPU.Periods }),
	counter("cpu_throttled_periods_total", "Periods of the CPU quota in which threads were held back.",
		func(u *job.Usage) *uint64 { return u.CPU.ThrottledPeriods }),

	gauge("memory_bytes", "Memory in use.", func(u *job.Usage) *uint64 { return u.Memory.Current }),
	gauge("memory_peak_bytes", "The most memory in use; of a kernel that keeps no peak, in any sample.",
		func(u *job.Usage) *uint64 { return u.Memory.Peak }),
	gauge("memory_limit_bytes", "The memory limit; no series: none.", func(u *job.Usage) *uint64 { return u.Memory.Limit }),
	gauge("memory_anon_bytes", "Anonymous memory in use.", func(u *job.Usage) *uint64 { return u.Memory.Anon }),
	gauge("memory_file_bytes", "Page cache in use.", func(u *job.Usage) *uint64 { return u.Memory.File }),
	gauge("memory_kernel_bytes", "The kernel's memory on behalf of the job.", func(u *job.Usage) *uint64 { return u.Memory.Kernel }),
	gauge("memory_swap_bytes", "Swap in use.", func(u *job.Usage) *uint64 { return u.Memory.Swap }),
	gauge("memory_hugepages_bytes", "Huge pages in use, all sizes together.", func(u *job.Usage) *uint64 { return u.Memory.HugePages }),
	counter("memory_limit_events_total", "How often memory reached its limit.", func(u *job.Usage) *uint64 { return u.Memory.MaxEvents }),
	counter("oom_events_total", "How often the job was out of memory.", func(u *job.Usage) *uint64 { return u.Memory.OOMEvents }),
	counter("oom_kills_total", "Processes killed by the OOM killer.", func(u *job.Usage) *uint64 { return u.Memory.OOMKills }),

	counter("io_read_bytes_total", "Bytes read from block devices.", func(u *job.Usage) *uint64 { return u.IO.ReadBytes }),
	counter("io_write_bytes_total", "Bytes written to block devices.", func(u *job.Usage) *uint64 { return u.IO.WriteBytes }),
	counter("io_reads_total", "Reads from block devices.", func(u *job.Usage) *uint64 { return u.IO.ReadOps }),
	counter("io_writes_total", "Writes to block devices.", func(u *job.Usage) *uint64 { return u.IO.WriteOps }),

	network("network_receive_bytes_total", "Bytes received, headers of IP and above included.",
		func(t *job.Traffic) uint64 { return t.ReceiveBytes }),
	network("network_receive_packets_total", "Packets received.", func(t *job.Traffic) uint64 { return t.ReceivePackets }),
	network("network_transmit_bytes_total", "Bytes sent, headers of IP and above included.",
		func(t *job.Traffic) uint64 { return t.TransmitBytes }),
	network("network_transmit_packets_total", "Packets sent.", func(t *job.Traffic) uint64 { return t.TransmitPackets }),

	gauge("pids", "Processes and threads.", func(u *job.Usage) *uint64 { return u.Pids.Current }),
	gauge("pids_limit", "The limit of processes and threads; no series: none.", func(u *job.Usage) *uint64 { return u.Pids.Limit }),

	{describe("pressure_seconds_total", "Time in which some, or all, of what had something to do waited.", "resource", "kind"),
		prometheus.CounterValue, pressure},
}

// describe names a metric of an attempt. The job is job_name, as kube-state-metrics has it:
// job is the label by which Prometheus says whom it asked.
func describe(name, help string, more ...string) *prometheus.Desc {
	return prometheus.NewDesc("hodei_job_"+name, help, append([]string{"namespace", "job_name", "attempt"}, more...), nil)
}

func seconds(name, help string, of func(*job.Usage) *time.Duration) metric {
	return metric{describe(name, help), prometheus.CounterValue, func(u *job.Usage) []value {
		d := of(u)
		if d == nil {
			return nil
		}
		return []value{{value: d.Seconds()}}
	}}
}

func counter(name, help string, of func(*job.Usage) *uint64) metric {
	return whole(name, help, prometheus.CounterValue, of)
}

func gauge(name, help string, of func(*job.Usage) *uint64) metric {
	return whole(name, help, prometheus.GaugeValue, of)
}

func whole(name, help string, kind prometheus.ValueType, of func(*job.Usage) *uint64) metric {
	return metric{describe(name, help), kind, func(u *job.Usage) []value {
		n := of(u)
		if n == nil {
			return nil
		}
		return []value{{value: float64(*n)}}
	}}
}

func network(name, help string, of func(*job.Traffic) uint64) metric {
	return metric{describe(name, help, "family"), prometheus.CounterValue, func(u *job.Usage) []value {
		var values []value
		for _, f := range []struct {
			name    string
			traffic *job.Traffic
		}{{"ipv4", u.Network.IPv4}, {"ipv6", u.Network.IPv6}} {
			if f.traffic != nil {
				values = append(values, value{float64(of(f.traffic)), []string{f.name}})
			}
		}
		return values
	}}
}

func pressure(u *job.Usage) []value {
	var values []value
	for _, p := range []struct {
		resource, kind string
		waited         *time.Duration
	}{
		{"cpu", "some", u.Pressure.CPUSome}, {"cpu", "full", u.Pressure.CPUFull},
		{"memory", "some", u.Pressure.MemorySome}, {"memory", "full", u.Pressure.MemoryFull},
		{"io", "some", u.Pressure.IOSome}, {"io", "full", u.Pressure.IOFull},
	} {
		if p.waited != nil {
			values = append(values, value{p.waited.Seconds(), []string{p.resource, p.kind}})
		}
	}
	return values
}
