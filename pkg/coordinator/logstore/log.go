package logstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/gofrs/flock"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// ErrClosed is what a Log and its Readers give after Close.
var ErrClosed = errors.New("the log is closed")

var (
	errReadOnly = errors.New("the log was opened for reading")
	errEnded    = errors.New("the log has its exit record")
)

// OffsetError is a batch, or an exit record, that does not continue at the end
// of the log: it overlaps what is stored, or leaves a hole.
type OffsetError struct{ Want, Got uint64 }

func (e *OffsetError) Error() string {
	return fmt.Sprintf("output at offset %d, expected %d", e.Got, e.Want)
}

// Log is the output of one attempt: batches without a hole between them, and at
// last the exit record. Its methods may be called from any goroutine.
type Log struct {
	store *Store
	dir   string
	temp  bool

	readOnly bool // opened with Read

	// writer is held by the one that appends, also while it waits for room. Who
	// holds it alone adds and drops segments, so it may write to the last one
	// without holding mu: readers don't wait for the disk. In a read-only log it
	// is held by refresh.
	writer chan struct{}
	// documents is held by the one that stores a document, so that output need not wait
	// for that file's disk. Who needs the writer's turn as well takes it second.
	documents sync.Mutex
	closing   chan struct{}
	lock      *flock.Flock // nil once closed
	indexFile *os.File     // of the last segment
	maxTime   int64        // the latest in the last segment
	torn      bool         // the last segment's file may go on behind its size
	flushing  chan error   // the sync of the segment before, under way
	flushed   *segment     // which one
	broken    error        // a sync has failed: the kernel forgets what it could not write
	head      []byte       // used again: header and table of a frame,
	bufs      [][]byte     // and what is written at once

	mu       sync.Mutex
	segments []*segment // oldest first
	first    uint64
	end      uint64
	exit     *hodeipb.ExitRecord
	damage   *DamageError // behind end, or a torn tail; only when read only
	hold     uint64
	closed   bool
	grown    signal // there is something new to read
	held     signal // hold has changed
}

// signal wakes all that wait at once. The channel exists only while somebody
// waits, so that an append without an audience costs no allocation. Its methods
// need the log's mutex.
type signal struct{ ch chan struct{} }

func (s *signal) wait() <-chan struct{} {
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) wake() {
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

func newLog(s *Store, dir string) *Log {
	return &Log{
		store:   s,
		dir:     dir,
		writer:  make(chan struct{}, 1),
		closing: make(chan struct{}),
		hold:    math.MaxUint64,
	}
}

// Extent gives the range of offsets that can be read: first <= offset < end. In
// a log opened with Read it is brought up to date when a Reader comes to its
// end, and by the look-ups.
func (l *Log) Extent() (first, end uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first, l.end
}

// Exit gives the exit record, nil as long as there is none.
func (l *Log) Exit() *hodeipb.ExitRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exit
}

// Damage returns why a log that was opened with Read ends before its files do, as far as it was
// read; nil: it does not. The damage may only be a batch that another process was writing when
// it was killed.
func (l *Log) Damage() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.damage == nil {
		return nil
	}
	return l.damage
}

// Hold keeps what is at or above offset from being dropped to stay within the
// limits: Append waits instead. Nothing is held before the first call. The
// offset may be raised, as a reader advances, and lowered.
func (l *Log) Hold(offset uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hold = offset
	l.held.wake()
}

// Append stores a batch. Its data comes beside it, b.Data is empty; at most 1
// MiB and 1024 records. When it returns nil the batch survives the end of the
// process, and readers see it; a loss of power it survives after SetExit. Then
// neither b nor data is kept.
//
// With an error nothing of the batch is stored, and it may be tried again, after
// a full disk for instance. The error is an *OffsetError when the batch does not
// begin at the end of the log, the cause of ctx when it ended in the waiting for
// room (see Hold), and ErrClosed.
func (l *Log) Append(ctx context.Context, b *hodeipb.Batch, data mem.BufferSlice) error {
	if err := l.append(ctx, b, data); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, b *hodeipb.Batch, data mem.BufferSlice) error {
	if err := l.lockWriter(ctx); err != nil {
		return err
	}
	defer l.unlockWriter()
	if err := l.writable(); err != nil {
		return err
	}
	if l.exit != nil {
		return errEnded
	}
	if b.Offset != l.end {
		return &OffsetError{Want: l.end, Got: b.Offset}
	}
	if err := checkSize(b, data); err != nil {
		return err
	}
	head := l.grow(headerSize + len(b.Records)*recordSize)
	end, err := putBatch(head, b, data)
	if err != nil {
		return err
	}
	seg, err := l.makeRoom(ctx, int64(len(head)+data.Len()))
	if err != nil {
		return err
	}
	l.bufs = append(l.bufs[:0], head)
	for _, part := range data {
		l.bufs = append(l.bufs, part.ReadOnlyData())
	}
	written, err := l.write(seg)
	if err != nil {
		return err
	}
	entry := indexEntry{offset: b.Offset, pos: seg.size, maxTime: l.maxTime}
	if due(seg.index, entry.pos) {
		if err := l.writeEntry(seg, entry); err != nil {
			return errors.Join(err, l.cut(seg))
		}
	}
	for _, r := range b.Records {
		l.maxTime = max(l.maxTime, r.TimeUnixNano)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seg.index = addEntry(seg.index, entry)
	seg.size += written
	seg.end, l.end = end, end
	l.grown.wake()
	return nil
}

// lockWriter waits for its turn.
func (l *Log) lockWriter(ctx context.Context) error {
	select {
	case l.writer <- struct{}{}: // also when ctx has ended
		return nil
	default:
	}
	select {
	case l.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Log) unlockWriter() { <-l.writer }

// writable needs the writer's turn.
func (l *Log) writable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.readOnly:
		return errReadOnly
	}
	return l.broken
}

