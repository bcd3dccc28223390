package logstore

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Keys gives the attempts of all jobs of a namespace, the latest begun first; none
// where the store has none. Nothing is read but their names, so that a store of
// thousands can be looked through. With an error come those that could be read all
// the same.
func (s *Store) Keys(namespace string) ([]Key, error) {
	if err := checkNames(namespace); err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	jobs, err := subdirectories(filepath.Join(s.dir, namespace))
	if err != nil {
		return nil, fmt.Errorf("list attempts: %w", err)
	}
	type begun struct {
		Key
		at time.Time
	}
	var all []begun
	var errs []error
	for _, job := range jobs {
		parent := filepath.Join(s.dir, namespace, job)
		attempts, err := subdirectories(parent)
		if err != nil {
			errs = append(errs, fmt.Errorf("list attempts: %w", err))
		}
		for _, name := range attempts {
			dir := filepath.Join(parent, name)
			m, err := s.metaOf(dir)
			if errors.Is(err, fs.ErrNotExist) { // just being made, or removed
				continue
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("list attempts: %w", err))
				continue
			}
			all = append(all, begun{m.Key, m.Created})
		}
	}
	slices.SortFunc(all, func(a, b begun) int {
		if c := b.at.Compare(a.at); c != 0 {
			return c
		}
		return strings.Compare(a.AttemptUID, b.AttemptUID)
	})
	keys := make([]Key, len(all))
	for i := range all {
		keys[i] = all[i].Key
	}
	return keys, errors.Join(errs...)
}
