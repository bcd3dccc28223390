// Package cgroup reads what the kernel says of the job's container through an
// open directory that the launcher passes: /sys/fs/cgroup as that container
// sees it. Start with [Open]. It needs no mount and no privilege of its own.
package cgroup

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Job is the job's cgroup. Its files stay open: the container's end removes
// their names.
type Job struct {
	oom *os.File
}

// Where the kernel counts OOM kills: version 2 and version 1 of cgroups, as
// Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst name them.
var oomFiles = []string{"memory.events", "memory/memory.oom_control"}

// Open opens the files below dir that exist; a missing one makes its figures
// absent. The caller closes dir whenever it likes.
func Open(dir *os.File) (*Job, error) {
	for _, name := range oomFiles {
		fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		return &Job{oom: os.NewFile(uintptr(fd), name)}, nil
	}
	return &Job{}, nil
}

// OOMKills is how many processes of the job the OOM killer has killed since
// the container started; false if the kernel does not say.
func (j *Job) OOMKills() (uint64, bool) {
	if j == nil || j.oom == nil {
		return 0, false
	}
	buf := make([]byte, 1024)
	n, err := j.oom.ReadAt(buf, 0)
	if err != nil && err != io.EOF {
		return 0, false
	}
	return parseOOMKills(buf[:n])
}

// parseOOMKills finds the line "oom_kill N".
func parseOOMKills(b []byte) (uint64, bool) {
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// Close closes the files.
func (j *Job) Close() error {
	if j == nil || j.oom == nil {
		return nil
	}
	return j.oom.Close()
}
