package logstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// kept is one directory of the store that holds a log.
type kept struct {
	dir     string
	written time.Time
	bytes   int64
}

// sweep removes what is too old, and, oldest first, what leaves no room for
// need more bytes. It gives by how many bytes that is still too much. Temporary
// logs are not counted: what goes again must not drive out what is to stay.
func (s *Store) sweep(need int64) (over int64, err error) {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	if err := s.sweepTemp(); err != nil {
		return 0, err
	}
	logs, err := s.list()
	if err != nil {
		return 0, err
	}
	over = need - s.limits.MaxBytes
	for _, k := range logs {
		over += k.bytes
	}
	oldest := time.Now().Add(-s.limits.MaxAge)
	slices.SortFunc(logs, func(a, b kept) int { return a.written.Compare(b.written) })
	for _, k := range logs {
		aged := k.written.Before(oldest)
		if over <= 0 && !aged {
			break
		}
		err := s.remove(k.dir)
		if errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return 0, err
		}
		if over -= k.bytes; !aged {
			s.countDropped(1, k.bytes)
		}
	}
	return over, nil
}

// sweepTemp removes the temporary logs whose process is gone.
func (s *Store) sweepTemp() error {
	parent := filepath.Join(s.dir, tempName)
	names, err := subdirectories(parent)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(parent, name)
		lock, err := lockDir(dir)
		if errors.Is(err, ErrInUse) || errors.Is(err, fs.ErrNotExist) { // then somebody else sweeps
			continue
		}
		if err != nil {
			return err
		}
		if err := errors.Join(os.RemoveAll(dir), lock.Close()); err != nil {
			return err
		}
	}
	return nil
}

// list returns all logs except temporary ones and those that another user keeps unreadable: one
// of these is no reason to do without a store.
func (s *Store) list() ([]kept, error) {
	dirs := []string{s.dir}
	for range 3 { // namespace, job, attempt
		var next []string
		for _, dir := range dirs {
			names, err := subdirectories(dir)
			if errors.Is(err, fs.ErrPermission) && dir != s.dir {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if !strings.HasPrefix(name, ".") { // what is ours, by whatever name
					next = append(next, filepath.Join(dir, name))
				}
			}
		}
		dirs = next
	}
	var logs []kept
	for _, dir := range dirs {
		bytes, written, err := usage(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		logs = append(logs, kept{dir: dir, written: written, bytes: bytes})
	}
	return logs, nil
}

// remove takes a log out of the store at once, and then deletes it: no reader
// sees half of it. The error is ErrInUse when it is being written.
func (s *Store) remove(dir string) error {
	lock, err := lockDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	temp := s.tempDir()
	if err := os.MkdirAll(filepath.Dir(temp), 0o700); err != nil {
		return err
	}
	if err := os.Rename(dir, temp); err != nil {
		return err
	}
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	job := filepath.Dir(dir)
	for _, parent := range []string{job, filepath.Dir(job)} {
		if os.Remove(parent) != nil { // not empty
			break
		}
	}
	return nil
}

// usage gives the bytes of a log's files and when it was last added to.
func usage(dir string) (bytes int64, written time.Time, err error) {
	info, err := os.Stat(dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, time.Time{}, err
	}
	for _, entry := range entries {
		file, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, time.Time{}, err
		}
		bytes += file.Size()
		// An index is written anew when its log is opened.
		if !strings.HasSuffix(entry.Name(), indexSuffix) && written.Before(file.ModTime()) {
			written = file.ModTime()
		}
	}
	if written.IsZero() { // just made
		written = info.ModTime()
	}
	return bytes, written, nil
}

// subdirectories gives the names of the directories in dir, none where there is
// no dir.
func subdirectories(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// makeLocked makes the directory of a log, if needed, and locks it.
func makeLocked(dir string) (lock *flock.Flock, err error) {
	for range lockTries {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			lock, err = lockDir(dir)
		}
		if !errors.Is(err, fs.ErrNotExist) { // else a sweep has removed it meanwhile
			break
		}
	}
	return lock, err
}

// lockDir locks a log until the lock is closed, or its process ends. The error
// is ErrInUse when it is locked, fs.ErrNotExist when it was removed.
func lockDir(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, lockName))
	if err := tryLock(lock); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// tryLock takes a lock, in two steps: with an error it may be locked too, and the caller closes it.
func tryLock(lock *flock.Flock) error {
	locked, err := lock.TryLock()
	if _, isPath := errors.AsType[*fs.PathError](err); err != nil && !isPath {
		return &fs.PathError{Op: "lock", Path: lock.Path(), Err: err}
	}
	if err != nil {
		return err
	}
	if !locked {
		return ErrInUse
	}
	// The lock of a directory that was removed between the two calls excludes nobody.
	ours, err := lock.Stat()
	if err != nil {
		return err
	}
	now, err := os.Stat(lock.Path())
	if err != nil {
		return err
	}
	if !os.SameFile(ours, now) {
		return fs.ErrNotExist
	}
	return nil
}
