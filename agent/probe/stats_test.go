package probe

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The workload "use MILLISECONDS BYTES": burns that much CPU time and keeps that much
// memory, of a mapping and of a file.
func init() {
	workloads["use"] = func(args []string) error {
		ms, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		size, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err != nil {
			return err
		}
		f, err := os.CreateTemp("", "hodei-probe-")
		if err != nil {
			return err
		}
		kept, keptFile = memory, f
		if err := os.Remove(f.Name()); err != nil {
			return err
		}
		if _, err := f.Write(memory[:size/2]); err != nil {
			return err
		}
		var used unix.Rusage
		for used.Utime.Nano()+used.Stime.Nano() < int64(ms)*1e6 {
			if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
				return err
			}
		}
		return nil
	}
}

// What the workload keeps when it is done.
var (
	kept     []byte
	keptFile *os.File
)

func TestStats(t *testing.T) {
	job := newGroup(t, "")
	const limit, quota = 1 << 30, 50_000
	controlled := job.has("memory.current")
	if controlled {
		job.set(t, "memory.max", strconv.Itoa(limit))
		job.set(t, "cpu.max", strconv.Itoa(quota)+" 100000")
		job.set(t, "pids.max", "100")
	}
	p := job.opened(t, Stats)
	w := job.start(t, "use", "700", strconv.Itoa(64<<20))
	w.done(t)

	var c Counters
	if !p.Stats(&c) || !c.Has(KnownCPU) {
		t.Fatalf("Stats() = %+v", c)
	}
	cpu := func(name string) uint64 { return 1000 * job.read(t, "cpu.stat", name) }
	const tick = uint64(10 * time.Millisecond)
	within(t, "usage", c.Usage, cpu("usage_usec"), tick/10)
	within(t, "user", c.User, cpu("user_usec"), tick)
	within(t, "system", c.System, cpu("system_usec"), tick)
	if c.Usage < 600e6 {
		t.Errorf("usage = %d ns after 700 ms", c.Usage)
	}
	if !controlled {
		if c.Has(KnownMemory) || c.Has(KnownBandwidth) || c.Has(KnownPids) {
			t.Errorf("figures of controllers that are not there: %+v", c)
		}
		t.Log("no controllers here: CPU time alone is compared")
		return
	}

	// Until 2 s have passed some kernels know no better.
	eventually(t, "memory.stat's figures are known and agree", func() bool {
		return p.Stats(&c) && c.Has(KnownMemoryStat) && c.Anon >= 64<<20 && c.File >= 32<<20
	})
	if all := KnownBandwidth | KnownQuota | KnownMemory | KnownMemoryLimit | KnownPids | KnownPidsLimit; !c.Has(all) {
		t.Errorf("Known = %b, want %b", c.Known, all)
	}
	within(t, "periods", c.Periods, job.read(t, "cpu.stat", "nr_periods"), 2)
	within(t, "throttled periods", c.ThrottledPeriods, job.read(t, "cpu.stat", "nr_throttled"), 1)
	within(t, "throttled", c.Throttled, cpu("throttled_usec"), tick)
	if c.ThrottledPeriods == 0 || c.Throttled == 0 {
		t.Error("700 ms at half a CPU were not throttled")
	}
	if c.Quota != 1000*quota || c.Period != 100e6 {
		t.Errorf("quota, period = %d, %d", c.Quota, c.Period)
	}
	const pages = 256 << 10 // each CPU keeps up to 64 pages to itself
	within(t, "memory", c.Memory, job.read(t, "memory.current", ""), pages)
	if job.has("memory.peak") {
		within(t, "memory peak", c.MemoryPeak, job.read(t, "memory.peak", ""), pages)
	}
	within(t, "swap", c.Swap, job.read(t, "memory.swap.current", ""), 0)
	within(t, "anon", c.Anon, job.read(t, "memory.stat", "anon"), pages)
	within(t, "file", c.File, job.read(t, "memory.stat", "file"), pages)
	within(t, "kernel", c.Kernel, job.read(t, "memory.stat", "kernel"), pages)
	within(t, "limit", c.MemoryLimit, limit, 0)
	within(t, "pids", c.Pids, job.read(t, "pids.current", ""), 0)
	within(t, "pids limit", c.PidsLimit, 100, 0)

	job.set(t, "memory.max", "max")
	job.set(t, "cpu.max", "max")
	job.set(t, "pids.max", "max")
	if !p.Stats(&c) || c.Known&(KnownMemoryLimit|KnownQuota|KnownPidsLimit) != 0 || c.MemoryLimit+c.Quota+c.Period+c.PidsLimit != 0 {
		t.Errorf("limits that are not there: %+v", c)
	}

	job.set(t, "memory.max", strconv.Itoa(40<<20)) // reclaims what it can: the file
	if !p.Stats(&c) {
		t.Fatal("no stats")
	}
	within(t, "max events", c.MaxEvents, job.read(t, "memory.events", "max"), 0)
	within(t, "oom events", c.OOMEvents, job.read(t, "memory.events", "oom"), 0)
	within(t, "oom kills", c.OOMKills, job.read(t, "memory.events", "oom_kill"), 0)
	if c.OOMKills == 0 {
		t.Error("64 MiB fit into 40")
	}
}

