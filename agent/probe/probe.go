// Package probe measures with eBPF what no file of a cgroup has, or has only as
// text: the network traffic of a job, its cgroup's counters in one binary read,
// whom the OOM killer chose, and how long its tasks waited for a CPU. Start with
// [Open]. It needs Linux 6.1 with BTF and the capabilities BPF, PERFMON and, for
// the network, NET_ADMIN; it is for the agent, never for the job's container.
// Block I/O, pressure and huge pages stay with package cgroup.
package probe

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// The parts of a probe. Each is loaded on its own, or absent with a reason.
const (
	Network  = "network"  // bytes and packets of the job's sockets
	Stats    = "stats"    // counters of its cgroup in one read
	OOM      = "oom"      // whom the OOM killer chose
	RunQueue = "runqueue" // waits for a CPU
)

// Part is what became of one of the parts.
type Part struct {
	// Name is one of [Network], [Stats], [OOM] and [RunQueue].
	Name string
	// Err is nil if the part works. Otherwise it says in a line why it does not, and
	// what is missing.
	Err error
}

// Target is the job's cgroup in the v2 hierarchy, which exists beside the v1
// hierarchies of a hybrid machine too. That it is the job's alone is for the caller to
// know: the root of the hierarchy, where all are whom nobody has put elsewhere, is
// refused. The zero Target is no cgroup.
type Target struct {
	// Dir is its directory, which the caller may close after Open; nil: not to be had.
	// [Network] needs it.
	Dir *os.File
	// ID is the kernel's number for it; 0: unknown, then it is found through Dir.
	ID uint64
}

// Probe is what is loaded for one job. Its methods may be called on nil, which has
// no part, and by several goroutines at once.
type Probe struct {
	parts []Part

	mu      sync.Mutex
	network *network
	stats   *stats
	victim  *victim
	waits   *waits
}

// Open loads what it can for target. It never fails as a whole: see [Probe.Parts].
func Open(target Target) *Probe {
	p := &Probe{}
	dir, err := target.resolve()
	job := job{dir: dir, id: target.ID, level: levelUnknown, kernel: btf.NewCache()}

	p.part(Stats, err, needTracing, func() (err error) {
		if p.stats, err = openStats(job); err != nil {
			return err
		}
		job.level = p.stats.level
		return nil
	})
	p.part(Network, err, needNetwork, func() (err error) { p.network, err = openNetwork(job); return err })
	p.part(OOM, err, needTracing, func() (err error) { p.victim, err = openVictim(job); return err })
	p.part(RunQueue, err, needTracing, func() (err error) { p.waits, err = openWaits(job, lookNowAndThen); return err })
	return p
}

// part opens one part, unless it is known to be in vain.
func (p *Probe) part(name string, err error, needed []capability, open func() error) {
	if err == nil {
		err = missing(needed)
	}
	if err == nil {
		err = explain(open())
	}
	p.parts = append(p.parts, Part{Name: name, Err: err})
}

// job is a target whose id is known.
type job struct {
	dir   *os.File // nil: not to be had
	id    uint64
	level int32 // its depth below the root, which has 0; levelUnknown
	// kernel is what the kernel says of its types: megabytes, which go with the job.
	kernel *btf.Cache
}

// load loads those programs and maps of a part that objects has fields for. It has
// none for variables, whose memory would stay mapped until a garbage collection.
func (j job) load(spec *ebpf.CollectionSpec, objects any) error {
	return spec.LoadAndAssign(objects, &ebpf.CollectionOptions{Cache: j.kernel})
}

// levelUnknown makes programs take for the job's what is in its very cgroup only.
const levelUnknown = -1

// resolve checks the directory and finds the id by it. A directory of another file
// system is none.
func (t *Target) resolve() (*os.File, error) {
	if t.Dir == nil {
		if t.ID == rootID {
			return nil, errRoot
		}
		if t.ID == 0 {
			return nil, errors.New("the job's cgroup is not known: its launcher shows no cgroup v2 directory, " +
				"and the kernel gives no id of it before Linux 6.13")
		}
		return nil, nil
	}
	id, err := cgroupID(t.Dir)
	switch {
	case err == nil && id == rootID, err != nil && t.ID == rootID:
		return nil, errRoot
	case err == nil:
		t.ID = id
		return t.Dir, nil
	case t.ID != 0:
		return nil, nil
	}
	return nil, err
}

// rootID is the number of the hierarchy's root, the first that the kernel gives
// (fs/kernfs, kernfs_create_root).
const rootID = 1

const errRoot = absence("the job is in the root of cgroup v2, with all that nobody has put elsewhere")

// cgroupID is the number of the cgroup whose directory dir is: that of its inode,
// on machines of 64 bits (fs/kernfs, kernfs_ino).
func cgroupID(dir *os.File) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return 0, fmt.Errorf("look at the job's cgroup: %w", err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return 0, errors.New("the job's cgroup is of version 1: cgroup v2 is needed")
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return 0, fmt.Errorf("look at the job's cgroup: %w", err)
	}
	return st.Ino, nil
}

// Check reads each part once and closes those that can't be read, which are absent from
// then on. It is for who has given up the capabilities that Open takes: before Linux 5.19
// each call of bpf(2) asks for them (kernel/bpf/syscall.c), and security modules may.
func (p *Probe) Check() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.parts {
		part := &p.parts[i]
		if part.Err != nil {
			continue
		}
		if err := p.check(part.Name); err != nil {
			part.Err = fmt.Errorf("it loads, but can't be read without capabilities (Linux 5.19 asks for none): %w", onLine(err))
		}
	}
}

// check reads a part, and closes it where that fails.
func (p *Probe) check(name string) (err error) {
	switch name {
	case Network:
		if _, err = p.network.read(); err != nil {
			_ = p.network.close()
			p.network = nil
		}
	case Stats:
		if _, err = p.stats.iterator.read(&p.stats.record); err != nil {
			_ = p.stats.close()
			p.stats = nil
		}
	case OOM:
		if err = p.victim.objects.Victims.Lookup(uint32(0), &victimRecord{}); err != nil {
			_ = p.victim.close()
			p.victim = nil
		}
	case RunQueue:
		if err = p.waits.check(); err != nil {
			_ = p.waits.close()
			p.waits = nil
		}
	}
	return err
}

// Parts tells what has become of each part so far; none of a nil Probe.
func (p *Probe) Parts() []Part {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	parts := slices.Clone(p.parts)
	for i := range parts {
		if parts[i].Name == RunQueue && parts[i].Err == nil {
			parts[i].Err = p.waits.failed()
		}
	}
	return parts
}

// Close detaches and frees all parts. It may be called again.
func (p *Probe) Close() error {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := errors.Join(p.network.close(), p.stats.close(), p.victim.close(), p.waits.close())
	p.network, p.stats, p.victim, p.waits = nil, nil, nil, nil
	return err
}
