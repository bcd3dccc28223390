package certs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// The files of a directory change over together. All are written to a directory
// beside them, which is then given another name: from that moment on they count,
// and whoever changes something next does what a crash has left undone.
const (
	stagingDir = ".hodei-staging" // incomplete: of no account
	pendingDir = ".hodei-pending" // complete: its files are to take their places
)

// ErrBusy says that another process is changing the files of a directory.
var ErrBusy = errors.New("the files of this directory are being changed by somebody else")

type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// changing writes the files that change makes, once what a crash has left undone is
// done; nobody else comes between. It returns their paths; with an error, those that
// have taken their places.
func changing(dir string, change func() ([]file, error)) ([]string, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // which gives the lock back
	if _, err := promote(dir); err != nil {
		return nil, err
	}
	files, err := change()
	if err != nil || len(files) == 0 {
		return nil, err
	}
	if err := stage(lock, dir, append(files, file{markerFile, []byte(markerText), 0o644})); err != nil {
		return nil, err
	}
	return promote(dir)
}

// lockDir does not wait for who has the lock: a change takes milliseconds, and one
// that takes longer hangs.
func lockDir(dir string) (*os.File, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fileError(dir, err)
	}
	// Any other error is a file system's that has no such locks, NFS for one: there it
	// goes without.
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		d.Close()
		return nil, &FileError{Path: dir, Err: ErrBusy}
	}
	return d, nil
}

// stage writes files, so that they count. With an error, such as a full disk's,
// nothing has changed.
func stage(lock *os.File, dir string, files []file) error {
	staging := filepath.Join(dir, stagingDir)
	if err := os.RemoveAll(staging); err != nil { // of one that crashed
		return fileError(staging, err)
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return fileError(staging, err)
	}
	for _, f := range files {
		if err := f.write(staging, filepath.Join(dir, f.name)); err != nil {
			os.RemoveAll(staging)
			return fileError(filepath.Join(dir, f.name), err)
		}
	}
	if err := os.Rename(staging, filepath.Join(dir, pendingDir)); err != nil {
		os.RemoveAll(staging)
		return fileError(dir, errors.Unwrap(err))
	}
	if err := lock.Sync(); err != nil {
		return fileError(dir, err)
	}
	return nil
}

// write writes f to the directory staging. It is opened with 0600, so that a key is
// never readable by others, not for a moment.
func (f file) write(staging, replaced string) (err error) {
	w, err := os.OpenFile(filepath.Join(staging, f.name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if _, err := w.Write(f.data); err != nil {
		return err
	}
	if err := f.resemble(w, replaced); err != nil {
		return err
	}
	return w.Sync() // a rename may reach the disk before the data does
}

// resemble gives w the owner and the mode of the regular file that it replaces: who
// could read that reads this. Of a key that all could read the mode is not kept.
func (f file) resemble(w *os.File, replaced string) error {
	mode := f.mode
	info, err := os.Lstat(replaced)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return syscall.EISDIR // which a rename would find too late
	case info.Mode().IsRegular():
		if perm := info.Mode().Perm(); filepath.Ext(f.name) != ".key" || perm&0o007 == 0 {
			mode = perm
		}
		owner, ok := info.Sys().(*syscall.Stat_t)
		if ok && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
			if err := w.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
				return err
			}
		}
	}
	return w.Chmod(mode) // the umask takes from what open asks for
}

// promote moves the files that count to their places, and returns their paths without the
// marker's.
func promote(dir string) (paths []string, _ error) {
	pending := filepath.Join(dir, pendingDir)
	for _, name := range []string{caCertFile, caKeyFile, serverCertFile, serverKeyFile, clientCertFile, clientKeyFile, markerFile} {
		path := filepath.Join(dir, name)
		err := os.Rename(filepath.Join(pending, name), path)
		if errors.Is(err, fs.ErrNotExist) { // not one of them, or it is there already
			continue
		}
		if err != nil {
			return paths, fileError(path, errors.Unwrap(err))
		}
		if name != markerFile {
			paths = append(paths, path)
		}
	}
	if err := os.Remove(pending); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return paths, fileError(pending, err)
	}
	return paths, nil
}