func TestStatsByID(t *testing.T) {
	job := newGroup(t, "")
	id, err := cgroupID(job.dir)
	if err != nil {
		t.Fatal(err)
	}
	p := Open(Target{ID: id})
	defer p.Close()
	requirePart(t, p, Stats)
	w := job.start(t, "use", "50", "4096")
	w.done(t)
	var c Counters
	if !p.Stats(&c) {
		t.Fatal("no stats")
	}
	within(t, "usage", c.Usage, 1000*job.read(t, "cpu.stat", "usage_usec"), 1e6)
}

func TestStatsOfRemovedCgroup(t *testing.T) {
	job := newGroup(t, "")
	path := filepath.Join(job.path, "nested")
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	p := group{path: path, dir: dir}.opened(t, Stats)
	c := Counters{}
	if !p.Stats(&c) {
		t.Fatal("no stats while it is there")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.Usage = 42
	if p.Stats(&c) || c.Usage != 42 {
		t.Errorf("Stats() of a cgroup that is gone = %+v", c)
	}
	after := Open(Target{Dir: dir})
	defer after.Close()
	for _, part := range after.Parts() {
		if part.Name == Stats && part.Err == nil {
			t.Error("opened for a cgroup that is gone")
		}
		t.Logf("%s: %v", part.Name, part.Err)
	}
}

func TestStatsAllocations(t *testing.T) {
	p := newGroup(t, "").opened(t, Stats)
	var c Counters
	if n := testing.AllocsPerRun(100, func() { p.Stats(&c) }); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
}

func TestCounters(t *testing.T) {
	page := uint64(os.Getpagesize())
	tests := []struct {
		name string
		r    record
		want Counters
	}{
		{"CPU alone", record{Usage: 7, Memory: 1, Pids: 1}, Counters{Known: KnownCPU, Usage: 7}},
		{"no quota", record{Have: haveBandwidth, Quota: math.MaxUint64, Period: 5, Periods: 3},
			Counters{Known: KnownCPU | KnownBandwidth, Periods: 3}},
		{"quota", record{Have: haveBandwidth, Quota: 4, Period: 5, Throttled: 6, ThrottledPeriods: 2},
			Counters{Known: KnownCPU | KnownBandwidth | KnownQuota, Quota: 4, Period: 5, Throttled: 6, ThrottledPeriods: 2}},
		{"no memory limit", record{Have: haveMemory, Memory: 9, MemoryMax: math.MaxInt64 / page},
			Counters{Known: KnownCPU | KnownMemory, Memory: 9}},
		{"a limit of nothing", record{Have: haveMemory}, Counters{Known: KnownCPU | KnownMemory | KnownMemoryLimit}},
		{"memory limit", record{Have: haveMemory, MemoryMax: 3, MemoryPeak: 8},
			Counters{Known: KnownCPU | KnownMemory | KnownMemoryLimit, MemoryLimit: 3 * page, MemoryPeak: 8}},
		{"pids", record{Have: havePids, Pids: 2, PidsLimit: pidsMost + 1}, Counters{Known: KnownCPU | KnownPids, Pids: 2}},
		{"pids limit", record{Have: havePids, Pids: 2, PidsLimit: 30},
			Counters{Known: KnownCPU | KnownPids | KnownPidsLimit, Pids: 2, PidsLimit: 30}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.r.counters(); got != tt.want {
				t.Errorf("counters() = %+v, want %+v", got, tt.want)
			}
		})
	}
}

