// Package atomicfile replaces files as a whole: whoever opens one finds what it held before or
// what it holds now, never a part, also after a loss of power. Start with [Write].
//
// It locks nothing. Callers keep two writers from writing the same file at the same time.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// suffix is of the name under which a file is written. It is always the same, so that the next
// write takes the place of what a crash has left.
const suffix = ".new"

// Write makes data the content of the file at path, which only its owner can read (mode 0600), and
// waits until the disk has it. The directory must exist. With an error the file may hold the one
// or the other: the disk may be unable to keep a name that was already given. A link at path is
// replaced, not followed.
func Write(path string, data []byte) error {
	return WriteWhen(path, data, func(rename func() error) error { return rename() })
}

// WriteWhen is Write for a caller who has to hold a lock while the file changes, and not while the disk
// writes it. It calls when once data is on the disk; when calls rename, which changes the file, or
// returns an error instead, which WriteWhen returns.
func WriteWhen(path string, data []byte, when func(rename func() error) error) error {
	next := path + suffix
	err := writeSynced(next, data)
	if err == nil {
		err = when(func() error { return os.Rename(next, path) })
	}
	if err != nil {
		if e := os.Remove(next); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced returns once the disk has the file: else, after a loss of power, a name could be there
// with nothing behind it.
func writeSynced(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncDir makes the names in dir survive a loss of power, on file systems that can be asked to.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) { // some of FUSE and SMB
		return nil
	}
	return err
}
