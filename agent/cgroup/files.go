package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// part is a group of figures that come from one version of cgroups or the other.
type part int

const (
	cpuTime part = iota
	cpuLimit
	memory
	blockIO
	pids
	pressure
	hugePages
	parts // how many there are
)

// file says how figures are read from one of the kernel's files.
type file struct {
	name string
	part part
	// parse sets the figures in s that it finds in b, the file's content; nil: it
	// could not be read. A last line without its end is torn, and not taken.
	parse func(b []byte, s *Sample)
	// whole is of files with sums: a part of their lines is not a part of the truth.
	whole bool
}

// filesV2 are the files of version 2.
var filesV2 = []file{
	{name: "cpu.stat", part: cpuTime, parse: parseCPUStat},
	{name: "cpu.max", part: cpuLimit, parse: parseCPUMax},
	{name: "memory.current", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Current = single(b) }},
	{name: "memory.peak", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Peak = single(b) }},
	{name: "memory.max", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Limit = single(b) }},
	{name: "memory.swap.current", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Swap = single(b) }},
	{name: "memory.stat", part: memory, parse: parseMemoryStat},
	{name: "memory.events", part: memory, parse: parseOOM},
	{name: "io.stat", part: blockIO, parse: parseIOStat, whole: true},
	{name: "pids.current", part: pids, parse: func(b []byte, s *Sample) { s.Pids.Current = single(b) }},
	{name: "pids.max", part: pids, parse: func(b []byte, s *Sample) { s.Pids.Limit = single(b) }},
	{name: "cpu.pressure", part: pressure, parse: func(b []byte, s *Sample) {
		s.Pressure.CPUSome, s.Pressure.CPUFull = pressures(b)
	}},
	{name: "memory.pressure", part: pressure, parse: func(b []byte, s *Sample) {
		s.Pressure.MemorySome, s.Pressure.MemoryFull = pressures(b)
	}},
	{name: "io.pressure", part: pressure, parse: func(b []byte, s *Sample) {
		s.Pressure.IOSome, s.Pressure.IOFull = pressures(b)
	}},
}

// filesV1 are the files of each controller of version 1. Of one line the first
// that is there is read: the later ones are older kernels'.
var filesV1 = map[string][][]file{
	"cpuacct": {
		{{name: "cpuacct.usage", part: cpuTime, parse: func(b []byte, s *Sample) { s.CPU.Total = single(b) }}},
		// not usage_user and usage_sys: these are what the clock's ticks happened to hit,
		// 3 % beside the usage that they should add up to, where this is scaled to it
		{{name: "cpuacct.stat", part: cpuTime, parse: parseCPUAcctStat}},
	},
	"cpu": {
		{{name: "cpu.stat", part: cpuLimit, parse: parseCPUStat}},
		{{name: "cpu.cfs_quota_us", part: cpuLimit, parse: func(b []byte, s *Sample) { s.CPU.Limit = single(b).times(nsPerUs) }}},
		{{name: "cpu.cfs_period_us", part: cpuLimit, parse: func(b []byte, s *Sample) { s.CPU.Period = single(b).times(nsPerUs) }}},
	},
	"memory": {
		{{name: "memory.usage_in_bytes", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Current = single(b) }}},
		{{name: "memory.max_usage_in_bytes", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Peak = single(b) }}},
		{{name: "memory.limit_in_bytes", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Limit = limitV1(b) }}},
		{{name: "memory.kmem.usage_in_bytes", part: memory, parse: func(b []byte, s *Sample) { s.Memory.Kernel = single(b) }}},
		{{name: "memory.failcnt", part: memory, parse: func(b []byte, s *Sample) { s.Memory.MaxEvents = single(b) }}},
		// what runs into a limit of memory and swap together that is no higher counts there alone
		{{name: "memory.memsw.failcnt", part: memory,
			parse: func(b []byte, s *Sample) { s.Memory.MaxEvents = s.Memory.MaxEvents.plus(single(b)) }}},
		{{name: "memory.stat", part: memory, parse: parseMemoryStatV1}},
		{{name: "memory.oom_control", part: memory, parse: parseOOM}},
	},
	"blkio": {
		{
			{name: "blkio.throttle.io_service_bytes_recursive", part: blockIO, parse: parseIOBytesV1, whole: true},
			{name: "blkio.throttle.io_service_bytes", part: blockIO, parse: parseIOBytesV1, whole: true},
		},
		{
			{name: "blkio.throttle.io_serviced_recursive", part: blockIO, parse: parseIOOpsV1, whole: true},
			{name: "blkio.throttle.io_serviced", part: blockIO, parse: parseIOOpsV1, whole: true},
		},
	},
	"pids": {
		{{name: "pids.current", part: pids, parse: func(b []byte, s *Sample) { s.Pids.Current = single(b) }}},
		{{name: "pids.max", part: pids, parse: func(b []byte, s *Sample) { s.Pids.Limit = single(b) }}},
	},
	"hugetlb": {}, // a file for each size of page: openHugePages
}

// Names of what is looked for to tell the layouts apart.
const (
	markV2    = "cgroup.controllers" // in each directory of version 2
	notRootV2 = "cgroup.events"      // in each but the root
	rootV1    = "release_agent"      // in the root of version 1 alone
	unified   = "unified"            // where a hybrid keeps version 2, by systemd's custom
)

// maxEntries bounds how many names of a directory are looked at; the kernel's
// have some 90 files, and 20 controllers.
const maxEntries = 1024

