package probe

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/cgroup"
)

// BenchmarkStats compares a reading of all figures by eBPF with one of the files
// that have them, kept open and read whole, nothing parsed: no reader of files can be
// faster. Package cgroup's is beside them, which reads block I/O and pressure too. They
// take turns. In a job that does nothing there is nothing to sum up; the other one
// dirties its counters all the time.
func BenchmarkStats(b *testing.B) {
	for _, busy := range []bool{false, true} {
		b.Run(map[bool]string{false: "idle", true: "busy"}[busy], func(b *testing.B) {
			job := newGroup(b, "")
			p := job.opened(b, Stats)
			if busy {
				job.start(b, "churn")
			} else {
				job.start(b, "use", "50", strconv.Itoa(8<<20)).done(b)
			}
			var files []*os.File
			for _, name := range []string{"cpu.stat", "cpu.max", "memory.stat", "memory.current", "memory.peak", "memory.swap.current",
				"memory.max", "memory.events", "pids.current", "pids.max"} {
				f, err := os.Open(filepath.Join(job.path, name))
				if err != nil {
					continue // no such controller, or Linux 6.1 and no memory.peak
				}
				defer f.Close()
				files = append(files, f)
			}
			reader, err := cgroup.Open(job.dir)
			if err != nil {
				b.Fatal(err)
			}
			defer reader.Close()
			buf := make([]byte, 16<<10)
			var c Counters
			var sample cgroup.Sample
			b.ReportAllocs()
			const turn = 50
			var byFiles, byProgram, byReader []float64
			for b.Loop() {
				start := time.Now()
				for range turn {
					for _, f := range files {
						if _, err := unix.Pread(int(f.Fd()), buf, 0); err != nil {
							b.Fatal(err)
						}
					}
				}
				middle := time.Now()
				for range turn {
					if !p.Stats(&c) {
						b.Fatal("no stats")
					}
				}
				byFiles = append(byFiles, float64(middle.Sub(start))/turn)
				end := time.Now()
				byProgram = append(byProgram, float64(end.Sub(middle))/turn)
				for range turn {
					reader.Read(&sample)
				}
				byReader = append(byReader, float64(time.Since(end))/turn)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(len(files)), "files")
			b.ReportMetric(median(byFiles), "files-ns")
			b.ReportMetric(median(byProgram), "ebpf-ns")
			b.ReportMetric(median(byReader), "cgroup-ns")
			b.ReportMetric(median(byProgram)/median(byFiles), "ebpf/files")
			b.ReportMetric(median(byProgram)/median(byReader), "ebpf/cgroup")
		})
	}
}

// BenchmarkOpen is what a job's start pays for: all parts, and their end.
func BenchmarkOpen(b *testing.B) {
	job := newGroup(b, "")
	job.opened(b, RunQueue)
	for b.Loop() {
		p := Open(Target{Dir: job.dir})
		p.Close()
	}
}

