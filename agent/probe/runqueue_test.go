package probe

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// The workload "pingpong ROUNDS": two threads on one CPU wake each other through
// pipes, so that each wakes up while the other runs.
func init() {
	workloads["pingpong"] = func(args []string) error {
		rounds, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		var one unix.CPUSet
		one.Set(firstCPU())
		var there, back [2]int
		if err := unix.Pipe2(there[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		if err := unix.Pipe2(back[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		pass := func(from, to int, first bool) error {
			runtime.LockOSThread()
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				return err
			}
			b := []byte{1}
			for range rounds {
				if first {
					if _, err := unix.Write(to, b); err != nil {
						return err
					}
				}
				if _, err := unix.Read(from, b); err != nil {
					return err
				}
				if !first {
					if _, err := unix.Write(to, b); err != nil {
						return err
					}
				}
			}
			return nil
		}
		other := make(chan error)
		go func() {
			other <- pass(there[0], back[1], false)
			select {} // the thread's own figures go with it
		}()
		if err := pass(back[0], there[1], true); err != nil {
			return err
		}
		return <-other
	}
}

// firstCPU is one that this process may use.
func firstCPU() int {
	var set unix.CPUSet
	unix.SchedGetaffinity(0, &set)
	for i := range 1024 {
		if set.IsSet(i) {
			return i
		}
	}
	return 0
}

// schedstat is what the kernel has counted for the threads of a process: the time
// that they have waited, and how often they got a CPU.
func schedstat(t *testing.T, pid int) (waited, arrivals uint64) {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	for _, name := range names {
		var ran, wait, n uint64
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(string(text), &ran, &wait, &n); err != nil {
			t.Fatal(err)
		}
		waited += wait
		arrivals += n
	}
	return waited, arrivals
}

// watched is a probe that looks at the job's waits all the time.
func (g group) watched(t testing.TB) *Probe {
	t.Helper()
	g.opened(t, RunQueue).Close()
	target := Target{Dir: g.dir}
	dir, err := target.resolve()
	if err != nil {
		t.Fatal(err)
	}
	job := job{dir: dir, id: target.ID, level: levelUnknown, kernel: btf.NewCache()}
	s, err := openStats(job)
	if err != nil {
		t.Fatal(err)
	}
	job.level = s.level
	s.close()
	w, err := openWaits(job, schedule{})
	if err != nil {
		t.Fatal(err)
	}
	p := &Probe{waits: w}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestRunQueueNowAndThen(t *testing.T) {
	job := newGroup(t, "")
	job.opened(t, RunQueue).Close()
	synctest.Test(t, func(t *testing.T) {
		p := Open(Target{Dir: job.dir})
		defer p.Close()
		time.Sleep(lookNowAndThen.watch / 2) // the first look begins at once
		if h, _ := p.RunQueue(); h.Watched != lookNowAndThen.watch/2 {
			t.Errorf("watched for %v of the first %v", h.Watched, lookNowAndThen.watch/2)
		}
		const minutes = 2
		time.Sleep(minutes * time.Minute)
		h, ok := p.RunQueue()
		want := time.Duration(float64(minutes*time.Minute) * float64(lookNowAndThen.watch) / float64(lookNowAndThen.every))
		if !ok || h.Watched < want*7/10 || h.Watched > want*13/10 {
			t.Errorf("watched for %v of %d minutes, want about %v", h.Watched, minutes, want)
		}
	})
}

func TestRunQueue(t *testing.T) {
	const rounds = 20000
	job := newGroup(t, "")
	tests := []struct {
		name    string
		by      group
		counted bool
	}{
		{"in the job's cgroup", job, true},
		{"in one below", newGroup(t, job.path), true},
		{"in one beside", newGroup(t, ""), false},
		{"in the root", group{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := job.watched(t)
			w := tt.by.start(t, "pingpong", strconv.Itoa(rounds))
			w.done(t)
			waitedBefore, before := schedstat(t, w.cmd.Process.Pid)
			h, ok := p.RunQueue()
			if !ok {
				t.Fatal("no histogram")
			}
			if !tt.counted {
				if h.Waits() != 0 || h.Total != 0 {
					t.Errorf("counted %+v of others", h)
				}
				return
			}
			if s, err := p.waits.objects.SchedSwitch.Stats(); err == nil && s.RecursionMisses > 0 {
				t.Logf("the kernel left out %d calls", s.RecursionMisses)
			}
			waitedAfter, after := schedstat(t, w.cmd.Process.Pid)
			t.Logf("%v, %v", h.Counts, h.Total)
			// Its runtime's own threads run on: the figure is one of those in between. On a machine
			// with much to do one of some 10,000 is seen by the file alone.
			within(t, "waits", h.Waits(), min(max(h.Waits(), before), after), 5)
			within(t, "ns waited", uint64(h.Total), min(max(uint64(h.Total), waitedBefore), waitedAfter), uint64(20*time.Millisecond))
			if h.Waits() < 2*rounds {
				t.Errorf("%d waits of two threads that switched %d times each", h.Waits(), rounds)
			}
			// The buckets hold what their ends say: so do the sums of their ends.
			var least, most time.Duration
			for i, n := range h.Counts {
				if i > 0 {
					least += time.Duration(n) * time.Microsecond << (i - 1)
				}
				most += time.Duration(n) * time.Microsecond << i
			}
			if h.Total < least || h.Total > most {
				t.Errorf("%v in buckets of %v to %v", h.Total, least, most)
			}
		})
	}
}
