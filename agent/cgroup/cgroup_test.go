package cgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// read reads one sample, without its time.
func read(t testing.TB, r *Reader) Sample {
	t.Helper()
	before := time.Now()
	var s Sample
	r.Read(&s)
	if s.Time.Before(before) || s.Time.After(time.Now()) {
		t.Errorf("the sample's time is %s, not now", s.Time)
	}
	s.Time = time.Time{}
	return s
}

func TestRead(t *testing.T) {
	const most = "18446744073709551615"
	tests := []struct {
		name    string
		fixture string
		change  func(tree)
		version Version
		want    Sample
	}{
		{name: "v2", fixture: "v2-linux-6.12", version: V2, want: sampleV2},
		{name: "v2 of Linux 6.1", fixture: "v2-linux-6.1", version: V2, want: Sample{
			CPU: CPU{
				Total: fig(901569000), User: fig(554175000), System: fig(347393000),
				Periods: fig(44), ThrottledPeriods: fig(43), Throttled: fig(3388220000),
				Limit: fig(20_000_000), Period: fig(100_000_000),
			},
			Memory: Memory{
				Current: fig(5365760), Peak: fig(64 << 20), Anon: fig(8192), File: fig(5242880), Kernel: fig(81920),
				Swap: fig(0), Limit: fig(64 << 20), MaxEvents: fig(35), OOMEvents: fig(1), OOMKills: fig(1),
			},
			IO:   IO{fig(0), fig(0), fig(0), fig(0)},
			Pids: Pids{fig(1), fig(100)},
			Pressure: Pressure{
				CPUSome: fig(3520341000), CPUFull: fig(3500053000), MemorySome: fig(3221000), MemoryFull: fig(3221000),
				IOSome: fig(0), IOFull: fig(0),
			},
			HugePages: fig(0),
		}},
		{name: "v1", fixture: "v1-linux-6.18", version: V1, want: sampleV1},
		{name: "hybrid", fixture: "hybrid-linux-6.18", version: Hybrid,
			want: with(sampleV1, func(s *Sample) { s.Pressure = pressureHybrid })},
		{name: "nothing", version: None},
		{name: "nothing known", change: func(f tree) { f["cpuset/cpuset.cpus"], f["version"] = "0\n", "2\n" }, version: None},

		{name: "v2 without limits", fixture: "v2-linux-6.12", change: func(f tree) {
			f["cpu.max"], f["memory.max"], f["pids.max"] = "max 100000\n", "max\n", "max\n"
		}, version: V2, want: with(sampleV2, func(s *Sample) {
			s.CPU.Limit, s.Memory.Limit, s.Pids.Limit = Figure{}, Figure{}, Figure{}
		})},
		{name: "v1 without limits", fixture: "v1-linux-6.18", change: func(f tree) {
			f["cpu/cpu.cfs_quota_us"], f["memory/memory.limit_in_bytes"], f["pids/pids.max"] = "-1\n", "9223372036854771712\n", "max\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) {
			s.CPU.Limit, s.Memory.Limit, s.Pids.Limit = Figure{}, Figure{}, Figure{}
		})},
		{name: "v1 without a limit, in pages of 64 KiB", fixture: "v1-linux-6.18", change: func(f tree) {
			f["memory/memory.limit_in_bytes"] = "9223372036854710272\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) { s.Memory.Limit = Figure{} })},

		{name: "v2 without controllers", fixture: "v2-linux-6.12", change: func(f tree) {
			for _, prefix := range []string{"cpu.max", "memory.", "io.stat", "pids.", "hugetlb."} {
				f.delete(prefix)
			}
			f["cpu.stat"] = "usage_usec 3\nuser_usec 2\nsystem_usec 1\n"
		}, version: V2, want: Sample{
			CPU:      CPU{Total: fig(3000), User: fig(2000), System: fig(1000)},
			Pressure: Pressure{CPUSome: sampleV2.Pressure.CPUSome, CPUFull: sampleV2.Pressure.CPUFull, IOSome: fig(0), IOFull: fig(0)},
		}},
		{name: "v2 before Linux 5.18", fixture: "v2-linux-6.12", change: func(f tree) {
			f.delete("memory.peak")
			f["memory.stat"] = strings.Replace(f["memory.stat"], "kernel 98304\n", "", 1)
			f["cpu.pressure"], _, _ = strings.Cut(f["cpu.pressure"], "full")
		}, version: V2, want: with(sampleV2, func(s *Sample) {
			s.Memory.Peak, s.Memory.Kernel, s.Pressure.CPUFull = Figure{}, Figure{}, Figure{}
		})},
		{name: "v1 without controllers", fixture: "v1-linux-6.18", change: func(f tree) {
			for _, prefix := range []string{"cpu/", "memory/", "pids/", "blkio/"} {
				f.delete(prefix)
			}
		}, version: V1, want: Sample{CPU: CPU{Total: sampleV1.CPU.Total, User: sampleV1.CPU.User, System: sampleV1.CPU.System}}},
		{name: "v1 before Linux 4.13", fixture: "v1-linux-6.18", change: func(f tree) {
			f["memory/memory.oom_control"] = "oom_kill_disable 0\nunder_oom 0\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) { s.Memory.OOMKills = Figure{} })},
		{name: "v1, controllers together", fixture: "v1-linux-6.18", change: func(f tree) {
			for _, name := range []string{"cpu.stat", "cpu.cfs_quota_us", "cpu.cfs_period_us"} {
				f["cpu,cpuacct/"+name] = f["cpu/"+name]
			}
			for _, name := range []string{"cpuacct.usage", "cpuacct.stat"} {
				f["cpu,cpuacct/"+name] = f["cpuacct/"+name]
			}
			f.delete("cpu/")
			f.delete("cpuacct/")
		}, version: V1, want: sampleV1},
		{name: "v1, blkio of a disk with a limit", fixture: "v1-linux-6.18", change: func(f tree) {
			f["blkio/blkio.throttle.io_service_bytes_recursive"] = "7:0 Read 8\n7:0 Write 9\n7:0 Sync 17\n8:0 Read 1\n8:0 Write 0\nTotal " +
				"18\n"
			f["blkio/blkio.throttle.io_serviced_recursive"] = "7:0 Read 2\n7:0 Write 3\n7:0 Total 5\nTotal 5\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) { s.IO = IO{fig(9), fig(9), fig(2), fig(3)} })},
		{name: "v1, blkio of an old kernel", fixture: "v1-linux-6.18", change: func(f tree) {
			f.delete("blkio/")
			f["blkio/blkio.throttle.io_service_bytes"] = "7:0 Read 8\n7:0 Write 9\nTotal 17\n"
			f["blkio/blkio.throttle.io_serviced"] = "7:0 Read 2\n7:0 Write 3\nTotal 5\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) { s.IO = IO{fig(8), fig(9), fig(2), fig(3)} })},
		{name: "v1, one controller in its root", fixture: "v1-linux-6.18", change: func(f tree) { f["pids/release_agent"] = "\n" },
			version: V1, want: with(sampleV1, func(s *Sample) { s.Pids = Pids{} })},
		{name: "hybrid in version 2's root", fixture: "hybrid-linux-6.18", change: func(f tree) { f.delete("unified/cgroup.events") },
			version: V1, want: sampleV1},
		{name: "hybrid without cpuacct", fixture: "hybrid-linux-6.18", change: func(f tree) { f.delete("cpuacct/") },
			version: Hybrid, want: with(sampleV1, func(s *Sample) {
				s.Pressure = pressureHybrid
				s.CPU.Total, s.CPU.User, s.CPU.System = fig(247398000), fig(201011000), fig(46387000)
			})},
		{name: "hybrid with nothing but version 2", fixture: "v2-linux-6.12", change: func(f tree) {
			for name, content := range maps.Clone(f) {
				delete(f, name)
				f["unified/"+name] = content
			}
		}, version: V2, want: sampleV2},
		{name: "v2 with cgroups below", fixture: "v2-linux-6.12", change: func(f tree) {
			for name := range maps.Clone(f) {
				f["below/"+name], f["memory/"+name] = "7\n", "7\n"
			}
		}, version: V2, want: sampleV2},
		{name: "v1 with cgroups below", fixture: "v1-linux-6.18", change: func(f tree) {
			for name := range maps.Clone(f) {
				f[filepath.Dir(name)+"/below/"+filepath.Base(name)] = "7\n"
			}
		}, version: V1, want: sampleV1},

		{name: "v2, empty", fixture: "v2-linux-6.12", change: func(f tree) { f.all(func(string) string { return "" }) },
			version: V2, want: Sample{IO: sampleV2.IO}}, // which is what it says before the first operation
		{name: "v1, empty", fixture: "v1-linux-6.18", change: func(f tree) { f.all(func(string) string { return "" }) }, version: V1},
		{name: "v2, garbage", fixture: "v2-linux-6.12",
			change:  func(f tree) { f.all(func(string) string { return "\x00 \xff=-1\n\n = \n" }) },
			version: V2, want: Sample{IO: sampleV2.IO}},
		{name: "v1, garbage", fixture: "v1-linux-6.18",
			change: func(f tree) { f.all(func(string) string { return "\x00 \xff=-1\n\n = \n" }) }, version: V1},
		{name: "hybrid, too large", fixture: "hybrid-linux-6.18", change: func(f tree) { f.all(large(most + "0")) }, version: Hybrid},
		{name: "v2, too large", fixture: "v2-linux-6.12", change: func(f tree) { f.all(large(most + "0")) }, version: V2,
			want: Sample{IO: sampleV2.IO}},
		{name: "v2, too large in nanoseconds", fixture: "v2-linux-6.12", change: func(f tree) { f.all(large(most)) }, version: V2,
			want: Sample{
				CPU: CPU{Periods: fig(1<<64 - 1), ThrottledPeriods: fig(1<<64 - 1)},
				Memory: Memory{
					Current: fig(1<<64 - 1), Peak: fig(1<<64 - 1), Anon: fig(1<<64 - 1), File: fig(1<<64 - 1), Kernel: fig(1<<64 - 1),
					Swap:  fig(1<<64 - 1),
					Limit: fig(1<<64 - 1), MaxEvents: fig(1<<64 - 1), OOMEvents: fig(1<<64 - 1), OOMKills: fig(1<<64 - 1),
				},
				IO:        sampleV2.IO,
				Pids:      Pids{fig(1<<64 - 1), fig(1<<64 - 1)},
				HugePages: fig(1<<64 - 1),
			}},
		{name: "v2, torn", fixture: "v2-linux-6.12", change: func(f tree) {
			f.all(func(s string) string { return strings.TrimSuffix(s, "\n") })
			f["io.stat"] = "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n8:16 rbytes=5"
		}, version: V2, want: with(sampleV2, func(s *Sample) {
			*s = Sample{CPU: s.CPU, Memory: s.Memory, Pressure: s.Pressure}
			m := &s.Memory
			m.Current, m.Peak, m.Limit, m.Swap = Figure{}, Figure{}, Figure{}, Figure{}
			s.CPU.Limit, s.CPU.Period = Figure{}, Figure{}
			p := &s.Pressure
			p.CPUFull, p.MemoryFull, p.IOFull = Figure{}, Figure{}, Figure{}
		})},
		{name: "v2, too long", fixture: "v2-linux-6.12", change: func(f tree) {
			f["io.stat"] = strings.Repeat("8:0 rbytes=1 wbytes=2 rios=3 wios=4\n", bufferBytes/20)
			f["memory.stat"] += strings.Repeat("some_key 123456\n", bufferBytes/10)
			f["memory.events"] = strings.Repeat("low 0\n", (bufferBytes-10)/6) + "oom_kill 123\n" // torn at its 2
		}, version: V2, want: with(sampleV2, func(s *Sample) {
			s.IO = IO{}
			s.Memory.MaxEvents, s.Memory.OOMEvents, s.Memory.OOMKills = Figure{}, Figure{}, Figure{}
		})},
		{name: "v1, too long", fixture: "v1-linux-6.18", change: func(f tree) {
			f["blkio/blkio.throttle.io_serviced_recursive"] = strings.Repeat("8:0 Read 1\n", bufferBytes/8) + "Total 1\n"
			f["memory/memory.stat"] = strings.Repeat("some_key 123456\n", bufferBytes/16) + f["memory/memory.stat"]
		}, version: V1, want: with(sampleV1, func(s *Sample) {
			s.Memory.Anon, s.Memory.File, s.Memory.Swap = Figure{}, Figure{}, Figure{}
		})},
		{name: "huge pages", fixture: "v2-linux-6.12", change: func(f tree) {
			f["hugetlb.2MB.current"], f["hugetlb.1GB.current"], f["hugetlb.1GB.rsvd.current"] = "2097152\n", "1073741824\n", "7\n"
		}, version: V2, want: with(sampleV2, func(s *Sample) { s.HugePages = fig(1<<30 + 2<<20) })},
		{name: "huge pages, one size unknown", fixture: "v2-linux-6.12", change: func(f tree) {
			f["hugetlb.2MB.current"], f["hugetlb.1GB.current"] = "2097152\n", "some\n"
		}, version: V2, want: with(sampleV2, func(s *Sample) { s.HugePages = Figure{} })},
		{name: "huge pages, the first size unknown", fixture: "v1-linux-6.18", change: func(f tree) {
			f["hugetlb/hugetlb.1GB.usage_in_bytes"], f["hugetlb/hugetlb.2MB.usage_in_bytes"] = "some\n", "2097152\n"
		}, version: V1, want: sampleV1},
		{name: "huge pages of version 1", fixture: "v1-linux-6.18", change: func(f tree) {
			f["hugetlb/hugetlb.1GB.usage_in_bytes"], f["hugetlb/hugetlb.2MB.usage_in_bytes"] = "0\n", "2097152\n"
		}, version: V1, want: with(sampleV1, func(s *Sample) { s.HugePages = fig(2 << 20) })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := make(tree)
			if tt.fixture != "" {
				files = fixture(t, tt.fixture)
			}
			if tt.change != nil {
				tt.change(files)
			}
			dir := files.write(t)
			r, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			dir.Close() // which the caller may
			if got := r.Version(); got != tt.version {
				t.Errorf("Version() = %d, want %d", got, tt.version)
			}
			got := read(t, r)
			differ(t, got, tt.want)
			if r.Gone() {
				t.Error("Gone() = true")
			}
		})
	}
}

func TestOpenRoot(t *testing.T) {
	tests := []struct {
		name, fixture string
		change        func(tree)
	}{
		{"v2", "v2-linux-6.12", func(f tree) { f.delete("cgroup.events") }},
		{"v1", "v1-linux-6.18", func(f tree) {
			for _, controller := range []string{"cpu", "cpuacct", "memory", "blkio", "pids"} {
				f[controller+"/release_agent"] = "\n"
			}
		}},
		{"hybrid", "hybrid-linux-6.18", func(f tree) {
			for _, controller := range []string{"cpu", "cpuacct", "memory", "blkio", "pids"} {
				f[controller+"/release_agent"] = "\n"
			}
			f.delete("unified/cgroup.events")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fixture(t, tt.fixture)
			tt.change(files)
			if r, err := Open(files.write(t)); r != nil || !errors.Is(err, ErrRoot) {
				t.Errorf("Open() = %v, %v, want ErrRoot", r, err)
			}
		})
	}
}

// TestOpenOthers puts what is no file where one should be.
func TestOpenOthers(t *testing.T) {
	files := fixture(t, "v2-linux-6.12")
	for _, name := range []string{"memory.current", "memory.peak", "memory.max", "memory.stat"} {
		delete(files, name)
	}
	dir := files.write(t)
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir.Name(), "memory.current"), 0o755),
		os.Symlink("memory.swap.current", filepath.Join(dir.Name(), "memory.peak")),
		unix.Mkfifo(filepath.Join(dir.Name(), "memory.max"), 0o644),
		os.WriteFile(filepath.Join(dir.Name(), "memory.stat"), []byte("anon 1\nfile 2\n"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	differ(t, read(t, r), with(sampleV2, func(s *Sample) {
		s.Memory.Current, s.Memory.Peak, s.Memory.Limit = Figure{}, Figure{}, Figure{}
		s.Memory.Anon, s.Memory.File, s.Memory.Kernel = fig(1), fig(2), Figure{}
	}))
}

func TestOpenErrors(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if r, err := Open(file); r != nil || !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("Open() of a file = %v, %v, want %v", r, err, unix.ENOTDIR)
	}

	dir := fixture(t, "v2-linux-6.12").write(t)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	open := descriptors(t)
	few := unix.Rlimit{Cur: uint64(dir.Fd()) + 3, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if r != nil || !errors.Is(err, unix.EMFILE) {
		t.Errorf("Open() without descriptors = %v, %v, want %v", r, err, unix.EMFILE)
	}
	if left := descriptors(t); left != open {
		t.Errorf("%d descriptors are open after the error, %d were before", left, open)
	}
}

// descriptors counts those that are open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func TestClose(t *testing.T) {
	dir := fixture(t, "hybrid-linux-6.18").write(t)
	before := descriptors(t)
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var last, s Sample
	r.Read(&last)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open after Close, %d were before Open", after, before)
	}
	if r.Read(&s); s != last || !r.Gone() {
		t.Errorf("after Close: Gone() = %t, sample %v, want %v", r.Gone(), s, last)
	}
}

func TestNilReader(t *testing.T) {
	var r *Reader
	s := sampleV2
	r.Read(&s)
	if s != (Sample{}) {
		t.Errorf("Read() = %v, want nothing", s)
	}
	if r.Version() != None || r.Gone() || r.Files() != nil || r.Close() != nil {
		t.Error("a nil Reader knows something")
	}
}

func TestFiles(t *testing.T) {
	r, err := Open(fixture(t, "hybrid-linux-6.18").write(t))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := "blkio/blkio.throttle.io_service_bytes_recursive blkio/blkio.throttle.io_serviced_recursive cpu/cpu.stat"
	if got := strings.Join(r.Files(), " "); !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " unified/io.pressure") {
		t.Errorf("Files() = %s, want %s ... unified/io.pressure", got, want)
	}
}

func TestVersionString(t *testing.T) {
	for version, want := range map[Version]string{None: "", V1: "cgroup1", V2: "cgroup2", Hybrid: "cgroup1"} {
		if got := version.String(); got != want {
			t.Errorf("%d is %q, want %q", version, got, want)
		}
	}
}

func TestReadAllocates(t *testing.T) {
	for _, name := range []string{"v1-linux-6.18", "v2-linux-6.12", "hybrid-linux-6.18"} {
		t.Run(name, func(t *testing.T) {
			r, err := Open(fixture(t, name).write(t))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var s Sample
			if n := testing.AllocsPerRun(100, func() { r.Read(&s) }); n != 0 {
				t.Errorf("Read allocates %g times", n)
			}
		})
	}
}
