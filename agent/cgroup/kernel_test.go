package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// kernelTest is set where the kernel is known to have all of version 2: what is
// missing there fails, and is not skipped.
var kernelTest = os.Getenv("HODEI_KERNEL_TEST") == "1"

// group is a cgroup of this machine's kernel, made for a test.
type group struct {
	dir  *os.File // for Open
	dirs []string // in each hierarchy
}

// makeGroup makes a cgroup of that version, or skips the test with the reason.
func makeGroup(t testing.TB, version Version) *group {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making a cgroup needs root")
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("hodei-test-%d", os.Getpid())
	g := &group{}
	root := t.TempDir()
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		switch point, kind, options := f[1], f[2], f[3]; {
		case version == V2 && kind == "cgroup2" && g.dirs == nil:
			root = g.add(t, filepath.Join(point, name))
		case version == V1 && kind == "cgroup":
			for option := range strings.SplitSeq(options, ",") {
				if _, known := filesV1[option]; known && !slices.Contains(g.dirs, filepath.Join(point, name)) {
					g.bind(t, g.add(t, filepath.Join(point, name)), filepath.Join(root, filepath.Base(point)))
				}
			}
		}
	}
	if g.dirs == nil {
		if kernelTest && version == V2 {
			t.Fatal("no cgroup version 2 is mounted")
		}
		t.Skipf("no %s is mounted", version)
	}
	if g.dir, err = os.Open(root); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.dir.Close() })
	return g
}

