// Package logstore keeps the output of attempts on local disk, so that what a
// coordinator has acknowledged is there when the worker is gone: in append-only
// segments with checksums, readable while they are written, by other processes
// too, and after their writer was killed. Start with [Open]; a coordinator
// writes with [Store.Create], what shows logs looks with [Store.Find] and reads
// with [Store.Read].
//
// It knows batches and exit records, nothing of connections or of jobs that run.
package logstore

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gofrs/flock"

	"github.com/hodei-jobs/hodei/internal/atomicfile"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// DefaultMaxBytes is what a store holds where nothing else is said: ten jobs
	// that each fill a worker's spool, and little beside a laptop's disk.
	DefaultMaxBytes = 10 << 30
	// DefaultMaxAge is how long an attempt is kept after its last write: over a
	// long weekend.
	DefaultMaxAge = 7 * 24 * time.Hour

	// What is over the limit is dropped by whole segments, and a segment is the
	// least that goes. A sixteenth keeps at least 15/16 of the limit useful; above
	// 64 MiB the walk through the last one at Create could be felt, and below 64
	// KiB a segment would hold less than one batch.
	segmentsPerStore = 16
	minSegmentBytes  = 64 << 10
	maxSegmentBytes  = 64 << 20

	metaName = "meta.json"
	lockName = "lock"
	tempName = ".tmp" // no namespace is called so
	// maxMetaBytes bounds the reading of a meta.json: a handful of names of at
	// most 255 bytes, escaped.
	maxMetaBytes = 64 << 10

	// maxAttempts is how many attempts of jobs of one name a store holds: an agent that
	// dials a coordinator chooses its attempt's UID. A job that is run under one name every
	// three minutes has fewer in DefaultMaxAge.
	maxAttempts = 4096

	// lockTries bounds the race with a retention that removes the directory.
	lockTries = 10
)

// errChecksum is the error of bytes that are not what was written.
var errChecksum = errors.New("checksum is wrong")

// ErrInUse is that the attempt is written by another process, or by this one.
var ErrInUse = errors.New("the attempt's log is in use")

// ErrName is the error of a name under which no attempt can be stored.
var ErrName = errors.New("no name for a directory")

// Key names one attempt. Namespace, Job and AttemptUID are names of directories
// as well, so they may be no more than that: nothing that does not print, no slash, no
// dot in front, at most 255 bytes.
type Key struct {
	Namespace string `json:"namespace"`
	Job       string `json:"job"`
	// JobUID tells jobs of one name apart; empty where there is none.
	JobUID string `json:"jobUID,omitempty"`
	// Attempt is the Pod's name.
	Attempt    string `json:"attempt"`
	AttemptUID string `json:"attemptUID"`
}

// samePlace tells whether both have one directory.
func (k Key) samePlace(o Key) bool {
	return k.Namespace == o.Namespace && k.Job == o.Job && k.AttemptUID == o.AttemptUID
}

// Limits is what a store may hold.
type Limits struct {
	// MaxBytes of files, indexes included; zero: DefaultMaxBytes. It may be
	// exceeded by one segment (a sixteenth of it, at most 64 MiB) for each attempt
	// that is being written. A temporary log is not counted, and may have as much again.
	MaxBytes int64
	// MaxAge since the last write of an attempt; zero: DefaultMaxAge.
	MaxAge time.Duration
}

// Store is a directory of logs, <namespace>/<job>/<attempt's UID>. Several
// processes may use one at once. Its methods may be called from any goroutine.
type Store struct {
	dir          string
	limits       Limits
	segmentBytes int64

	sweeping sync.Mutex // two sweeps at once would remove twice as much

	mu      sync.Mutex
	dropped Dropped
}

// Dropped counts what a store has removed to make room (not because of its age).
type Dropped struct {
	// Attempts are those that went as a whole.
	Attempts int
	// Bytes of files: of these attempts, and of the oldest output of those that were
	// being written.
	Bytes int64
}

// Dropped returns what s has removed for want of room since the last call, and
// forgets it. What other processes remove from the same directory is theirs to tell.
func (s *Store) Dropped() Dropped {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dropped
	s.dropped = Dropped{}
	return d
}

func (s *Store) countDropped(attempts int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped.Attempts += attempts
	s.dropped.Bytes += bytes
}

// Attempt is what a store holds of one attempt.
type Attempt struct {
	Key
	// First and End are the range of offsets that can be read: First <= offset < End.
	First, End uint64
	// Exit is nil as long as none was stored.
	Exit *hodeipb.ExitRecord
	// Created and Written are when the log was begun and last added to, by the
	// clock of this machine.
	Created, Written time.Time
	// Damage is why its end can't be read; nil: it can. What is damaged before that shows
	// in the reading.
	Damage error
	// Unnamed is why what names it can't be read; nil: it can. Else Attempt is the
	// AttemptUID, JobUID is empty, and Created is when it was last added to.
	Unnamed error
}

