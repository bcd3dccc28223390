// Package kernel proves what hodei measures against the files of real kernels: the
// agent and the launcher run in a virtual machine as the kubelet would start them,
// the job in a cgroup and a cgroup namespace of its own. make test-kernel runs it.
package kernel

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Variables that make this program something else than the tests.
const (
	containerVariable = "HODEI_KERNEL_CONTAINER" // a container's first process
	jobVariable       = "HODEI_KERNEL_JOB"       // the job's command
)

// The tests run in other threads than the first: by that one's network namespace a
// process is known.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(containerVariable) != "":
		fmt.Fprintln(os.Stderr, becomeContainer())
		os.Exit(1)
	case os.Getenv(jobVariable) != "":
		if err := runJob(os.Getenv(jobVariable)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// becomeContainer shows this process, the first of its PID namespace, its own cgroup
// as the root of all, as a container's runtime does, and goes on as the arguments say.
func becomeContainer() error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Unmount("/sys/fs/cgroup", 0); err != nil {
		return fmt.Errorf("unmount cgroups: %w", err)
	}
	if err := unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mount cgroups: %w", err)
	}
	if err := os.Unsetenv(containerVariable); err != nil {
		return err
	}
	return syscall.Exec(os.Args[1], os.Args[1:], os.Environ())
}

// requireVM skips what needs a virtual machine.
func requireVM(t *testing.T) {
	t.Helper()
	if os.Getenv("HODEI_KERNEL_TEST") != "1" {
		t.Skip("runs in a virtual machine: make test-kernel")
	}
}
