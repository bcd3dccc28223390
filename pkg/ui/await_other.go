//go:build !linux

package ui

import (
	"errors"

	"golang.org/x/sys/unix"
)

// maxAwaited bounds the descriptors that awaitInput takes: select has no place for higher ones.
const maxAwaited = unix.FD_SETSIZE - 1

// awaitInput waits until in or wake can be read, or has ended. It reports whether wake can. It
// uses select because poll does not support terminals on every macOS.
func awaitInput(in, wake int) (woken bool, err error) {
	for {
		var ready unix.FdSet
		ready.Set(in)
		ready.Set(wake)
		_, err := unix.Select(max(in, wake)+1, &ready, nil, nil, nil)
		if !errors.Is(err, unix.EINTR) {
			return ready.IsSet(wake), err
		}
	}
}
