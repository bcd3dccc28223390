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

// minStoreAge is the least HODEI_LOG_MAX_AGE. With less, output would be removed before anybody could look at it; a
// smaller value probably means another unit.
const minStoreAge = time.Minute

// Store is the log store of this machine, or a temporary one for this command alone.
type Store struct {
	*logstore.Store
	// Dir is the directory of the store.
	Dir string
	// Temporary is why the store can't be where it belongs, so that Close removes Dir; nil: Dir stays.
	Temporary error
}

// OpenStore opens the store in StoreDir. If it can't be opened there, or writing is true and nothing can be written
// there, it opens a store in a temporary directory. The caller closes the store.
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

// Writable returns why we may not create anything in a directory; nil: we may.
func Writable(dir string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &os.PathError{Op: "write", Path: dir, Err: err}
	}
	return nil
}

// probeBytes is several times what an attempt's files take before there is any output. On a full disk, fewer bytes
// may still find room in an inode.
const probeBytes = 64 << 10

// TakesFiles returns why a file can't be written to a directory; nil: it can. It writes one and removes it, because
// permissions don't tell of a full disk, and root always has them.
func TakesFiles(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*") // the store ignores files in its directory
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, probeBytes))
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Tell tells note if output will not be kept, and what was removed to make room.
func (s *Store) Tell(note func(string)) {
	if s.Temporary != nil {
		note(fmt.Sprintf("output is not kept on this machine: %v", s.Temporary))
	}
	s.TellDropped(note)
}

// TellDropped tells note what was removed to make room since it was last told.
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
	note(fmt.Sprintf("removed %s, %s, from the output that is kept on this machine, to keep to HODEI_LOG_MAX_BYTES",
		what, job.DataSize(uint64(d.Bytes))))
}

// Close tells note what was removed meanwhile, and removes a temporary store. The caller closes the store's logs
// first. What can't be removed stays in the system's temporary directory.
func (s *Store) Close(note func(string)) {
	s.TellDropped(note)
	if s.Temporary != nil {
		_ = os.RemoveAll(s.Dir)
	}
}

// StoreDir returns where the log store belongs: $XDG_STATE_HOME/hodei/jobs, else ~/.local/state/hodei/jobs.
func (h *Home) StoreDir() (string, error) {
	state := xdg.State(h.Getenv)
	if state == "" {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is a directory")
	}
	return filepath.Join(state, "hodei", "jobs"), nil
}

// StoreLimits returns HODEI_LOG_MAX_BYTES and HODEI_LOG_MAX_AGE, or the defaults. The error names the variable.
func (h *Home) StoreLimits() (logstore.Limits, error) {
	l := logstore.Limits{MaxBytes: logstore.DefaultMaxBytes}
	if text := h.Getenv("HODEI_LOG_MAX_BYTES"); text != "" {
		q, err := job.Store.Parse(text)
		if err != nil {
			return l, limitError("HODEI_LOG_MAX_BYTES", fmt.Errorf("HODEI_LOG_MAX_BYTES %w", err))
		}
		l.MaxBytes = q.Value()
	}
	if text := h.Getenv("HODEI_LOG_MAX_AGE"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < minStoreAge {
			return l, limitError("HODEI_LOG_MAX_AGE",
				fmt.Errorf("HODEI_LOG_MAX_AGE %q: want a duration such as 168h, %s or more", text, minStoreAge))
		}
		l.MaxAge = d
	}
	return l, nil
}

// limitError adds to what is wrong with a variable how to go back to the default.
func limitError(variable string, err error) error {
	return &job.Hinted{Err: err, Hint: "change it, or take the default: unset " + variable}
}

// StoredJobs returns the names of the jobs of a namespace that the store in dir has. It is for completion: if the
// store can't be read, there are none.
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
