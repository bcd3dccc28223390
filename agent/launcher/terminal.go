package launcher

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// ptmx makes pseudo terminals: pts(4). The first one is a link to the other in most containers.
var ptmx = []string{"/dev/ptmx", "/dev/pts/ptmx"}

// cannotRun is why a command can't be started.
type cannotRun struct{ error }

func (e cannotRun) Unwrap() error { return e.error }

// openTerminal makes a terminal by the last of the paths that can be opened: its master, and the slave that
// the command gets.
func openTerminal(paths []string) (master, slave *os.File, err error) {
	fd := -1
	for _, path := range slices.Backward(paths) { // so that the error names the first
		if fd, err = unix.Open(path, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err == nil {
			break
		}
		err = noTerminal(path, err)
	}
	if err != nil {
		return nil, nil, err
	}
	master = os.NewFile(uintptr(fd), "terminal")
	if slave, err = openSlave(fd); err != nil {
		master.Close()
		return nil, nil, err
	}
	return master, slave, nil
}

func noTerminal(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("no terminal can be had in this container: %s: %w", path, err)
}

// openSlave opens the other end of a terminal, which then erases whole characters of UTF-8.
func openSlave(master int) (*os.File, error) {
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return nil, noTerminal("TIOCSPTLCK", err)
	}
	// Not by its path in /dev/pts, which may be another mount than the master's.
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, noTerminal("TIOCGPTPEER", errno)
	}
	if modes, err := unix.IoctlGetTermios(int(fd), unix.TCGETS); err == nil {
		modes.Iflag |= unix.IUTF8
		_ = unix.IoctlSetTermios(int(fd), unix.TCSETS, modes) // else it erases bytes
	}
	return os.NewFile(fd, "terminal"), nil
}
