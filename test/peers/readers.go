package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/cgroups/v3/cgroup1"
	"github.com/containerd/cgroups/v3/cgroup2"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/cgroup"
)

// reader is one way to take a sample.
type reader struct {
	name, reads string
	read        func() error
}

// openReaders gives, in this order: the kernel alone, ours, containerd's,
// opencontainers'. The libraries are asked for the controllers that ours reads and for
// no others, and have to find what ours has.
func openReaders(j *job) ([]reader, error) {
	dir, err := os.Open(j.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	ours, err := cgroup.Open(dir)
	if err != nil {
		return nil, err
	}
	var s cgroup.Sample
	ours.Read(&s)
	if !s.CPU.Total.Known {
		return nil, errors.New("nothing is known of the job's CPU time")
	}
	kernel, err := preads(j.dir, ours.Files())
	if err != nil {
		return nil, err
	}
	readers := []reader{
		{"pread alone", fmt.Sprintf("the %d files of the next line, not parsed", len(ours.Files())), kernel},
		{"hodei agent/cgroup", list(ours.Files()), func() error { ours.Read(&s); return nil }},
	}
	peers := peersV2
	if j.layout == "cgroup1" {
		peers = peersV1
	}
	more, err := peers(j, s)
	return append(readers, more...), err
}

// list names files without their directories.
func list(files []string) string {
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(f))
	}
	return fmt.Sprintf("%d files: %s", len(files), strings.Join(names, " "))
}

// preads reads files that stay open.
func preads(dir string, names []string) (func() error, error) {
	var fds []int
	for _, name := range names {
		fd, err := unix.Open(filepath.Join(dir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		fds = append(fds, fd)
	}
	buf := make([]byte, 16<<10)
	return func() error {
		for _, fd := range fds {
			if _, err := unix.Pread(fd, buf, 0); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// peersV1 are the libraries on version 1.
func peersV1(j *job, s cgroup.Sample) ([]reader, error) {
	wanted := func() ([]cgroup1.Subsystem, error) {
		all, err := cgroup1.Default()
		return slices.DeleteFunc(all, func(s cgroup1.Subsystem) bool { return !slices.Contains(controllers, string(s.Name())) }), err
	}
	containerd, err := cgroup1.Load(cgroup1.StaticPath("/"+filepath.Base(j.paths["memory"])), cgroup1.WithHierarchy(wanted))
	if err != nil {
		return nil, err
	}
	opencontainers, err := fs.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, j.paths)
	if err != nil {
		return nil, err
	}
	return []reader{
		{"containerd/cgroups/v3",
			"the same and CPU time of each CPU, all of memory.stat, swap and kernel TCP memory, /proc/partitions; not the CPU limit; in " +
				"5 goroutines", func() error {
				m, err := containerd.Stat()
				if err != nil {
					return err
				}
				return same(s, m.CPU.Usage.Total, m.Memory.Usage.Max)
			}},
		{"opencontainers/cgroups",
			"the same and CPU time of each CPU, all of memory.stat and memory.numa_stat, swap and kernel TCP memory; not the CPU limit, " +
				"not OOM kills", func() error {
				m, err := opencontainers.Stats(wantedControllers)
				if err != nil {
					return err
				}
				return same(s, m.CpuStats.CpuUsage.TotalUsage, m.MemoryStats.Usage.MaxUsage)
			}},
	}, nil
}

// wantedControllers are controllers in opencontainers' words.
var wantedControllers = &cgroups.StatsOptions{
	Controllers: cgroups.CPU | cgroups.Memory | cgroups.IO | cgroups.Pids | cgroups.HugeTLB,
}

// peersV2 are the libraries on version 2.
func peersV2(j *job, s cgroup.Sample) ([]reader, error) {
	containerd, err := cgroup2.Load("/"+filepath.Base(j.dir), cgroup2.WithMountpoint(filepath.Dir(j.dir)))
	if err != nil {
		return nil, err
	}
	opencontainers, err := fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, j.dir)
	if err != nil {
		return nil, err
	}
	const figures = cgroup2.StatPids | cgroup2.StatCPU | cgroup2.StatMemory | cgroup2.StatMemoryEvents |
		cgroup2.StatIO | cgroup2.StatHugetlb
	return []reader{
		{"containerd/cgroups/v3", "the same and all of memory.stat, swap's limit and peak; not the CPU limit", func() error {
			m, err := containerd.StatFiltered(figures)
			if err != nil {
				return err
			}
			return same(s, m.CPU.UsageUsec*1000, m.Memory.MaxUsage)
		}},
		{"opencontainers/cgroups", "the same and all of memory.stat, swap's limit and peak; not the CPU limit, not memory.events",
			func() error {
				m, err := opencontainers.Stats(wantedControllers)
				if err != nil {
					return err
				}
				return same(s, m.CpuStats.CpuUsage.TotalUsage, m.MemoryStats.Usage.MaxUsage)
			}},
	}, nil
}

// same checks that a library has read the same cgroup as ours before it. The job
// waits, though at first it may still be on its way to that.
func same(s cgroup.Sample, cpu, peak uint64) error {
	const way = uint64(50 * time.Millisecond)
	if cpu-s.CPU.Total.N > way || s.Memory.Peak.Known && peak != s.Memory.Peak.N {
		return fmt.Errorf("reads CPU %d and peak memory %d, where ours reads %d and %d", cpu, peak, s.CPU.Total.N, s.Memory.Peak.N)
	}
	return nil
}
