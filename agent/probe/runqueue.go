package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Buckets is the number of buckets of a [Histogram]: the last but one ends at
// 16.8 s, and a task that waits longer has other troubles.
const Buckets = 26

// Histogram is how long the job's tasks have waited for a CPU, each time that they
// could run while the probe was looking, which is some fortieth of the time: there were
// that many times more. What Watched is to the time since the probe was opened, Counts
// are to all waits, as far as the job did the same all the time.
type Histogram struct {
	// Watched is for how long it has looked.
	Watched time.Duration

	// Counts has the waits below 1 µs first, then in bucket i those of at least
	// 2^(i-1) µs and below 2^i µs. The last has no upper end.
	Counts [Buckets]uint64
	// Total is all those waits together, as the kernel adds them up in run_delay
	// (/proc/PID/schedstat, Documentation/scheduler/sched-stats.rst).
	Total time.Duration
}

// Waits is how many there are.
func (h *Histogram) Waits() (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// schedule is when to look.
type schedule struct {
	watch time.Duration // at a time
	every time.Duration // on average; no more than watch: always
}

// lookNowAndThen is a fortieth of the time. A program at the scheduler's switches
// costs every task of the machine, and each job's agent has one: alone it took 5 %
// from two processes that did nothing but switch, of which an empty program takes 3,
// and a hundred on a node would take several times what a switch takes. 25 ms have
// hundreds of switches of whoever suffers from waits, and to begin and to end
// takes some 20 µs.
var lookNowAndThen = schedule{watch: 25 * time.Millisecond, every: time.Second}

// waits counts at the scheduler's switches (bpf/runqueue.c), now and then.
type waits struct {
	objects struct {
		Waits       *ebpf.Map     `ebpf:"waits"`
		SchedSwitch *ebpf.Program `ebpf:"sched_switch"`
	}
	perCPU []waitRecord
	stop   chan struct{}
	looks  sync.WaitGroup

	mu      sync.Mutex
	link    link.Link     // nil: not looking
	since   time.Time     // when it began to look
	watched time.Duration // before that
	failure error         // of the last try to look; nil: there was none
}

// waitRecord is struct waits of bpf/runqueue.c.
type waitRecord struct {
	Sum     uint64
	Buckets [Buckets]uint64
}

func openWaits(job job, when schedule) (*waits, error) {
	kernel, err := job.kernel.Kernel()
	if err != nil {
		return nil, err
	}
	if !hasMember(kernel, "sched_info", "last_queued") {
		return nil, absence("the kernel does not note when a task is queued (CONFIG_SCHED_INFO)")
	}
	if !hasMember(kernel, "sched_entity", "cfs_rq") {
		return nil, absence("the kernel does not schedule by groups (CONFIG_FAIR_GROUP_SCHED)")
	}
	spec, err := loadRunqueue()
	if err != nil {
		return nil, err
	}
	if err := job.tell(spec); err != nil {
		return nil, err
	}
	w := &waits{stop: make(chan struct{})}
	if err := job.load(spec, &w.objects); err != nil {
		return nil, err
	}
	if err := w.look(); err != nil { // at once: many a job is short
		_ = w.close()
		return nil, err
	}
	if when.every > when.watch {
		w.looks.Go(func() { w.lookBy(when) })
	}
	return w, nil
}

// lookBy looks away and back until it is stopped. The pauses are of any length up to
// twice the average, lest they keep time with the job.
func (w *waits) lookBy(when schedule) {
	pause := when.every - when.watch
	timer := time.NewTimer(when.watch)
	defer timer.Stop()
	for looking := true; ; looking = !looking {
		select {
		case <-w.stop:
			return
		case <-timer.C:
		}
		if looking {
			_ = w.lookAway()
			timer.Reset(rand.N(2 * pause))
			continue
		}
		_ = w.look() // failed tells; if not now, then the next time
		timer.Reset(when.watch)
	}
}

func (w *waits) look() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil {
		return nil
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: w.objects.SchedSwitch})
	w.failure = err
	if err != nil {
		return err
	}
	w.link, w.since = l, time.Now()
	return nil
}

// check looks away and back, and reads.
func (w *waits) check() error {
	if err := w.lookAway(); err != nil {
		return err
	}
	if err := w.look(); err != nil {
		return err
	}
	return w.objects.Waits.Lookup(uint32(0), &w.perCPU)
}

// failed is why it could not look the last time that it was to; nil: it could, or there
// is none.
func (w *waits) failed() error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		return nil
	}
	return fmt.Errorf("it has looked for %s, and can't any more: %w", w.watched, onLine(w.failure))
}

func (w *waits) lookAway() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link == nil {
		return nil
	}
	w.watched += time.Since(w.since)
	err := w.link.Close()
	w.link = nil
	return err
}

// RunQueue is how long the job's tasks have waited for a CPU; false if the part is
// absent.
func (p *Probe) RunQueue() (Histogram, bool) {
	if p == nil {
		return Histogram{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waits == nil {
		return Histogram{}, false
	}
	return p.waits.read()
}

func (w *waits) read() (h Histogram, ok bool) {
	if err := w.objects.Waits.Lookup(uint32(0), &w.perCPU); err != nil {
		return Histogram{}, false
	}
	w.mu.Lock()
	h.Watched = w.watched
	if w.link != nil {
		h.Watched += time.Since(w.since)
	}
	w.mu.Unlock()
	for _, r := range w.perCPU {
		h.Total += time.Duration(r.Sum)
		for i, n := range r.Buckets {
			h.Counts[i] += n
		}
	}
	return h, true
}

func (w *waits) close() error {
	if w == nil {
		return nil
	}
	close(w.stop)
	w.looks.Wait()
	return errors.Join(w.lookAway(), w.objects.SchedSwitch.Close(), w.objects.Waits.Close())
}
