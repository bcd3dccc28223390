package probe

import (
	"errors"
	"time"

	"github.com/cilium/ebpf/link"
)

// Buckets is the number of buckets of a [Histogram]: the last but one ends at
// 16.8 s, and a task that waits longer has other troubles.
const Buckets = 26

// Histogram is how long the job's tasks have waited for a CPU, each time that they
// could run, since the probe was opened.
type Histogram struct {
	// Counts has the waits below 1 µs first, then in bucket i those of at least
	// 2^(i-1) µs and below 2^i µs. The last has no upper end.
	Counts [Buckets]uint64
	// Total is all the waits together, as the kernel adds them up in run_delay
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

// waits counts at the scheduler's switches (bpf/runqueue.c).
type waits struct {
	objects runqueueObjects
	link    link.Link
	perCPU  []waitRecord
}

// waitRecord is struct waits of bpf/runqueue.c.
type waitRecord struct {
	Sum     uint64
	Buckets [Buckets]uint64
}

func openWaits(job job) (*waits, error) {
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
	w := &waits{}
	if err := job.load(spec, &w.objects); err != nil {
		return nil, err
	}
	w.link, err = link.AttachTracing(link.TracingOptions{Program: w.objects.SchedSwitch})
	if err != nil {
		_ = w.close()
		return nil, err
	}
	return w, nil
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
	var err error
	if w.link != nil {
		err = w.link.Close()
	}
	return errors.Join(err, w.objects.Close())
}
