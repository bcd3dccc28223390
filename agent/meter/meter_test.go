package meter

import (
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/cgroup"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// files writes a directory that looks like a cgroup's, and opens it.
func files(t testing.TB, content map[string]string) *os.File {
	t.Helper()
	root := t.TempDir()
	for name, text := range content {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return dir
}

// version2 is a cgroup with all controllers.
func version2() map[string]string {
	return map[string]string{
		"cgroup.controllers": "cpu memory io pids\n", "cgroup.events": "populated 1\nfrozen 0\n",
		"cpu.stat":       "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 7\nnr_throttled 3\nthrottled_usec 900\n",
		"cpu.max":        "150000 100000\n",
		"memory.current": "1000\n", "memory.peak": "2000\n", "memory.max": "67108864\n", "memory.swap.current": "5\n",
		"memory.stat":   "anon 600\nfile 300\nkernel 100\n",
		"memory.events": "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n",
		"io.stat":       "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
		"pids.current":  "6\n", "pids.max": "100\n",
		"cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=11\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n",
	}
}

// metered is a meter of files.
func metered(t testing.TB, content map[string]string) *Meter {
	t.Helper()
	group, err := cgroup.Open(files(t, content))
	if err != nil {
		t.Fatal(err)
	}
	m := &Meter{began: time.Now(), group: group}
	t.Cleanup(m.Close)
	return m
}

func TestMeterOfCgroup(t *testing.T) {
	without := func(names ...string) map[string]string {
		content := version2()
		for _, name := range names {
			delete(content, name)
		}
		return content
	}
	all := func(change func(*hodeipb.Usage)) *hodeipb.Usage {
		u := &hodeipb.Usage{
			Source: "cgroup2",
			CpuNs:  proto.Uint64(3_000_000), CpuUserNs: proto.Uint64(2_000_000), CpuSystemNs: proto.Uint64(1_000_000),
			CpuLimitMillis: proto.Uint64(1500),
			CpuThrottledNs: proto.Uint64(900_000), CpuPeriods: proto.Uint64(7), CpuThrottledPeriods: proto.Uint64(3),
			MemoryBytes: proto.Uint64(1000), MemoryPeakBytes: proto.Uint64(2000), MemoryLimitBytes: proto.Uint64(64 << 20),
			MemorySwapBytes: proto.Uint64(5),
			MemoryAnonBytes: proto.Uint64(600), MemoryFileBytes: proto.Uint64(300), MemoryKernelBytes: proto.Uint64(100),
			MemoryMaxEvents: proto.Uint64(4), OomEvents: proto.Uint64(2), OomKills: proto.Uint64(1),
			IoReadBytes: proto.Uint64(10), IoWriteBytes: proto.Uint64(20), IoReadOps: proto.Uint64(1), IoWriteOps: proto.Uint64(2),
			Pids: proto.Uint64(6), PidsLimit: proto.Uint64(100),
			CpuPressureSomeNs: proto.Uint64(11_000), CpuPressureFullNs: proto.Uint64(12_000),
		}
		change(u)
		return u
	}
	tests := []struct {
		name    string
		content map[string]string
		want    *hodeipb.Usage
	}{
		{"all", version2(), all(func(*hodeipb.Usage) {})},
		{"a kernel without a peak", without("memory.peak"), all(func(u *hodeipb.Usage) {
			u.MemoryPeakBytes, u.MemoryPeakSampled = proto.Uint64(1000), true
		})},
		{"no quota, no controller of memory",
			without("cpu.max", "memory.current", "memory.peak", "memory.max", "memory.swap.current", "memory.stat", "memory.events"),
			all(func(u *hodeipb.Usage) {
				u.CpuLimitMillis, u.MemoryBytes, u.MemoryPeakBytes, u.MemoryLimitBytes, u.MemorySwapBytes = nil, nil, nil, nil, nil
				u.MemoryAnonBytes, u.MemoryFileBytes, u.MemoryKernelBytes = nil, nil, nil
				u.MemoryMaxEvents, u.OomEvents, u.OomKills = nil, nil, nil
			})},
		{"version 1",
			map[string]string{"cpuacct/cpuacct.usage": "77\n", "memory/memory.usage_in_bytes": "88\n",
				"memory/memory.limit_in_bytes": "9223372036854771712\n"},
			&hodeipb.Usage{Source: "cgroup1", CpuNs: proto.Uint64(77), MemoryBytes: proto.Uint64(88), MemoryPeakBytes: proto.Uint64(88),
				MemoryPeakSampled: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := metered(t, test.content)
			if got := m.Measure(); !proto.Equal(got.Usage, test.want) || !got.Time.IsValid() {
				t.Errorf("got  %v\nwant %v", got.Usage, test.want)
			}
			if n := testing.AllocsPerRun(100, func() { m.Measure() }); n > 4 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// TestMeterPeak: what was the highest stays it.
func TestMeterPeak(t *testing.T) {
	dir := files(t, map[string]string{"memory/memory.usage_in_bytes": "500\n"})
	group, err := cgroup.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := &Meter{group: group}
	defer m.Close()
	for _, step := range []struct{ now, peak string }{{"500", "500"}, {"900", "900"}, {"100", "900"}} {
		if err := os.WriteFile(filepath.Join(dir.Name(), "memory/memory.usage_in_bytes"), []byte(step.now+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		u := m.Measure().Usage
		if got := known(u.GetMemoryPeakBytes()); got.N != parse(t, step.peak) || u.GetMemoryBytes() != parse(t, step.now) ||
			!u.MemoryPeakSampled {
			t.Errorf("with %s now, %v", step.now, u)
		}
	}
}

func parse(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMeterOfNothing gives nothing, and no zeros.
func TestMeterOfNothing(t *testing.T) {
	m := &Meter{}
	if got := m.Measure(); got != nil {
		t.Errorf("measured %v", got)
	}
	m.End(&handover.Exit{CPUUser: time.Second})
	m.Close()
	m.Close()
}

// TestOpenMeterDegrades: a cgroup that is nobody's leaves a job that is there.
func TestOpenMeterDegrades(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"version 2", version2(), "cgroup2"},
		{"the machine's own", map[string]string{"cgroup.controllers": "cpu\n", "cpu.stat": "usage_usec 1\n"}, "proc"},
		{"no cgroup", map[string]string{"README": "hello\n"}, "proc"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			near, far := agenttest.SocketPair(t) // both ends are ours: there is a process to look at
			defer near.Close()
			defer far.Close()
			m, err := Open(&handover.Launcher{Conn: far, Files: handover.Files{handover.FDCgroup: files(t, test.files)}},
				Options{Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if got := m.Measure(); got.GetUsage().GetSource() != test.want {
				t.Errorf("measured %v, want %s", got, test.want)
			}
		})
	}
}

// TestProbeReplaces: what eBPF knows is not read from files too, and what it does not
// know is.
func TestProbeReplaces(t *testing.T) {
	m := metered(t, version2())
	m.probe = &jobProbe{counted: true, counters: probe.Counters{
		Known: probe.KnownCPU | probe.KnownBandwidth | probe.KnownQuota | probe.KnownMemory | probe.KnownPids,
		Usage: 31, User: 21, System: 11, Periods: 71, ThrottledPeriods: 3, Throttled: 91, Quota: 50, Period: 100,
		Memory: 1001, MemoryPeak: 2001, Swap: 6, MaxEvents: 41, OOMEvents: 21, OOMKills: 11, Pids: 61,
	}}
	left := m.probe.fileNames()
	m.group.Leave(left...)
	if n := len(m.group.Files()); n != len(version2())-2-len(left) { // two tell that it is version 2
		t.Errorf("%d files are open, %q were left", n, left)
	}
	want := &hodeipb.Usage{
		Source: "cgroup2",
		CpuNs:  proto.Uint64(31), CpuUserNs: proto.Uint64(21), CpuSystemNs: proto.Uint64(11), CpuLimitMillis: proto.Uint64(500),
		CpuThrottledNs: proto.Uint64(91), CpuPeriods: proto.Uint64(71), CpuThrottledPeriods: proto.Uint64(3),
		MemoryBytes: proto.Uint64(1001), MemoryPeakBytes: proto.Uint64(2001), MemorySwapBytes: proto.Uint64(6),
		MemoryMaxEvents: proto.Uint64(41), OomEvents: proto.Uint64(21), OomKills: proto.Uint64(11), Pids: proto.Uint64(61),
		// from the files
		MemoryLimitBytes: proto.Uint64(64 << 20),
		MemoryAnonBytes:  proto.Uint64(600), MemoryFileBytes: proto.Uint64(300), MemoryKernelBytes: proto.Uint64(100),
		IoReadBytes: proto.Uint64(10), IoWriteBytes: proto.Uint64(20), IoReadOps: proto.Uint64(1), IoWriteOps: proto.Uint64(2),
		PidsLimit:         proto.Uint64(100),
		CpuPressureSomeNs: proto.Uint64(11_000), CpuPressureFullNs: proto.Uint64(12_000),
	}
	// The probe is none that could count once more: these are what they were last.
	m.group.Read(&m.sample)
	f := &figures{usage: hodeipb.Usage{Source: m.source()}}
	m.byCgroup(f)
	m.probe.add(f, true)
	if got := &f.usage; !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	// What has ended the job, and what it has cost, is in files; what is not, is absent.
	got := m.Measure().Usage
	if got.CpuNs == nil || got.MemoryPeakBytes == nil || got.MemoryPeakSampled || got.OomKills == nil || got.OomEvents == nil ||
		got.MemoryBytes != nil || got.Pids != nil {
		t.Errorf("counters of a job that lives, which could not be read: %v", got)
	}
}

// TestMeterOfTheGone: figures of a cgroup that has gone keep their time.
func TestMeterOfTheGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := metered(t, version2())
		m.began = time.Now()
		m.probe = &jobProbe{counted: true, counters: probe.Counters{Known: probe.KnownCPU, Usage: 31}}
		time.Sleep(time.Second)
		m.Measure()
		m.group.Close() // as if it were gone
		time.Sleep(time.Minute)
		got := m.Measure()
		if at := got.Time.AsTime().Sub(m.began); at != time.Second {
			t.Errorf("the sample is of %v after the start, want 1s", at)
		}
		if got.Usage.GetCpuNs() != 31 || got.Usage.GetMemoryBytes() == 0 {
			t.Errorf("measured %v", got.Usage)
		}
	})
}

func TestMillis(t *testing.T) {
	absent := cgroup.Figure{}
	tests := []struct {
		name          string
		limit, period cgroup.Figure
		want          cgroup.Figure
	}{
		{"half a core", known(50), known(100), known(500)},
		{"three", known(300_000_000), known(100_000_000), known(3000)},
		{"no limit", absent, known(100), absent},
		{"no period", known(50), absent, absent},
		{"a period of nothing", known(50), known(0), absent},
		{"absurd", known(1 << 60), known(1), absent},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := millis(test.limit, test.period); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestFiguresRoom: each number of a Usage has its place.
func TestFiguresRoom(t *testing.T) {
	f, optional := &figures{}, 0
	fields := f.usage.ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		if fields.Get(i).HasOptionalKeyword() {
			optional++
		}
	}
	if optional > len(f.room) {
		t.Errorf("room for %d of %d numbers", len(f.room), optional)
	}
	to := make([]*uint64, len(f.room)+1)
	for i := range to {
		f.put(&to[i], known(uint64(i)))
	}
	for i, n := range to {
		if n == nil || *n != uint64(i) {
			t.Errorf("number %d is %v", i, n)
		}
	}
}