// meta is what meta.json holds.
type meta struct {
	Key
	Created time.Time `json:"created"`
	// Sum is the CRC-32C of the JSON without it; nil: it was written by an older version.
	Sum *uint32 `json:"sum,omitempty"`
}

// Open gives the store in dir, which is made if needed. What is beyond the
// limits is removed first: attempts last written more than MaxAge ago, and then,
// oldest first, those that MaxBytes has no room for, which [Store.Dropped] tells. An
// attempt that is being written stays.
func Open(dir string, l Limits) (*Store, error) {
	if l.MaxBytes < 0 || l.MaxAge < 0 {
		return nil, fmt.Errorf("open log store %q: negative limit", dir)
	}
	if l.MaxBytes == 0 {
		l.MaxBytes = DefaultMaxBytes
	}
	if l.MaxAge == 0 {
		l.MaxAge = DefaultMaxAge
	}
	s := &Store{
		dir:          filepath.Clean(dir),
		limits:       l,
		segmentBytes: min(max(l.MaxBytes/segmentsPerStore, minSegmentBytes), maxSegmentBytes),
	}
	if err := makeDir(filepath.Clean(dir)); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	if _, err := s.sweep(0); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	return s, nil
}

// makeDir is an os.MkdirAll that survives a loss of power.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeDir(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFile(parent)
}

// Create opens the log of an attempt for writing, which the caller closes. One
// that exists goes on at its end, after a torn tail was cut off, or, where a loss
// of power has taken the end of an older segment, at that hole, without what was
// behind it; [Log.Extent] tells. A new one begins at offset first. The error is
// ErrInUse while another Log writes it, and a *DamageError where cutting would lose
// what was stored behind the damage.
func (s *Store) Create(k Key, first uint64) (*Log, error) {
	l, err := s.create(k, first)
	if err != nil {
		return nil, fmt.Errorf("create log of attempt %q: %w", k.Attempt, err)
	}
	return l, nil
}

func (s *Store) create(k Key, first uint64) (*Log, error) {
	dir, err := s.path(k)
	if err != nil {
		return nil, err
	}
	if err := checkRoom(dir); err != nil {
		return nil, err
	}
	lock, err := makeLocked(dir)
	if err != nil {
		return nil, err
	}
	return s.write(k, first, dir, lock, false)
}

// checkRoom says why the directory of an attempt must not be made, if it does not exist yet.
func checkRoom(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	others, err := subdirectories(filepath.Dir(dir))
	if err == nil && len(others) >= maxAttempts {
		err = fmt.Errorf("%d attempts of jobs of this name are stored already", len(others))
	}
	return err
}

// Temp is like Create, for an attempt whose output is not to be kept: Close
// removes it, or, when the process was killed, the next use of the store. Find
// does not see it.
func (s *Store) Temp(k Key, first uint64) (*Log, error) {
	for range lockTries {
		dir := s.tempDir()
		lock, err := makeLocked(dir)
		if errors.Is(err, ErrInUse) {
			continue // a sweep that looks whether it was left behind
		}
		if err != nil {
			return nil, fmt.Errorf("create temporary log: %w", err)
		}
		l, err := s.write(k, first, dir, lock, true)
		if err != nil {
			return nil, fmt.Errorf("create temporary log: %w", err)
		}
		return l, nil
	}
	return nil, fmt.Errorf("create temporary log: %w", ErrInUse)
}

func (s *Store) tempDir() string { return filepath.Join(s.dir, tempName, rand.Text()) }