// maxPageSizes bounds the sizes of huge pages; no architecture has more than 5.
const maxPageSizes = 8

// open opens what is there, in whatever layout.
func (r *Reader) open(dir *os.File) error {
	fd := int(dir.Fd())
	if exists(fd, markV2) {
		r.version = V2
		if !exists(fd, notRootV2) {
			return ErrRoot
		}
		return r.openV2(fd, ".", new([parts]bool))
	}
	roots, err := r.openV1(fd)
	if err != nil {
		return err
	}
	var have [parts]bool
	for _, s := range r.sources {
		r.version = V1
		have[s.part] = true
	}
	err = within(fd, unified, func(sub int) error {
		if !exists(sub, markV2) {
			return nil
		}
		if !exists(sub, notRootV2) {
			roots++
			return nil
		}
		before := len(r.sources)
		err := r.openV2(sub, unified, &have)
		switch {
		case len(r.sources) == before:
		case r.version == V1:
			r.version = Hybrid
		default:
			r.version = V2
		}
		return err
	})
	if err == nil && len(r.sources) == 0 && roots > 0 {
		return ErrRoot
	}
	return err
}

// openV2 opens the files of version 2 in fd, save those of parts that version 1
// gives already.
func (r *Reader) openV2(fd int, path string, have *[parts]bool) error {
	for _, f := range filesV2 {
		if have[f.part] {
			continue
		}
		if _, err := r.openFile(fd, path, f); err != nil {
			return err
		}
	}
	if have[hugePages] {
		return nil
	}
	return r.openHugePages(fd, path, ".current")
}

// openV1 opens the controllers in fd, and tells how many of them are roots, whose
// figures are not the job's. A directory is named after its controllers, with commas
// between.
func (r *Reader) openV1(fd int) (roots int, err error) {
	entries, err := list(fd)
	if err != nil {
		return 0, err
	}
	seen := make(map[string]bool)
	for _, name := range entries {
		for controller := range strings.SplitSeq(name, ",") {
			files, known := filesV1[controller]
			if !known || seen[controller] {
				continue
			}
			seen[controller] = true
			err := within(fd, name, func(sub int) error {
				if exists(sub, rootV1) {
					roots++
					return nil
				}
				for _, candidates := range files {
					if err := r.openFirst(sub, name, candidates); err != nil {
						return err
					}
				}
				if controller == "hugetlb" {
					return r.openHugePages(sub, name, ".usage_in_bytes")
				}
				return nil
			})
			if err != nil {
				return 0, err
			}
		}
	}
	return roots, nil
}

// openFirst opens the first of candidates that is there.
func (r *Reader) openFirst(fd int, path string, candidates []file) error {
	for _, f := range candidates {
		if opened, err := r.openFile(fd, path, f); opened || err != nil {
			return err
		}
	}
	return nil
}

// openHugePages opens hugetlb.SIZE+suffix for each size.
func (r *Reader) openHugePages(fd int, path, suffix string) error {
	entries, err := list(fd)
	if err != nil {
		return err
	}
	sizes := 0
	for _, name := range entries {
		rest, huge := strings.CutPrefix(name, "hugetlb.")
		size, use := strings.CutSuffix(rest, suffix)
		if !huge || !use || strings.Contains(size, ".") { // hugetlb.SIZE.rsvd: reserved, not used
			continue
		}
		if sizes == maxPageSizes {
			break
		}
		f := file{name: name, part: hugePages, parse: parseHugePages}
		if sizes > 0 {
			f.parse = parseMoreHugePages
		}
		opened, err := r.openFile(fd, path, f)
		if err != nil {
			return err
		}
		if opened {
			sizes++
		}
	}
	return nil
}

// openFile opens a file of fd if it is there and may be read.
func (r *Reader) openFile(fd int, path string, f file) (bool, error) {
	opened, err := openat(fd, f.name, 0)
	if opened < 0 {
		return false, ours(err)
	}
	if !regular(opened) {
		unix.Close(opened)
		return false, nil
	}
	name := f.name
	if path != "." {
		name = path + "/" + name
	}
	r.sources = append(r.sources, source{file: f, path: name, fd: opened})
	return true, nil
}

// openat opens what can be read, else its descriptor is -1. It follows no link, and
// does not wait for the writer of a pipe that stands in a file's place.
func openat(fd int, name string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK
	opened, err := unix.Openat(fd, name, flags, 0)
	for err == unix.EINTR {
		opened, err = unix.Openat(fd, name, flags, 0)
	}
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return opened, nil
}

// ours is err if it is about this process, and nil if the file is what is
// amiss: not there, or not to be read.
func ours(err error) error {
	if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
		return err
	}
	return nil
}

// within calls do with the directory name of fd, if there is one.
func within(fd int, name string, do func(fd int) error) error {
	sub, err := openat(fd, name, unix.O_DIRECTORY)
	if sub < 0 {
		return ours(err)
	}
	defer unix.Close(sub)
	return do(sub)
}

// regular tells that fd is a file, as all of the kernel's are.
func regular(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// exists tells that fd has an entry of that name.
func exists(fd int, name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// list gives the names in the directory fd, sorted; fd's own offset stays.
func list(fd int) ([]string, error) {
	opened, err := openat(fd, ".", unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	dir := os.NewFile(uintptr(opened), ".")
	defer dir.Close()
	names, err := dir.Readdirnames(maxEntries)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("list the cgroup's directory: %w", err)
	}
	slices.Sort(names)
	return names, nil
}
