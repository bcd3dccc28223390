package terminal

import (
	"os"

	"golang.org/x/sys/unix"
)

// pipeBytes is what a pipe holds that is read: with the kernel's own 64 KiB, its writer and its reader wake each other for
// every few KiB.
const pipeBytes = 512 << 10

// enlarge lets a pipe hold pipeBytes, if f is one and the kernel lets us.
func enlarge(f *os.File) { _, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeBytes) }