// add makes one directory, and returns it.
func (g *group) add(t testing.TB, path string) string {
	t.Helper()
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Skipf("no cgroup can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	g.dirs = append(g.dirs, path)
	return path
}

// bind shows a hierarchy's directory where a container would see it.
func (g *group) bind(t testing.TB, path, where string) {
	t.Helper()
	if err := os.Mkdir(where, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(path, where, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("no cgroup can be shown as a container would see it: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(where, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// run runs a shell command in the cgroup, to its end.
func (g *group) run(t testing.TB, command string) {
	t.Helper()
	var enter strings.Builder
	for _, dir := range g.dirs {
		fmt.Fprintf(&enter, "echo $$ >%s/cgroup.procs && ", dir)
	}
	if out, err := exec.Command("sh", "-c", enter.String()+command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// file is the content of a file of the group, in whichever hierarchy it is.
func (g *group) file(t testing.TB, name string) (string, bool) {
	t.Helper()
	for _, dir := range g.dirs {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return string(b), true
		}
	}
	return "", false
}

// told is the number that a file gives, by key where it has any, read without
// this package.
func (g *group) told(t testing.TB, name, key string, factor uint64) Figure {
	t.Helper()
	content, ok := g.file(t, name)
	words := strings.FieldsFunc(content, func(r rune) bool { return strings.ContainsRune(" =\n", r) })
	at := 0
	if key != "" {
		at = slices.Index(words, key) + 1
		ok = ok && at > 0
	}
	if !ok || at >= len(words) {
		return Figure{}
	}
	n, err := strconv.ParseUint(words[at], 10, 64)
	if err != nil {
		return Figure{}
	}
	return fig(n * factor)
}

const touched = 32 << 20 // bytes of memory that the test's job holds

// work makes every controller count something, and ends, so that nothing changes
// after it.
func (g *group) work(t testing.TB) {
	g.run(t, fmt.Sprintf("head -c %d /dev/zero | tail -c %d | wc -c >/dev/null", touched, touched))
}

// between expects that each figure of got is what was read before it, or after it, or
// between the two: the kernel frees memory of processes that have ended when it finds time.
func between(t *testing.T, before, got, after Sample) {
	t.Helper()
	bounds := make(map[string][]Figure)
	for _, s := range []Sample{before, after} {
		eachFigure(s, func(path string, f Figure) { bounds[path] = append(bounds[path], f) })
	}
	eachFigure(got, func(path string, f Figure) {
		a, b := bounds[path][0], bounds[path][1]
		if f.Known != a.Known || f.N < min(a.N, b.N) || f.N > max(a.N, b.N) {
			t.Errorf("%s = %v, the files say %v before and %v after", path, f, a, b)
		}
	})
}

// toldV2 is a sample without this package; without a job's limits, but with those
// figures of s that have no number to look for.
func (g *group) toldV2(t *testing.T, s Sample) Sample {
	t.Helper()
	return Sample{
		CPU: CPU{
			Total: g.told(t, "cpu.stat", "usage_usec", 1000), User: g.told(t, "cpu.stat", "user_usec", 1000),
			System:  g.told(t, "cpu.stat", "system_usec", 1000),
			Periods: g.told(t, "cpu.stat", "nr_periods", 1), ThrottledPeriods: g.told(t, "cpu.stat", "nr_throttled", 1),
			Throttled: g.told(t, "cpu.stat", "throttled_usec", 1000),
			Period:    g.told(t, "cpu.max", "max", 1000),
		},
		Memory: Memory{
			Current: g.told(t, "memory.current", "", 1), Peak: g.told(t, "memory.peak", "", 1), Anon: g.told(t, "memory.stat", "anon", 1),
			File: g.told(t, "memory.stat", "file", 1), Kernel: g.told(t, "memory.stat", "kernel", 1),
			Swap:      g.told(t, "memory.swap.current", "", 1),
			MaxEvents: g.told(t, "memory.events", "max", 1), OOMEvents: g.told(t, "memory.events", "oom", 1),
			OOMKills: g.told(t, "memory.events", "oom_kill", 1),
		},
		IO:   s.IO, // what sh and tail had to be read for
		Pids: Pids{Current: g.told(t, "pids.current", "", 1)},
		Pressure: Pressure{
			CPUSome: g.told(t, "cpu.pressure", "total", 1000), CPUFull: s.Pressure.CPUFull,
			MemorySome: g.told(t, "memory.pressure", "total", 1000), MemoryFull: s.Pressure.MemoryFull,
			IOSome: g.told(t, "io.pressure", "total", 1000), IOFull: s.Pressure.IOFull,
		},
		HugePages: g.told(t, "hugetlb.2MB.current", "", 1),
	}
}

// toldV1 is the same of version 1.
func (g *group) toldV1(t *testing.T, s Sample) Sample {
	t.Helper()
	maxEvents := g.told(t, "memory.failcnt", "", 1)
	if swap := g.told(t, "memory.memsw.failcnt", "", 1); swap.Known {
		maxEvents = maxEvents.plus(swap)
	}
	return Sample{
		CPU: CPU{
			Total: g.told(t, "cpuacct.usage", "", 1), User: g.told(t, "cpuacct.stat", "user", 10_000_000),
			System:  g.told(t, "cpuacct.stat", "system", 10_000_000),
			Periods: g.told(t, "cpu.stat", "nr_periods", 1), ThrottledPeriods: g.told(t, "cpu.stat", "nr_throttled", 1),
			Throttled: g.told(t, "cpu.stat", "throttled_time", 1),
			Period:    g.told(t, "cpu.cfs_period_us", "", 1000),
		},
		Memory: Memory{
			Current: g.told(t, "memory.usage_in_bytes", "", 1), Peak: g.told(t, "memory.max_usage_in_bytes", "", 1),
			Anon: g.told(t, "memory.stat", "total_rss", 1),
			File: g.told(t, "memory.stat", "total_cache", 1), Kernel: g.told(t, "memory.kmem.usage_in_bytes", "", 1),
			Swap:      g.told(t, "memory.stat", "total_swap", 1),
			MaxEvents: maxEvents, OOMKills: g.told(t, "memory.oom_control", "oom_kill", 1),
		},
		IO:        s.IO, // of disks that were set up for it alone
		Pids:      Pids{Current: g.told(t, "pids.current", "", 1)},
		HugePages: g.told(t, "hugetlb.2MB.usage_in_bytes", "", 1),
	}
}

func TestKernelV2(t *testing.T) {
	g := makeGroup(t, V2)
	if content, _ := g.file(t, "cgroup.controllers"); kernelTest {
		for _, controller := range []string{"cpu", "memory", "io", "pids"} {
			if !slices.Contains(strings.Fields(content), controller) {
				t.Errorf("controller %s is missing in %q", controller, content)
			}
		}
	}
	r, err := Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g.work(t)
	first := read(t, r)
	before := g.toldV2(t, first)
	s := read(t, r)
	s.IO, s.Pressure.CPUFull = first.IO, first.Pressure.CPUFull
	s.Pressure.MemoryFull, s.Pressure.IOFull = first.Pressure.MemoryFull, first.Pressure.IOFull
	between(t, before, s, g.toldV2(t, first))
	if kernelTest && (!s.IO.ReadBytes.Known || s.Memory.Peak.N < touched) {
		t.Errorf("peak memory %v, I/O %v, want at least %d and some", s.Memory.Peak, s.IO, touched)
	}
	goneAfter(t, g, r)
}

func TestKernelV1(t *testing.T) {
	g := makeGroup(t, V1)
	r, err := Open(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	g.work(t)
	before := g.toldV1(t, Sample{})
	s := read(t, r)
	s.IO = IO{}
	between(t, before, s, g.toldV1(t, Sample{}))
	if s.Memory.Peak.Known && s.Memory.Peak.N < touched {
		t.Errorf("peak memory %d, want at least %d", s.Memory.Peak.N, touched)
	}
	goneAfter(t, g, r)
}

// goneAfter removes the cgroup and expects that its last sample stays.
func goneAfter(t *testing.T, g *group, r *Reader) {
	t.Helper()
	var last, s Sample
	r.Read(&last)
	if r.Gone() {
		t.Error("Gone() before the cgroup was removed")
	}
	for _, dir := range g.dirs {
		if err := os.Remove(dir); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the first finds it gone, the second knows
		if r.Read(&s); s != last || s.Time.IsZero() {
			t.Errorf("%v was read of a cgroup that was removed, want the last sample %v", s, last)
		}
		if !r.Gone() {
			t.Error("not Gone() after the cgroup was removed")
		}
	}
}

// BenchmarkSample takes full samples of a cgroup in which there has been some work.
// Beside it stands what nobody can do without: the same files, read and not parsed.
func BenchmarkSample(b *testing.B) {
	for _, version := range []Version{V1, V2} {
		b.Run(version.String(), func(b *testing.B) {
			g := makeGroup(b, version)
			r, err := Open(g.dir)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			g.work(b)
			b.Run("pread alone", func(b *testing.B) {
				buf := make([]byte, bufferBytes)
				for b.Loop() {
					for i := range r.sources {
						if _, err := unix.Pread(r.sources[i].fd, buf, 0); err != nil {
							b.Fatal(r.sources[i].path, err)
						}
					}
				}
				b.ReportMetric(float64(len(r.sources)), "files/op")
			})
			b.Run("read", func(b *testing.B) {
				var s Sample
				b.ReportAllocs()
				for b.Loop() {
					r.Read(&s)
				}
				if r.Gone() || !s.CPU.Total.Known {
					b.Fatal("nothing was read")
				}
			})
		})
	}
}
