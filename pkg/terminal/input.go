// Package terminal is this process's side of a command's input: it reads stdin in a way that can be
// ended, and again where it is a file, or by each key where it is a terminal. Start with [NewInput] or [Open].
//
// It knows nothing of jobs: what is read is sent by pkg/coordinator.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrChanged means that a file is not what it was when reading began.
var ErrChanged = errors.New("the file that is stdin has changed")

// Input reads stdin. Unlike a plain file, a Read that waits ends with Close.
type Input struct {
	in   io.Reader
	file *os.File // nil: in is no file, and a Read of it can't be ended
	// wake is a pipe: its write end is closed by Close.
	wake  [2]*os.File
	once  sync.Once
	began identity
}

// identity is what tells a file from another, and from itself before a change.
type identity struct {
	regular     bool
	device, ino uint64
	size, at    int64 // at is the offset at which reading began
	changed     time.Time
}

// NewInput returns an Input of in, which stays open when the Input is closed.
func NewInput(in io.Reader) (*Input, error) {
	i := &Input{in: in}
	file, ok := in.(*os.File)
	if !ok {
		return i, nil
	}
	var err error
	if i.began, err = identify(file); err != nil {
		return nil, fmt.Errorf("stdin: %w", err)
	}
	enlarge(file)
	if i.wake[0], i.wake[1], err = os.Pipe(); err != nil {
		return nil, err
	}
	i.file = file
	return i, nil
}

func identify(f *os.File) (id identity, err error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return id, err
	}
	id = identity{
		regular: s.Mode&unix.S_IFMT == unix.S_IFREG,
		device:  uint64(s.Dev), ino: s.Ino, size: s.Size, //nolint:unconvert // Dev is shorter elsewhere
		changed: time.Unix(s.Mtim.Unix()),
	}
	if id.regular {
		id.at, err = f.Seek(0, io.SeekCurrent)
	}
	return id, err
}

// Read reads what there is. After Close its error is os.ErrClosed.
func (i *Input) Read(p []byte) (int, error) {
	if i.file == nil {
		return i.in.Read(p)
	}
	for {
		// Not select(2), which can't take descriptors from 1024 on.
		ready := []unix.PollFd{{Fd: int32(i.file.Fd()), Events: unix.POLLIN}, {Fd: int32(i.wake[0].Fd()), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, os.NewSyscallError("poll", err)
		case ready[1].Revents != 0:
			return 0, os.ErrClosed
		}
		n, err := i.file.Read(p)
		if errors.Is(err, unix.EAGAIN) { // another process reads it too, and was first
			continue
		}
		return n, err
	}
}

// Again has the next Read begin where the first one did. Only a regular file can be read again, and
// only if its size and time are as they were.
func (i *Input) Again() error {
	if !i.began.regular {
		return errors.New("stdin is not a file, so it can't be read again")
	}
	now, err := identify(i.file)
	if err != nil {
		return err
	}
	if now.at = i.began.at; now != i.began {
		return ErrChanged
	}
	_, err = i.file.Seek(i.began.at, io.SeekStart)
	return err
}

// Close ends a Read that waits.
func (i *Input) Close() error {
	i.once.Do(func() {
		if i.file != nil {
			i.wake[1].Close()
		}
	})
	return nil
}