func (l *Log) grow(n int) []byte {
	if cap(l.head) < n {
		l.head = make([]byte, n)
	}
	return l.head[:n]
}

// write puts l.bufs at the end of the segment, where they do not count yet.
func (l *Log) write(seg *segment) (written int64, err error) {
	bufs := l.bufs
	defer clear(bufs) // data is not kept
	// What a failed write has left would be found behind a shorter frame.
	if l.torn {
		if err := l.cut(seg); err != nil {
			return 0, err
		}
	}
	for _, b := range bufs {
		written += int64(len(b))
	}
	if err := writeVector(seg.file, bufs, seg.size); err != nil {
		return 0, errors.Join(err, l.cut(seg))
	}
	return written, nil
}

// cut brings the segment's file back to its last whole frame.
func (l *Log) cut(seg *segment) error {
	l.torn = true
	if err := seg.file.Truncate(seg.size); err != nil {
		return err
	}
	l.torn = false
	return nil
}

func (l *Log) writeEntry(seg *segment, e indexEntry) error {
	var b [indexEntrySize]byte
	e.put(b[:])
	_, err := l.indexFile.WriteAt(b[:], int64(len(seg.index))*indexEntrySize)
	return err
}

// SetExit stores the exit record, whose End is the end of the log, and returns
// when all of the log will survive a loss of power. The record is not to be
// changed any more. To store an equal record again is no error; to append or
// to store another one is.
func (l *Log) SetExit(r *hodeipb.ExitRecord) error {
	if err := l.setExit(r); err != nil {
		return fmt.Errorf("store exit record: %w", err)
	}
	return nil
}

func (l *Log) setExit(r *hodeipb.ExitRecord) error {
	l.writer <- struct{}{}
	defer l.unlockWriter()
	if err := l.writable(); err != nil {
		return err
	}
	if l.exit != nil {
		if proto.Equal(l.exit, r) {
			return l.sync() // the process that stored it may not have come so far
		}
		return errEnded
	}
	if r.End != l.end {
		return &OffsetError{Want: l.end, Got: r.End}
	}
	body, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	if len(body) > hodeipb.MaxBatchBytes {
		return fmt.Errorf("record of %d bytes, more than %d", len(body), hodeipb.MaxBatchBytes)
	}
	seg := l.segments[len(l.segments)-1]
	l.bufs = append(l.bufs[:0], putExit(l.grow(headerSize), r.End, body), body)
	written, err := l.write(seg)
	if err != nil {
		return err
	}
	if err := l.sync(); err != nil {
		l.broken = err
		return errors.Join(err, l.cut(seg))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	seg.size += written
	l.exit = r
	l.grown.wake()
	return nil
}

// Close ends the writing, or reading, and waiting calls return. A temporary log
// is removed. It may be called again.
func (l *Log) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
		l.grown.wake()
	}
	l.mu.Unlock()
	l.documents.Lock() // what is under way uses the files
	defer l.documents.Unlock()
	l.writer <- struct{}{}
	defer l.unlockWriter()
	errs := []error{l.awaitFlush()}
	l.mu.Lock()
	for _, seg := range l.segments {
		errs = append(errs, seg.close())
	}
	l.segments = nil
	l.mu.Unlock()
	if l.indexFile != nil {
		errs = append(errs, l.indexFile.Close())
		l.indexFile = nil
	}
	if l.lock != nil {
		if l.temp {
			errs = append(errs, os.RemoveAll(l.dir))
		}
		errs = append(errs, l.lock.Close())
		l.lock = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}