// BenchmarkSlowdown is what a busy job pays for all parts of a probe: rounds of the
// same work with and without, by turns, and the median of what each pair differs by,
// with its quartiles, in CPU time that the cgroup has used by cpu.stat: others on the
// machine are not in it. Everything is on one CPU, and does nothing but what is
// measured. "neighbour" is for work in another cgroup than the job's; "always" is
// what it would be if the run queue were looked at all the time, of which a fortieth
// has to be added to the others: their rounds have a look in it or not, and a median is
// of those that have not. "none" is a pair without any probe, for what such a measurement is worth on the machine.
func BenchmarkSlowdown(b *testing.B) {
	probes := map[string]func(testing.TB, group) *Probe{
		"job":       func(_ testing.TB, g group) *Probe { return Open(Target{Dir: g.dir}) },
		"neighbour": func(_ testing.TB, g group) *Probe { return Open(Target{Dir: g.dir}) },
		"always":    func(t testing.TB, g group) *Probe { return g.watched(t) },
		"none":      func(testing.TB, group) *Probe { return nil },
	}
	for _, tt := range []struct {
		work, with string
		ops        int // some 100 ms of them
	}{
		{"network", "none", 8000}, {"network", "job", 8000}, {"network", "neighbour", 8000},
		{"switches", "none", 20_000}, {"switches", "job", 20_000}, {"switches", "neighbour", 20_000}, {"switches", "always", 20_000},
		{"forks", "none", 400}, {"forks", "job", 400},
	} {
		b.Run(tt.work+"/"+tt.with, func(b *testing.B) {
			job := newGroup(b, "")
			job.opened(b, RunQueue).Close()
			in := job
			if tt.with == "neighbour" {
				in = newGroup(b, "")
			}
			w := in.start(b, "bench-"+tt.work)
			round := func(ops int) float64 {
				before := in.read(b, "cpu.stat", "usage_usec")
				fmt.Fprintln(w.stdin, ops)
				if line := w.line(); line != "round" {
					b.Fatal(line)
				}
				return 1000 * float64(in.read(b, "cpu.stat", "usage_usec")-before) / float64(ops)
			}
			const pairs = 40
			var without, ratios []float64
			for i := range pairs {
				var took [2]float64
				for turn := range took {
					with := (turn + i) % 2 // the first of a pair has no advantage
					var p *Probe
					if with == 1 {
						p = probes[tt.with](b, job)
					}
					round(tt.ops / 2) // the first look at the run queue is over then
					took[with] = round(tt.ops)
					p.Close()
				}
				without = append(without, took[0])
				ratios = append(ratios, 100*(took[1]/took[0]-1))
			}
			slices.Sort(ratios)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(without), "without-ns")
			b.ReportMetric(median(ratios), "slowdown-%")
			b.ReportMetric(ratios[pairs/4], "quartile1-%")
			b.ReportMetric(ratios[3*pairs/4], "quartile3-%")
		})
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func init() {
	// Dirties CPU time and memory counters until it is killed.
	workloads["churn"] = func([]string) error {
		for {
			memory, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
			if err != nil {
				return err
			}
			if err := unix.Munmap(memory); err != nil {
				return err
			}
		}
	}
	workloads["bench-network"] = func([]string) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fds, end, err := echo(func(with func(*os.File)) error {
			conn, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			there, err := l.Accept()
			if err != nil {
				return err
			}
			f, err := there.(*net.TCPConn).File()
			if err != nil {
				return err
			}
			g, err := conn.(*net.TCPConn).File()
			if err != nil {
				return err
			}
			with(f)
			with(f)
			with(g)
			with(g)
			return nil
		})
		if err != nil {
			return err
		}
		defer end()
		return rounds(func(n int) { pass(fds[0], fds[1], n, true) })
	}
	workloads["bench-switches"] = func([]string) error {
		fds, end, err := echo(func(with func(*os.File)) error {
			there, mine, err := os.Pipe()
			if err != nil {
				return err
			}
			back, theirs, err := os.Pipe()
			if err != nil {
				return err
			}
			with(there)
			with(theirs)
			with(back)
			with(mine)
			return nil
		})
		if err != nil {
			return err
		}
		defer end()
		return rounds(func(n int) { pass(fds[0], fds[1], n, true) })
	}
	workloads["echo"] = func([]string) error {
		if err := onOneCPU(); err != nil {
			return err
		}
		for _, fd := range []int{3, 4} {
			if err := unix.SetNonblock(fd, false); err != nil {
				return err
			}
		}
		pass(3, 4, -1, false)
		return nil
	}
	workloads["bench-forks"] = func([]string) error {
		if err := onOneCPU(); err != nil {
			return err
		}
		return rounds(func(n int) {
			for range n {
				pid, _, _ := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
				if pid == 0 {
					unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
				}
				unix.RawSyscall6(unix.SYS_WAIT4, pid, 0, 0, 0, 0, 0)
			}
		})
	}
}

// echo starts a process on the same CPU that sends back what it reads. connect gives
// its ends for reading and writing first, then ours.
func echo(connect func(with func(*os.File)) error) (fds [2]int, end func(), err error) {
	if err := onOneCPU(); err != nil {
		return fds, nil, err
	}
	var files []*os.File
	if err := connect(func(f *os.File) { files = append(files, f) }); err != nil {
		return fds, nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), workloadVariable+"=echo")
	cmd.ExtraFiles = files[:2]
	if err := cmd.Start(); err != nil {
		return fds, nil, err
	}
	for i := range fds {
		fds[i] = int(files[2+i].Fd()) // which makes it blocking
	}
	return fds, func() { cmd.Process.Kill(); cmd.Wait(); runtime.KeepAlive(files) }, nil
}

// pass sends and awaits 64 bytes so many times; it is without Go's scheduler, which
// has switches of its own. A negative n is until the end.
func pass(from, to, n int, first bool) {
	buf := new([64]byte) // on the heap, which does not move
	at := uintptr(unsafe.Pointer(buf))
	for ; n != 0; n-- {
		if first {
			unix.RawSyscall(unix.SYS_WRITE, uintptr(to), at, uintptr(len(buf)))
		}
		got, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(from), at, uintptr(len(buf)))
		if errno != 0 || got == 0 {
			return
		}
		if !first {
			unix.RawSyscall(unix.SYS_WRITE, uintptr(to), at, uintptr(len(buf)))
		}
	}
	runtime.KeepAlive(buf)
}

func onOneCPU() error {
	runtime.LockOSThread()
	var one unix.CPUSet
	one.Set(firstCPU())
	return unix.SchedSetaffinity(0, &one)
}

// rounds works as often as the parent says, and says when it has.
func rounds(work func(n int)) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			return err
		}
		work(n)
		fmt.Println("round")
	}
	return lines.Err()
}
