package probe

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// iterator is a link of an iterator's program to one cgroup. The ebpf package makes
// such links for maps only.
type iterator struct {
	link int
}

// linkCreate is union bpf_attr of linux/bpf.h for BPF_LINK_CREATE of an iterator.
type linkCreate struct {
	program    uint32
	_          uint32
	attachType uint32
	flags      uint32
	info       unsafe.Pointer
	_          [8 - unsafe.Sizeof(uintptr(0))]byte
	infoSize   uint32
	_          uint32
}

// cgroupInfo is union bpf_iter_link_info of linux/bpf.h for a cgroup, by its
// directory or its id.
type cgroupInfo struct {
	order uint32
	dir   uint32
	id    uint64
}

// cgroupSelfOnly is BPF_CGROUP_ITER_SELF_ONLY of linux/bpf.h.
const cgroupSelfOnly = 1

func openIterator(program int, job job) (*iterator, error) {
	info := &cgroupInfo{order: cgroupSelfOnly, id: job.id}
	if job.dir != nil {
		info.dir, info.id = uint32(job.dir.Fd()), 0
	}
	attr := &linkCreate{
		program: uint32(program), attachType: unix.BPF_TRACE_ITER,
		info: unsafe.Pointer(info), infoSize: uint32(unsafe.Sizeof(*info)),
	}
	fd, err := bpf(unix.BPF_LINK_CREATE, unsafe.Pointer(attr), unsafe.Sizeof(*attr))
	runtime.KeepAlive(job.dir)
	if err != nil {
		return nil, fmt.Errorf("attach to the job's cgroup: %w", err)
	}
	return &iterator{link: fd}, nil
}

// read lets the program run, which fills r; false if the cgroup is gone. The kernel
// gives a sequence once, so that there is a new one for each read.
func (it *iterator) read(r *record) (bool, error) {
	attr := struct{ link, flags uint32 }{link: uint32(it.link)}
	fd, err := bpf(unix.BPF_ITER_CREATE, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	if err != nil {
		return false, fmt.Errorf("create an iterator: %w", err)
	}
	defer unix.Close(fd)
	n, err := unix.Read(fd, unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r)))
	if err != nil {
		return false, os.NewSyscallError("read the job's counters", err)
	}
	return n == int(unsafe.Sizeof(*r)), nil
}

func (it *iterator) close() error {
	if it == nil {
		return nil
	}
	return unix.Close(it.link)
}

// bpf is bpf(2) for commands that give a descriptor. The kernel sets O_CLOEXEC.
func bpf(command uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}
