// Package cgroup reads what the kernel says of the job's container through an
// open directory that the launcher passes: /sys/fs/cgroup as that container
// sees it, in version 2, version 1 or both beside each other. Start with
// [Open]. The package needs no mount and no privilege of its own, and gives no
// figure that is not the kernel's: what can't be read is absent.
package cgroup

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Version is the layout in which a container sees its cgroup.
type Version int

// The layouts. [None] is a directory without any file that is known here, a
// nil [Reader]'s too.
const (
	None   Version = iota
	V1             // a directory for each controller
	V2             // one directory with all of them
	Hybrid         // version 1, and version 2 below unified/ for what that lacks, such as pressure
)

// String is "cgroup2", "cgroup1", which a hybrid's is too, or empty for [None].
func (v Version) String() string {
	switch v {
	case V1, Hybrid:
		return "cgroup1"
	case V2:
		return "cgroup2"
	}
	return ""
}

// ErrRoot is the error of [Open] for the root of a hierarchy: its figures are
// those of the whole machine.
var ErrRoot = errors.New("the directory is the root of the cgroups, which counts for the whole machine")

// bufferBytes holds the longest file: memory.stat has some 2 KiB in Linux 6.18,
// io.stat and blkio.throttle.* about 100 bytes for each disk that was used. What
// is longer is absent; more room would cost every agent that memory.
const bufferBytes = 16 << 10

// Reader reads a job's cgroup. Its files stay open, since the container's end
// removes their names. It may be used by several goroutines; a nil Reader knows
// nothing.
type Reader struct {
	version Version

	mu      sync.Mutex
	sources []source
	last    Sample // as Read gave it last
	gone    bool
	buf     [bufferBytes]byte
}

// source is an open file.
type source struct {
	file
	path string // below the directory, for people
	fd   int
}

// Open opens the files below dir that are known here; a missing one makes its
// figures absent. dir is /sys/fs/cgroup as the container sees it; the caller
// closes it whenever it likes. The error is [ErrRoot], or tells that dir can't
// be read or that this process has no descriptor left.
func Open(dir *os.File) (*Reader, error) {
	r := &Reader{}
	if err := r.open(dir); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Version is the layout that was found.
func (r *Reader) Version() Version {
	if r == nil {
		return None
	}
	return r.version
}

// Files names the files that a sample is read from, below the directory of
// [Open], in the order in which they are read.
func (r *Reader) Files() []string {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for _, s := range r.sources {
		names = append(names, s.path)
	}
	return names
}

// Read fills s anew, without allocating. It never fails as a whole: a figure
// that can't be read is absent. Once the cgroup has been removed, s is the last
// sample that was read before, with its time; so it is after Close.
func (r *Reader) Read(s *Sample) {
	if r == nil {
		*s = Sample{}
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gone {
		*s = Sample{Time: time.Now()}
		for i := range r.sources {
			b := r.content(&r.sources[i])
			if r.gone {
				break
			}
			r.sources[i].parse(b, s)
		}
	}
	if r.gone {
		*s = r.last
		return
	}
	r.last = *s
}

// Gone tells that the cgroup was found removed, or the Reader closed: no newer
// sample will come.
func (r *Reader) Gone() bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone
}

// content is a file's content until the next call; nil if it can't be read. One
// pread gets all of it: the kernel writes each of these files as one record, into
// memory of its own, which it keeps while the file is open.
func (r *Reader) content(s *source) []byte {
	n, err := unix.Pread(s.fd, r.buf[:], 0)
	for err == unix.EINTR {
		n, err = unix.Pread(s.fd, r.buf[:], 0)
	}
	switch {
	case err == unix.ENODEV: // the kernel's word for a removed cgroup
		r.gone = true
		return nil
	case err != nil:
		return nil
	case n < len(r.buf):
		return r.buf[:n]
	case s.whole:
		return nil
	}
	return r.buf[:n-1] // without its last byte, the last line is not taken for a whole one
}

// Close closes the files. It may be called twice, and of a nil Reader.
func (r *Reader) Close() error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, s := range r.sources {
		errs = append(errs, unix.Close(s.fd))
	}
	r.sources, r.gone = nil, true
	return errors.Join(errs...)
}
