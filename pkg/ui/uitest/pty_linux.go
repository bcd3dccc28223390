package uitest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Open returns both ends of a new pseudo terminal of a size; the test closes them.
func Open(t testing.TB, columns, rows int) (master, terminal *os.File) {
	t.Helper()
	master, terminal, err := OpenPTY(columns, rows)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		t.Skip("no pseudo terminal here:", err)
	case err != nil:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		master.Close()
		terminal.Close()
	})
	return master, terminal
}

// OpenPTY returns both ends of a new pseudo terminal of a size.
func OpenPTY(columns, rows int) (master, terminal *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock pseudo terminal: %w", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("number of pseudo terminal: %w", err)
	}
	if err := SetSize(master, columns, rows); err != nil {
		return nil, nil, err
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return master, terminal, err
}

// SetSize gives a pseudo terminal another size.
func SetSize(master *os.File, columns, rows int) error {
	size := &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size); err != nil {
		return fmt.Errorf("set size of terminal: %w", err)
	}
	return nil
}
