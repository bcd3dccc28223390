package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNotMounted tells that this machine does not have a layout.
var errNotMounted = errors.New("not mounted here")

// controllers are those whose figures hodei wants.
var controllers = []string{"cpu", "cpuacct", "memory", "blkio", "pids", "hugetlb"}

// job is a process in a cgroup of its own.
type job struct {
	layout string
	note   string            // what is there to be read
	paths  map[string]string // the cgroup's directory by controller; version 2's by ""
	dir    string            // the directory as a container would see it
	mounts []string          // made for dir
	cmd    *exec.Cmd
	stdin  io.Closer
}

// startJob makes the cgroup, and a process in it that holds 32 MiB of memory, has
// written 1 MiB to the disk and waits.
func startJob(layout string) (*job, error) {
	j := &job{layout: layout, paths: make(map[string]string)}
	if err := j.makeCgroup(); err != nil {
		return nil, errors.Join(err, j.stop())
	}
	var enter []string
	for _, path := range j.paths {
		enter = append(enter, "echo $$ >"+path+"/cgroup.procs")
	}
	slices.Sort(enter)
	script := strings.Join(enter, " && ") +
		` && (dd if=/dev/zero of=hodei-peers bs=65536 count=16 conv=fsync 2>/dev/null; rm -f hodei-peers)
		held=$(head -c 33554432 /dev/zero | tr '\0' x) && echo ready && read -r line`
	j.cmd = exec.Command("sh", "-c", script)
	j.cmd.Dir, j.cmd.Stderr = os.TempDir(), os.Stderr
	stdin, err := j.cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, j.stop())
	}
	j.stdin = stdin
	stdout, err := j.cmd.StdoutPipe()
	if err != nil {
		return nil, errors.Join(err, j.stop())
	}
	if err := j.cmd.Start(); err != nil {
		j.cmd = nil
		return nil, errors.Join(err, j.stop())
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		return nil, errors.Join(fmt.Errorf("the job did not come up: %w", err), j.stop())
	}
	return j, nil
}

// makeCgroup makes the cgroup in each hierarchy.
func (j *job) makeCgroup() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	name := "hodei-peers-" + strconv.Itoa(os.Getpid())
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		switch {
		case j.layout == "cgroup2" && f[2] == "cgroup2" && len(j.paths) == 0:
			j.dir = filepath.Join(f[1], name)
			if err := j.add("", j.dir); err != nil {
				return err
			}
		case j.layout == "cgroup1" && f[2] == "cgroup":
			for option := range strings.SplitSeq(f[3], ",") {
				if slices.Contains(controllers, option) {
					if err := j.add(option, filepath.Join(f[1], name)); err != nil {
						return err
					}
				}
			}
		}
	}
	if len(j.paths) == 0 {
		return errNotMounted
	}
	if j.layout == "cgroup2" {
		b, err := os.ReadFile(filepath.Join(j.dir, "cgroup.controllers"))
		j.note = "controllers: " + cmp.Or(strings.TrimSpace(string(b)), "none, so cpu.stat and pressure alone")
		return err
	}
	j.note = "every controller in a hierarchy of its own"
	return j.showV1()
}

func (j *job) add(controller, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	j.paths[controller] = path
	return nil
}

// showV1 puts the hierarchies' directories beside each other, as a container
// sees them.
func (j *job) showV1() error {
	dir, err := os.MkdirTemp("", "hodei-peers-")
	if err != nil {
		return err
	}
	j.dir = dir
	for controller, path := range j.paths {
		where := filepath.Join(dir, controller)
		if err := os.Mkdir(where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(path, where, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", where, err)
		}
		j.mounts = append(j.mounts, where)
	}
	return nil
}

// stop ends the process and removes what was made.
func (j *job) stop() error {
	var errs []error
	if j.stdin != nil {
		j.stdin.Close()
	}
	if j.cmd != nil {
		_ = j.cmd.Wait() // its read of no line fails
	}
	for _, where := range j.mounts {
		errs = append(errs, unix.Unmount(where, unix.MNT_DETACH))
	}
	if j.layout == "cgroup1" && j.dir != "" {
		errs = append(errs, os.RemoveAll(j.dir))
	}
	for _, path := range j.paths {
		errs = append(errs, remove(path))
	}
	return errors.Join(errs...)
}

// remove removes a cgroup, whose last process may be on its way out.
func remove(path string) error {
	var err error
	for range 100 {
		if err = os.Remove(path); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
