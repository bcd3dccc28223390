package meter

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dropCapabilities takes all capabilities from this process for good, if it has any: a
// container that measures with eBPF is given those that it takes to load programs. What
// was opened with them goes on without from Linux 5.19 on, which asks for them no more: maps
// are read, iterators opened, links closed (tried on 6.18 with unprivileged_bpf_disabled=2).
// With no_new_privs, which the Pod sets, no program that we execute gets them back. See
// capset(2) and capabilities(7).
//
// It fails in a program with cgo, which the worker is not: there the threads that C has
// made would keep theirs.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read our capabilities: %w", err)
	}
	if data[0].Permitted == 0 && data[1].Permitted == 0 {
		return nil
	}
	data = [2]unix.CapUserData{}
	// Of all threads: each has its own.
	_, _, err := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if err != 0 {
		return fmt.Errorf("drop our capabilities: %w", err)
	}
	return nil
}
