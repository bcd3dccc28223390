package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// MaxExecs bounds the commands that run beside the job's at one time, and those that the launcher is looking for.
const MaxExecs = 16

// MaxExecBytes bounds an ExecCommand as JSON. The kernel takes some MiB of arguments and variables.
const MaxExecBytes = 4 << 20

// ExecCommand is a command to be started beside the job's. It has a file of its own, because it can be longer than a
// packet. All of it may be any bytes but 0.
type ExecCommand struct {
	// Command is the program and its arguments.
	Command [][]byte `json:"command"`
	// Environment has variables, NAME=value, in place of those of that name that the job's command has.
	Environment [][]byte `json:"environment,omitempty"`
	// Directory is where it starts, from the directory of the job's command; empty: there.
	Directory []byte `json:"directory,omitempty"`
}

// File writes the command to a new file in memory, for the descriptor of an Exec. The caller closes it.
func (c *ExecCommand) File() (*os.File, error) {
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if len(text) > MaxExecBytes {
		return nil, errors.New("the command is too long")
	}
	fd, err := unix.MemfdCreate("exec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "exec")
	if _, err := f.Write(text); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ReadExecCommand reads what [ExecCommand.File] wrote, and closes fd.
func ReadExecCommand(fd int) (*ExecCommand, error) {
	f := os.NewFile(uintptr(fd), "exec")
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, MaxExecBytes+1)) // the offset is shared with who wrote it
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the command: %w", err)
	case len(text) > MaxExecBytes:
		return nil, errors.New("the command is too long")
	}
	c := &ExecCommand{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read the command: %w", err)
	}
	if len(c.Command) == 0 || len(c.Command[0]) == 0 {
		return nil, errors.New("the command is empty")
	}
	return c, nil
}

// ExecFiles makes files of the descriptors that came with m, by their names. Reads and writes wait, and a Close ends
// them. After an error all descriptors are closed.
func ExecFiles(m *ExecStarted, fds []int) (Files, error) {
	if err := checkNames(m.FDs, len(fds)); err != nil {
		CloseAll(fds)
		return nil, err
	}
	files := Files{}
	for i, name := range m.FDs {
		if err := unix.SetNonblock(fds[i], true); err != nil { // so that os.NewFile gives it to Go's poller
			files.Close()
			CloseAll(fds[i:])
			return nil, fmt.Errorf("make %s non-blocking: %w", name, err)
		}
		files[name] = os.NewFile(uintptr(fds[i]), name)
	}
	return files, nil
}
