package place

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/internal/xdg"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// minStoreAge is the least HODEI_LOG_MAX_AGE. Less would remove output before anybody could
// look at it; whoever gives less meant another unit.
const minStoreAge = time.Minute

// Store is the log store of this machine, or one for this command alone.
type Store struct {
	*logstore.Store
	Dir string
	// Temporary is why dir is removed again by close; nil: it stays.
	Temporary error
}

// OpenStore opens the store in $XDG_STATE_HOME/hodei/jobs, else below
// ~/.local/state. Where there can't be one, or none that is fit for writing, a
// temporary directory takes its place until close.
func (h *Home) OpenStore(writing bool) (*Store, error) {
	limits, err := h.StoreLimits()
	if err != nil {
		return nil, err
	}
	dir, err := h.StoreDir()
	if err == nil {
		var store *logstore.Store
		store, err = logstore.Open(dir, limits)
		if err == nil && writing {
			err = TakesFiles(dir)
		}
		if err == nil {
			return &Store{Store: store, Dir: dir}, nil
		}
	}
	s := &Store{Temporary: err}
	if s.Dir, err = os.MkdirTemp("", "hodei-jobs-"); err != nil {
		return nil, fmt.Errorf("no place for the output of jobs: %w", errors.Join(s.Temporary, err))
	}
	if s.Store, err = logstore.Open(s.Dir, limits); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.Dir))
	}
	return s, nil
}

// Writable tells why nothing can be made in a directory.
func Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

// probeBytes is several times what an attempt's files take before there is any output. Fewer
// bytes may find room in an inode of a full disk.
const probeBytes = 64 << 10

// TakesFiles tells why a file can't be written to a directory. Asking for permission is not
// enough: a full disk gives it, and root always has it.
func TakesFiles(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*") // the store looks at directories alone
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Tell says if output will not be kept, and what was removed to make room.
func (s *Store) Tell(note func(string)) {
	if s.Temporary != nil {
		note(fmt.Sprintf("output is not kept on this machine: %v", s.Temporary))
	}
	s.TellDropped(note)
}

// TellDropped says what was removed for want of room since this was last said.
func (s *Store) TellDropped(note func(string)) {
	d := s.Store.Dropped()
	if d == (logstore.Dropped{}) {
		return
	}
	what := "the beginning of this output"
	switch d.Attempts {
	case 0:
	case 1:
		what = "the oldest attempt"
	default:
		what = fmt.Sprintf("the %d oldest attempts", d.Attempts)
	}
	note(fmt.Sprintf("removed %s, %s, from the output that is kept on this machine, to keep to HODEI_LOG_MAX_BYTES", what,
		job.DataSize(uint64(d.Bytes))))
}

// Close says what was removed meanwhile, and removes a temporary store. Its logs are
// closed before. What can't be removed is left to whoever cleans the system's temporary
// directory.
func (s *Store) Close(note func(string)) {
	s.TellDropped(note)
	if s.Temporary != nil {
		_ = os.RemoveAll(s.Dir)
	}
}

// StoreDir is where the log store belongs.
func (h *Home) StoreDir() (string, error) {
	state := xdg.State(h.Getenv)
	if state == "" {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is a directory")
	}
	return filepath.Join(state, "hodei", "jobs"), nil
}

// StoreLimits are HODEI_LOG_MAX_BYTES and HODEI_LOG_MAX_AGE, or the defaults.
func (h *Home) StoreLimits() (logstore.Limits, error) {
	l := logstore.Limits{MaxBytes: logstore.DefaultMaxBytes}
	if text := h.Getenv("HODEI_LOG_MAX_BYTES"); text != "" {
		q, err := job.Store.Parse(text)
		if err != nil {
			return l, fmt.Errorf("HODEI_LOG_MAX_BYTES %w", err)
		}
		l.MaxBytes = q.Value()
	}
	if text := h.Getenv("HODEI_LOG_MAX_AGE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < minStoreAge {
			return l, fmt.Errorf("HODEI_LOG_MAX_AGE %q: want a duration such as 168h, %s or more", text, minStoreAge)
		}
		l.MaxAge = d
	}
	return l, nil
}

// StoredJobs are the names of the jobs of a namespace in the store in dir. It is for
// completion: a store that can't be read has none.
func StoredJobs(dir, namespace string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, namespace))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
