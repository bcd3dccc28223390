package probe

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Victim is a process of the job that the OOM killer chose: the largest, if it
// chose several since the probe was opened. With memory.oom.group it kills all of
// them, and the largest is the one that says why.
type Victim struct {
	// Name is the command's, cut at 15 bytes by the kernel. The job chose it: any bytes
	// but NUL may be in it.
	Name string
	// PID is the kernel's number of the process, not that of the container's PID
	// namespace.
	PID uint32
	// Bytes is what it had in memory: anonymous, file and shared memory, by the counters
	// that the kernel's log shows too. From Linux 6.2 on each CPU keeps up to some dozen
	// pages of them to itself.
	Bytes uint64
	// Limit is memory.max of its cgroup in bytes; 0: none.
	Limit uint64
	// Kills is how many processes were chosen, this one included.
	Kills uint64
}

// victim notes at the tracepoint mark_victim (bpf/victim.c).
type victim struct {
	objects struct {
		Victims    *ebpf.Map     `ebpf:"victims"`
		MarkVictim *ebpf.Program `ebpf:"mark_victim"`
	}
	link link.Link
}

// victimRecord is struct victim of bpf/victim.c.
type victimRecord struct {
	Kills uint64
	Bytes uint64
	Limit uint64 // pages
	PID   uint32
	Name  [16]byte
	_     [4]byte
}

func openVictim(job job) (*victim, error) {
	kernel, err := job.kernel.Kernel()
	if err != nil {
		return nil, err
	}
	if !namesVictim(kernel) {
		return nil, absence("the kernel's tracepoint mark_victim tells no more than a number " +
			"(Linux 6.8 tells more, and so do many that are older)")
	}
	spec, err := loadVictim()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(job.tell(spec), setVariable(spec, "page_size", uint64(os.Getpagesize()))); err != nil {
		return nil, err
	}
	v := &victim{}
	if err := job.load(spec, &v.objects); err != nil {
		return nil, err
	}
	v.link, err = link.AttachTracing(link.TracingOptions{Program: v.objects.MarkVictim})
	if err != nil {
		_ = v.close()
		return nil, err
	}
	return v, nil
}

// Victim is whom the OOM killer chose; false if it chose nobody, or if the part is
// absent.
func (p *Probe) Victim() (Victim, bool) {
	if p == nil {
		return Victim{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.victim == nil {
		return Victim{}, false
	}
	return p.victim.read()
}

// readsAtMost bounds how often a record is read that is being written, which takes
// less than the call that reads it.
const readsAtMost = 100

func (v *victim) read() (Victim, bool) {
	var before, r victimRecord
	for range readsAtMost {
		if err := v.objects.Victims.Lookup(uint32(0), &r); err != nil || r.Kills == 0 {
			return Victim{}, false
		}
		if r.Kills%2 == 0 && r == before {
			break
		}
		before = r
	}
	found := Victim{Name: unix.ByteSliceToString(r.Name[:]), PID: r.PID, Bytes: r.Bytes, Kills: r.Kills / 2}
	found.Limit, _ = bytesOfLimit(r.Limit)
	return found, true
}

func (v *victim) close() error {
	if v == nil {
		return nil
	}
	var err error
	if v.link != nil {
		err = v.link.Close()
	}
	return errors.Join(err, v.objects.MarkVictim.Close(), v.objects.Victims.Close())
}

// namesVictim says whether mark_victim's argument is the task.
func namesVictim(kernel *btf.Spec) bool {
	var point *btf.Typedef
	if err := kernel.TypeByName("btf_trace_mark_victim", &point); err != nil {
		return false
	}
	pointer, ok := point.Type.(*btf.Pointer)
	if !ok {
		return false
	}
	proto, ok := pointer.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) < 2 { // the first is the tracepoint's own
		return false
	}
	_, ok = btf.UnderlyingType(proto.Params[1].Type).(*btf.Pointer)
	return ok
}

// hasMember says whether a struct of the kernel has a member.
func hasMember(kernel *btf.Spec, name, member string) bool {
	var s *btf.Struct
	if err := kernel.TypeByName(name, &s); err != nil {
		return false
	}
	for _, m := range s.Members {
		if m.Name == member {
			return true
		}
	}
	return false
}

// tell gives a program of bpf/job.h the job.
func (j job) tell(spec *ebpf.CollectionSpec) error {
	return errors.Join(setVariable(spec, "job_id", j.id), setVariable(spec, "job_level", j.level))
}

// setVariable sets a constant of a program before it is loaded.
func setVariable(spec *ebpf.CollectionSpec, name string, value any) error {
	v := spec.Variables[name]
	if v == nil {
		return fmt.Errorf("the program has no variable %q", name)
	}
	return v.Set(value)
}
