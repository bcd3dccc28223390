package ui

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxAwaited bounds the descriptors that awaitInput takes: poll takes any.
const maxAwaited = 1<<31 - 1

// awaitInput waits until in or wake can be read, or has ended. It reports whether wake can.
func awaitInput(in, wake int) (woken bool, err error) {
	ready := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(ready, -1)
		if !errors.Is(err, unix.EINTR) {
			return ready[1].Revents != 0, err
		}
	}
}
