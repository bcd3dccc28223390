package cgroup

import (
	"bytes"
	"math"
)

// What the kernel counts in, in nanoseconds.
const (
	nsPerUs = 1000
	// nsPerTick is a hundredth of a second: USER_HZ is 100 wherever Go runs.
	nsPerTick = 10_000_000
)

// cutLine cuts the first line off b, without its end; false if there is no whole
// one.
func cutLine(b []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}

// cutPair cuts the first line off b and splits it into a key and a value; both are
// empty if it is not of that form.
func cutPair(b []byte) (key, value, rest []byte, ok bool) {
	line, rest, ok := cutLine(b)
	if !ok {
		return nil, nil, nil, false
	}
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		return line[:i], line[i+1:], rest, true
	}
	return nil, nil, rest, true
}

// number is a decimal number of nothing but digits; absent if b is anything else,
// such as "max", or does not fit.
func number(b []byte) Figure {
	if len(b) == 0 {
		return Figure{}
	}
	var n uint64
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return Figure{}
		}
		n = n*10 + d
	}
	return Figure{n, true}
}

// single is the number in a file that has one line.
func single(b []byte) Figure {
	line, rest, ok := cutLine(b)
	if !ok || len(rest) > 0 {
		return Figure{}
	}
	return number(line)
}

// limitV1 is memory.limit_in_bytes. Without a limit it is the largest number of
// pages that fits into 63 bits, or 64 in old kernels; pages have up to 256 KiB.
func limitV1(b []byte) Figure {
	f := single(b)
	if f.N > math.MaxInt64-256<<10 {
		return Figure{}
	}
	return f
}

// parseCPUStat reads cpu.stat of both versions: times in microseconds in version 2, in
// nanoseconds in version 1.
func parseCPUStat(b []byte, s *Sample) {
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		switch string(key) {
		case "usage_usec":
			s.CPU.Total = number(value).times(nsPerUs)
		case "user_usec":
			s.CPU.User = number(value).times(nsPerUs)
		case "system_usec":
			s.CPU.System = number(value).times(nsPerUs)
		case "nr_periods":
			s.CPU.Periods = number(value)
		case "nr_throttled":
			s.CPU.ThrottledPeriods = number(value)
		case "throttled_usec":
			s.CPU.Throttled = number(value).times(nsPerUs)
		case "throttled_time":
			s.CPU.Throttled = number(value)
		}
	}
}

// parseCPUMax reads cpu.max: "QUOTA PERIOD" in microseconds, QUOTA "max" without
// a limit.
func parseCPUMax(b []byte, s *Sample) {
	quota, period, rest, ok := cutPair(b)
	if !ok || len(rest) > 0 {
		return
	}
	s.CPU.Limit = number(quota).times(nsPerUs)
	s.CPU.Period = number(period).times(nsPerUs)
}

// parseCPUAcctStat reads cpuacct.stat: "user TICKS" and "system TICKS".
func parseCPUAcctStat(b []byte, s *Sample) {
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		switch string(key) {
		case "user":
			s.CPU.User = number(value).times(nsPerTick)
		case "system":
			s.CPU.System = number(value).times(nsPerTick)
		}
	}
}

// parseMemoryStat reads memory.stat of version 2, whose first lines have what is
// wanted of some 70.
func parseMemoryStat(b []byte, s *Sample) {
	found := 0
	for key, value, rest, ok := cutPair(b); ok && found < 3; key, value, rest, ok = cutPair(rest) {
		switch string(key) {
		case "anon":
			s.Memory.Anon = number(value)
		case "file":
			s.Memory.File = number(value)
		case "kernel":
			s.Memory.Kernel = number(value)
		default:
			continue
		}
		found++
	}
}

// parseMemoryStatV1 reads memory.stat of version 1; total_ is with the cgroups below.
func parseMemoryStatV1(b []byte, s *Sample) {
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		switch string(key) {
		case "total_cache":
			s.Memory.File = number(value)
		case "total_rss":
			s.Memory.Anon = number(value)
		case "total_swap":
			s.Memory.Swap = number(value)
			return // what follows is not wanted, and long
		}
	}
}

// parseOOM reads memory.events, and memory.oom_control of version 1, which has
// oom_kill alone.
func parseOOM(b []byte, s *Sample) {
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		switch string(key) {
		case "max":
			s.Memory.MaxEvents = number(value)
		case "oom":
			s.Memory.OOMEvents = number(value)
		case "oom_kill":
			s.Memory.OOMKills = number(value)
		}
	}
}

// parseIOStat reads io.stat: "MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N ..." for
// each device; nothing before the first operation. Linux 5.15 to 5.18 put a device
// that was not used before the next one on its line, or last without an end of the line,
// so it is pairs that count, not lines.
func parseIOStat(b []byte, s *Sample) {
	if b == nil {
		return
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	if bytes.IndexByte(b[end:], '=') >= 0 {
		return // torn
	}
	zero := Figure{Known: true}
	io := IO{ReadBytes: zero, WriteBytes: zero, ReadOps: zero, WriteOps: zero}
	for b = b[:end]; len(b) > 0; {
		i := bytes.IndexAny(b, " \n") // the last byte is one
		pair := b[:i]
		b = b[i+1:]
		eq := bytes.IndexByte(pair, '=')
		if eq < 0 {
			continue
		}
		switch string(pair[:eq]) {
		case "rbytes":
			io.ReadBytes = io.ReadBytes.plus(number(pair[eq+1:]))
		case "wbytes":
			io.WriteBytes = io.WriteBytes.plus(number(pair[eq+1:]))
		case "rios":
			io.ReadOps = io.ReadOps.plus(number(pair[eq+1:]))
		case "wios":
			io.WriteOps = io.WriteOps.plus(number(pair[eq+1:]))
		}
	}
	s.IO = io
}

func parseIOBytesV1(b []byte, s *Sample) { s.IO.ReadBytes, s.IO.WriteBytes = readWrite(b) }
func parseIOOpsV1(b []byte, s *Sample)   { s.IO.ReadOps, s.IO.WriteOps = readWrite(b) }

// readWrite sums up the lines "MAJOR:MINOR Read N" and "MAJOR:MINOR Write N" of
// all devices; without any device they are absent. The last line is "Total N"; what
// ends before is torn.
func readWrite(b []byte) (read, write Figure) {
	devices := false
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		if string(key) == "Total" {
			return read, write
		}
		if !devices {
			read, write, devices = Figure{Known: true}, Figure{Known: true}, true
		}
		if n, ok := bytes.CutPrefix(value, []byte("Read ")); ok {
			read = read.plus(number(n))
		} else if n, ok := bytes.CutPrefix(value, []byte("Write ")); ok {
			write = write.plus(number(n))
		}
	}
	return Figure{}, Figure{}
}

// pressures are the totals of a file of PSI: "some avg10=0.00 avg60=0.00
// avg300=0.00 total=MICROSECONDS", and the same with full.
func pressures(b []byte) (some, full Figure) {
	for key, value, rest, ok := cutPair(b); ok; key, value, rest, ok = cutPair(rest) {
		_, total, ok := bytes.Cut(value, []byte("total="))
		if !ok {
			continue
		}
		switch string(key) {
		case "some":
			some = number(total).times(nsPerUs)
		case "full":
			full = number(total).times(nsPerUs)
		}
	}
	return some, full
}

// parseHugePages reads the first size of huge pages, parseMoreHugePages adds the
// others.
func parseHugePages(b []byte, s *Sample)     { s.HugePages = single(b) }
func parseMoreHugePages(b []byte, s *Sample) { s.HugePages = s.HugePages.plus(single(b)) }