// The C compiler's word on how large the record is, which no test sees that only
// looks at fields.
func TestRecordSize(t *testing.T) {
	spec, err := loadStats()
	if err != nil {
		t.Fatal(err)
	}
	victims, err := loadVictim()
	if err != nil {
		t.Fatal(err)
	}
	waits, err := loadRunqueue()
	if err != nil {
		t.Fatal(err)
	}
	network, err := loadNetwork()
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		got, want uint32
	}{
		{"stats", uint32(unsafe.Sizeof(record{})), spec.Variables["record_size"].Size()},
		{"victim", uint32(unsafe.Sizeof(victimRecord{})), victims.Maps["victims"].ValueSize},
		{"runqueue", uint32(unsafe.Sizeof(waitRecord{})), waits.Maps["waits"].ValueSize},
		{"network", uint32(unsafe.Sizeof(Count{})), network.Maps["counts"].ValueSize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.got != tt.want {
				t.Errorf("%d bytes in Go, %d in C", tt.got, tt.want)
			}
		})
	}
}

func TestDivide(t *testing.T) {
	tests := []struct {
		name                                    string
		usage, user, system, userWas, systemWas uint64
		wantUser, wantSystem                    uint64
	}{
		{"nothing", 0, 0, 0, 0, 0, 0, 0},
		{"no ticks yet", 500, 0, 0, 0, 0, 500, 0},
		{"user alone", 500, 10, 0, 0, 0, 500, 0},
		{"system alone", 500, 0, 10, 0, 0, 0, 500},
		{"three to one", 1000, 30, 10, 0, 0, 750, 250},
		{"system may not fall", 1000, 39, 1, 0, 100, 900, 100},
		{"user may not fall", 1000, 1, 39, 100, 0, 100, 900},
		{"usage behind", 100, 30, 10, 90, 20, 90, 20},
		{"beyond 64 bits in between", 1 << 62, 1 << 61, 1 << 61, 0, 0, 1 << 61, 1 << 61},
		{"ticks overflow", 1000, math.MaxUint64, math.MaxUint64, 100, 200, 100, 900},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			user, system := divide(tt.usage, tt.user, tt.system, tt.userWas, tt.systemWas)
			if user != tt.wantUser || system != tt.wantSystem {
				t.Errorf("divide() = %d, %d, want %d, %d", user, system, tt.wantUser, tt.wantSystem)
			}
		})
	}
}

func FuzzDivide(f *testing.F) {
	f.Add(uint64(1000), uint64(3), uint64(1), uint64(0), uint64(0))
	f.Add(uint64(math.MaxUint64), uint64(math.MaxUint64), uint64(1), uint64(5), uint64(7))
	f.Fuzz(func(t *testing.T, usage, userTicks, systemTicks, userWas, systemWas uint64) {
		if userWas+systemWas < userWas {
			t.Skip("it never gave these")
		}
		user, system := divide(usage, userTicks, systemTicks, userWas, systemWas)
		if user < userWas || system < systemWas || user+system != max(usage, userWas+systemWas) {
			t.Errorf("divide() = %d, %d", user, system)
		}
	})
}