// write opens the log in dir for writing; the lock is the log's from now on.
func (s *Store) write(k Key, first uint64, dir string, lock *flock.Flock, temp bool) (*Log, error) {
	l := newLog(s, dir)
	l.lock, l.temp = lock, temp
	var err error
	if !temp { // which nobody looks for
		err = ensureMeta(dir, k)
	}
	if err == nil {
		err = l.recover(first)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Read opens the log of an attempt for reading, also while it is written; the
// caller closes it. The error is fs.ErrNotExist where the store has none.
func (s *Store) Read(k Key) (*Log, error) {
	l, err := s.read(k)
	if err != nil {
		return nil, fmt.Errorf("read log of attempt %q: %w", k.Attempt, err)
	}
	return l, nil
}

func (s *Store) read(k Key) (*Log, error) {
	dir, err := s.path(k)
	if err != nil {
		return nil, err
	}
	l := newLog(s, dir)
	l.readOnly = true
	if _, err := l.refresh(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// InUse tells whether the log of an attempt is being written. Who begins to write it in
// this very moment may get ErrInUse.
func (s *Store) InUse(k Key) bool {
	dir, err := s.path(k)
	if err != nil {
		return false
	}
	lock := flock.New(filepath.Join(dir, lockName), flock.SetFlag(os.O_RDONLY)) // and does not make one
	defer lock.Close()
	return errors.Is(tryLock(lock), ErrInUse)
}

// Find gives the attempts of a job, and of earlier jobs of its name, oldest
// first. With an error come those that could be looked at all the same.
func (s *Store) Find(namespace, job string) ([]Attempt, error) {
	if err := checkNames(namespace, job); err != nil {
		return nil, fmt.Errorf("find attempts: %w", err)
	}
	parent := filepath.Join(s.dir, namespace, job)
	names, err := subdirectories(parent)
	if err != nil {
		return nil, fmt.Errorf("find attempts: %w", err)
	}
	var found []Attempt
	var errs []error
	for _, name := range names {
		a, err := s.look(filepath.Join(parent, name))
		switch {
		case errors.Is(err, fs.ErrNotExist): // just being made, or removed
		case err != nil:
			errs = append(errs, fmt.Errorf("find attempts: %w", err))
		default:
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b Attempt) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.AttemptUID, b.AttemptUID)
	})
	return found, errors.Join(errs...)
}

func (s *Store) look(dir string) (Attempt, error) {
	m, damage := s.metaOf(dir)
	l := newLog(s, dir)
	l.readOnly = true
	defer l.Close()
	if _, err := l.refresh(); err != nil {
		return Attempt{}, err
	}
	_, written, err := usage(dir)
	if err != nil {
		return Attempt{}, err
	}
	a := Attempt{Key: m.Key, Exit: l.Exit(), Created: m.Created, Written: written, Unnamed: damage}
	if a.First, a.End = l.Extent(); a.Created.IsZero() {
		a.Created = written
	}
	if tail := l.Damage(); a.Exit == nil && tail != nil {
		a.Damage = tail
	}
	if errors.Is(damage, fs.ErrNotExist) && a.End == a.First && a.Exit == nil { // just being made, or removed
		return Attempt{}, damage
	}
	return a, nil
}

// metaOf returns the names of an attempt from its directory's meta.json or, with an error, from
// the directory's path.
func (s *Store) metaOf(dir string) (meta, error) {
	m, err := readMeta(dir)
	if err == nil {
		if own, e := s.path(m.Key); e != nil || own != dir {
			err = &DamageError{File: filepath.Join(dir, metaName), Pos: -1, Reason: "it is of another attempt"}
		}
	}
	if err != nil {
		job := filepath.Dir(dir)
		uid := filepath.Base(dir)
		m = meta{Key: Key{Namespace: filepath.Base(filepath.Dir(job)), Job: filepath.Base(job), Attempt: uid, AttemptUID: uid}}
	}
	return m, err
}

func (s *Store) path(k Key) (string, error) {
	if err := checkNames(k.Namespace, k.Job, k.AttemptUID); err != nil {
		return "", err
	}
	return filepath.Join(s.dir, k.Namespace, k.Job, k.AttemptUID), nil
}

// checkNames refuses what is no name of a directory of ours: names come from
// the network, and are shown.
func checkNames(names ...string) error {
	for _, name := range names {
		odd := func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError || r == '/' }
		if name == "" || len(name) > 255 || name[0] == '.' || strings.ContainsFunc(name, odd) {
			return fmt.Errorf("%.300q is %w", name, ErrName)
		}
	}
	return nil
}

// ensureMeta writes meta.json unless there is one of this attempt: the machine's
// stop may have left a part of one.
func ensureMeta(dir string, k Key) error {
	m, err := readMeta(dir)
	var path *fs.PathError
	switch {
	case err == nil && m.Key.samePlace(k):
		return nil
	case errors.As(err, &path) && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	b, err := (&meta{Key: k, Created: time.Now().Round(0)}).marshal()
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, metaName), b)
}

func readMeta(dir string) (meta, error) {
	file, err := os.Open(filepath.Join(dir, metaName))
	if err != nil {
		return meta{}, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxMetaBytes))
	if err != nil {
		return meta{}, err
	}
	m, err := parseMeta(b)
	if err != nil {
		return meta{}, &DamageError{File: file.Name(), Pos: -1, Reason: err.Error()}
	}
	return m, nil
}

// marshal gives what is written, with the sum.
func (m *meta) marshal() ([]byte, error) {
	m.Sum = nil
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := crc32.Checksum(b, castagnoli)
	m.Sum = &sum
	return json.Marshal(m)
}

func parseMeta(b []byte) (meta, error) {
	var m meta
	from := json.NewDecoder(bytes.NewReader(b))
	from.DisallowUnknownFields() // a letter of a name may be what is wrong
	if err := from.Decode(&m); err != nil {
		return meta{}, err
	}
	if m.Sum == nil {
		return m, nil
	}
	again, err := (&meta{Key: m.Key, Created: m.Created}).marshal()
	if err == nil && !bytes.Equal(again, bytes.TrimSpace(b)) {
		err = errChecksum
	}
	return m, err
}
