// Package spool keeps the output of one attempt on disk until a coordinator has stored it, and its newest
// part in memory too. Start with [Open]; the command's pipes are written to a [Spool] by Append and Fill,
// and each who sends output on reads it through a [Reader] of its own, in batches of the protocol.
//
// It has a cap. What a full spool does, let the writer wait or drop the oldest, is decided by whoever has
// it; so is how batches are sent. Nothing survives the process.
package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// A record on disk is this header and then its bytes, all little endian:
	// stream 1, length 4, offset within the stream 8, Unix time in nanoseconds 8.
	// The offset over both streams is not in it: it follows from the segment's
	// first offset and the lengths.
	recordHeader = 1 + 4 + 8 + 8

	// The head is dropped by whole files, so a segment is what a full spool loses
	// at once. A sixteenth keeps at least 15/16 of the cap useful and the number
	// of open files small. Below 64 KiB a file would hold less than one read from
	// a pipe; above 64 MiB unlinking one holds up the writer for milliseconds.
	segmentsPerSpool = 16
	minSegmentBytes  = 64 << 10
	maxSegmentBytes  = 64 << 20

	// What the names of segment files start with.
	segmentPrefix = "segment-"

	// A cap that can't hold a handful of lines is a mistake in the configuration
	// (bytes for MiB), not a wish.
	minBytes = 4 << 10

	// One index entry (24 bytes) per so many bytes of file: 384 KiB of memory for
	// 1 GiB of disk, however small the records are. A reader that starts anywhere
	// walks at most the headers of so many bytes.
	indexEvery = 64 << 10

	// What is left at the end of a segment is filled with the start of a record,
	// unless it is so little that the extra write is not worth it.
	minPiece = 512

	// Records of one stream this close are one record to a reader: time is for
	// people, and a batch waits as long anyway. A program that writes byte by byte
	// would otherwise send a record of 10 to 20 bytes for each.
	mergeWithin = 20 * time.Millisecond

	// Bounds a batch where two streams alternate byte by byte: 1024 records are
	// about 20 KiB of protobuf, a third of a full batch's payload.
	maxBatchRecords = 1024

	// BatchBytes is what a batch from the file has a buffer at hand for; a larger one gets
	// a buffer of its own. Twice and four times as much was hardly faster on loopback, and
	// takes more memory.
	BatchBytes = 64 << 10

	// The least that a reader asks of the file at once. The rest of a batch among
	// small records would otherwise be fetched by ever smaller reads.
	minRead = 4 << 10
)

// ErrClosed is what Append and Fill return after Close, and Next after Remove.
var ErrClosed = errors.New("spool is closed")

// Spool holds the output of one attempt in segment files, addressed by offset:
// bytes over both streams in the order of Append. Open makes one; it is read
// through a Reader. All methods may be called from any goroutine.
//
// It can't be opened again after the process has ended: the container never
// restarts, so nothing on disk is more than these bytes and their headers.
type Spool struct {
	dir          string
	capBytes     int64
	segmentBytes int64
	// damaged, if set, is told what could not be read.
	damaged func(error)

	// writer is held by the append that is under way, also while it waits for
	// room, so that one call's bytes stay together and full has one cause. It is a
	// channel and not a mutex so that the other writer's context can end its wait.
	// Who holds it alone changes segments, their sizes and header, and so may
	// write to the file without holding mu: readers don't wait for the disk.
	writer chan struct{}
	header [recordHeader]byte
	iovecs [2][]byte
	serial int // of the next segment's name

	mu       sync.Mutex
	segments []*segment // oldest first; the last one is written to
	used     int64      // bytes of files, headers included
	first    uint64
	end      uint64
	ends     [3]uint64 // of each stream, by hodeipb.Stream
	safe     uint64    // everything below is stored by some coordinator
	drop     bool      // the unstored may be dropped as well
	tail     tail
	blocked  bool
	closed   bool
	removed  bool

	grown   signal // end reached grownAt, or the spool was closed
	grownAt uint64 // the lowest end that a reader waits for; valid while grown has waiters
	room    signal // something that append waits for has changed
	changed signal // blocked has changed
}

// segment is one file of records without a hole between them.
type segment struct {
	file  *os.File
	first uint64 // offset of its first byte
	end   uint64 // offset behind its last whole record
	size  int64  // of the file, up to the last whole record
	index []indexEntry
}

// indexEntry says that the header of the record that starts at offset, and
// was read at time, is at pos of its segment.
type indexEntry struct {
	offset uint64
	pos    int64
	time   int64 // Unix, in nanoseconds
}

// signal wakes all that wait at once and, unlike a sync.Cond, lets them
// wait for a context or a timer too. The channel exists only while somebody
// waits, so that an append without an audience costs no allocation. Its methods
// need the spool's mutex.
type signal struct{ ch chan struct{} }

func (g *signal) wait() <-chan struct{} {
	if g.ch == nil {
		g.ch = make(chan struct{})
	}
	return g.ch
}

func (g *signal) wake() {
	if g.ch != nil {
		close(g.ch)
		g.ch = nil
	}
}

// Open makes an empty spool in dir, which is created if needed; segments
// that an earlier spool left there are deleted. The files never hold more than
// capBytes, headers included. The memory besides is the tail's, a MiB, and 24 bytes per
// 64 KiB of file. damaged, if not nil, is told what could not be read, by the reader's goroutine.
func Open(dir string, capBytes int64, damaged func(error)) (*Spool, error) {
	if capBytes < minBytes {
		return nil, fmt.Errorf("open spool %q: cap of %d bytes is below %d", dir, capBytes, minBytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), segmentPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return nil, fmt.Errorf("open spool: %w", err)
		}
	}
	segmentBytes := min(max(capBytes/segmentsPerSpool, minSegmentBytes), maxSegmentBytes, capBytes)
	return &Spool{
		dir:          dir,
		capBytes:     capBytes,
		damaged:      damaged,
		segmentBytes: segmentBytes,
		writer:       make(chan struct{}, 1),
	}, nil
}

// Append stores data behind everything before it, and wakes the readers that it
// is enough for. While the spool is full and nothing may be dropped it waits until
// that changes, ctx ends or the spool is closed. ctx ends only the waiting: where
// there is room, data is stored. data is not kept.
//
// Two writers may call it at once; the bytes of one call stay together. After an
// error, what was stored of data before it stays (StreamEnds tells), nothing
// else does, and Append may be tried again with the rest.
func (s *Spool) Append(ctx context.Context, stream hodeipb.Stream, t time.Time, data []byte) error {
	if err := checkStream(stream); err != nil {
		return err
	}
	if err := s.lockWriter(ctx); err != nil {
		return err
	}
	defer s.unlockWriter()
	for len(data) > 0 {
		seg, space, err := s.reserve(ctx, len(data))
		if err != nil {
			return err
		}
		n := copy(space, data)
		if err := s.write(seg, stream, t, space[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// Fill is Append for output that has not been read yet: read is called once, with
// room for want bytes or fewer, which are then stored as they lie there. It must
// not wait. What it read, and its error, are returned as they are; err says why
// nothing was read, or why what was read is not stored.
func (s *Spool) Fill(ctx context.Context, stream hodeipb.Stream, want int, read func([]byte) (int, error)) (n int, readErr, err error) {
	if err := checkStream(stream); err != nil {
		return 0, nil, err
	}
	if err := s.lockWriter(ctx); err != nil {
		return 0, nil, err
	}
	defer s.unlockWriter()
	seg, space, err := s.reserve(ctx, want)
	if err != nil {
		return 0, nil, err
	}
	if n, readErr = read(space); n <= 0 {
		return 0, readErr, nil
	}
	return n, readErr, s.write(seg, stream, time.Now(), space[:n])
}

// checkStream says that output of a stream can be stored.
func checkStream(stream hodeipb.Stream) error {
	if stream != hodeipb.Stream_STDOUT && stream != hodeipb.Stream_STDERR {
		return fmt.Errorf("append to spool: no such stream %d", stream)
	}
	return nil
}

// reserve gives room for want bytes or fewer, but some, and the segment that they
// will go to. It waits for room. The caller holds the writer.
func (s *Spool) reserve(ctx context.Context, want int) (*segment, []byte, error) {
	s.mu.Lock()
	space := s.tail.space(want, s.end)
	s.mu.Unlock()
	seg, n, err := s.makeRoom(ctx, len(space))
	return seg, space[:n], err
}

func (s *Spool) lockWriter(ctx context.Context) error {
	select {
	case s.writer <- struct{}{}: // also when ctx has ended
		return nil
	default:
	}
	select {
	case s.writer <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the spool: %w", context.Cause(ctx))
	}
}

func (s *Spool) unlockWriter() { <-s.writer }

// makeRoom gives the segment to write to, and how many of want bytes may be
// written there in one record. It waits for room.
func (s *Spool) makeRoom(ctx context.Context, want int) (*segment, int, error) {
	for {
		p, err := s.place(want)
		if err != nil {
			return nil, 0, err
		}
		if err := removeSegments(p.dropped); err != nil {
			s.stopWaiting()
			return nil, 0, err
		}
		if p.room == nil {
			if p.seg == nil {
				p.seg, err = s.addSegment()
			}
			return p.seg, p.n, err
		}
		select {
		case <-p.room:
		case <-ctx.Done():
			s.stopWaiting()
			return nil, 0, fmt.Errorf("wait for room in the spool: %w", context.Cause(ctx))
		}
	}
}

// place is where the next record can go.
type place struct {
	seg     *segment        // nil: a new one
	n       int             // bytes that the record may have
	dropped []*segment      // to be deleted first
	room    <-chan struct{} // not nil: there is no room before this is closed
}

// place finds room for a record of want bytes or the start of them.
func (s *Spool) place(want int) (place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		s.setBlocked(false)
		return place{}, ErrClosed
	}
	seg, left := s.last(), s.segmentBytes
	if seg != nil {
		left -= seg.size
	}
	if seg != nil && seg.size > 0 && left < recordHeader+min(int64(want), minPiece) {
		seg, left = nil, s.segmentBytes
	}
	size := min(recordHeader+int64(want), left)
	// Never drops seg itself: alone it has the room, as the cap is at least a segment.
	p := place{seg: seg, n: int(size - recordHeader), dropped: s.dropFor(size)}
	fits := s.used+size <= s.capBytes
	s.setBlocked(!fits)
	if !fits {
		p.room = s.room.wait()
	}
	return p, nil
}

// last gives the segment written to, nil where there is none. It needs mu.
func (s *Spool) last() *segment {
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[len(s.segments)-1]
}

// dropFor takes the oldest segments out until need bytes fit or no more may go.
// The caller deletes them, without holding mu, which dropFor needs.
func (s *Spool) dropFor(need int64) []*segment {
	n := 0
	for n < len(s.segments) && s.used+need > s.capBytes {
		seg := s.segments[n]
		if seg.end > s.safe && !s.drop {
			break
		}
		s.used -= seg.size
		s.first = seg.end
		n++
	}
	if n == 0 {
		return nil
	}
	dropped := slices.Clone(s.segments[:n])
	s.segments = slices.Delete(s.segments, 0, n)
	return dropped
}

func (s *Spool) stopWaiting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setBlocked(false)
}

// setBlocked needs mu.
func (s *Spool) setBlocked(blocked bool) {
	if s.blocked != blocked {
		s.blocked = blocked
		s.changed.wake()
	}
}

func (s *Spool) addSegment() (*segment, error) {
	name := filepath.Join(s.dir, fmt.Sprintf("%s%08d", segmentPrefix, s.serial))
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("add to spool: %w", err)
	}
	s.serial++
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := &segment{file: file, first: s.end, end: s.end}
	s.segments = append(s.segments, seg)
	return seg, nil
}

// write puts one record at the end of seg, whose data lie in the space that was
// reserved. Readers see it when it is whole.
func (s *Spool) write(seg *segment, stream hodeipb.Stream, t time.Time, data []byte) error {
	s.header[0] = byte(stream)
	binary.LittleEndian.PutUint32(s.header[1:], uint32(len(data)))
	binary.LittleEndian.PutUint64(s.header[5:], s.ends[stream])
	binary.LittleEndian.PutUint64(s.header[13:], uint64(t.UnixNano()))
	s.iovecs = [2][]byte{s.header[:], data}
	err := writeVector(seg.file, s.iovecs[:], seg.size)
	s.iovecs = [2][]byte{}
	if err != nil {
		// The next append overwrites the torn record. Cutting it off now only
		// keeps the disk's use at what the cap counts, so it may well not work.
		_ = seg.file.Truncate(seg.size)
		return fmt.Errorf("append %d bytes to spool: %w", len(data), err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed // readers may have been told the end already
	}
	if n := len(seg.index); n == 0 || seg.size-seg.index[n-1].pos >= indexEvery {
		seg.index = append(seg.index, indexEntry{offset: seg.end, pos: seg.size, time: t.UnixNano()})
	}
	size := int64(recordHeader + len(data))
	seg.size += size
	s.used += size
	seg.end += uint64(len(data))
	s.end = seg.end
	s.tail.grow(stream, s.ends[stream], t, len(data))
	s.ends[stream] += uint64(len(data))
	if s.end >= s.grownAt {
		s.grown.wake()
	}
	return nil
}

// writeVector is a WriteAt of several buffers: header and data reach the file in
// one system call without being copied together first.
func writeVector(file *os.File, bufs [][]byte, pos int64) error {
	for {
		n, err := unix.Pwritev(int(file.Fd()), bufs, pos)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return &os.PathError{Op: "write", Path: file.Name(), Err: err}
		}
		pos += int64(n)
		for len(bufs) > 0 && n >= len(bufs[0]) {
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
		if len(bufs) == 0 {
			return nil
		}
		bufs[0] = bufs[0][n:]
	}
}

// Extent returns the range of offsets that can be read: first <= offset < end.
func (s *Spool) Extent() (first, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first, s.end
}

// Marks returns some of the offsets between those two, n or fewer, and when they
// were read.
func (s *Spool) Marks(n int) []*hodeipb.Mark {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := 0
	for _, seg := range s.segments {
		entries += len(seg.index)
	}
	every := max(1, (entries+n-1)/n)
	var marks []*hodeipb.Mark
	i := 0
	for _, seg := range s.segments {
		for _, e := range seg.index {
			if i%every == 0 {
				marks = append(marks, &hodeipb.Mark{Offset: e.offset, TimeUnixNano: e.time})
			}
			i++
		}
	}
	return marks
}

// StreamEnds returns how many bytes of each stream were ever appended.
func (s *Spool) StreamEnds() (stdout, stderr uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends[hodeipb.Stream_STDOUT], s.ends[hodeipb.Stream_STDERR]
}

// Stored takes word that some coordinator has stored everything below offset, so that
// it may be dropped when the cap needs it. Nothing is dropped before. A lower
// offset than before changes nothing; one beyond the end counts as the end.
func (s *Spool) Stored(offset uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// What was not yet written can't be stored: without the bound, one wrong ack
	// would make all later output droppable.
	if offset = min(offset, s.end); offset > s.safe {
		s.safe = offset
		s.room.wake()
	}
}

// DropUnstored sets whether a full spool drops its head even if nobody has
// stored it (true) or makes Append wait (false, as after Open).
func (s *Spool) DropUnstored(drop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop != drop {
		s.drop = drop
		s.room.wake()
	}
}

// Full reports whether a writer waits for room now. The channel is closed when
// that changes; ask again then.
func (s *Spool) Full() (blocked bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked, s.changed.wait()
}

// Close ends the output: Append fails from now on, also one that waits, and
// readers get io.EOF behind the last byte. It may be called again.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.grown.wake()
	s.room.wake()
}

// Remove closes the spool and deletes its files, not the directory: that may be
// a mount point. Readers get an error. It may be called again.
func (s *Spool) Remove() error {
	s.Close()
	s.writer <- struct{}{} // an append under way uses the file
	defer s.unlockWriter()
	s.mu.Lock()
	s.tail.free()
	segments := s.segments
	s.segments = nil
	s.used = 0
	s.first = s.end
	s.removed = true
	s.mu.Unlock()
	return removeSegments(segments)
}

// removeSegments deletes all that it can. A reader in the middle of one gets
// os.ErrClosed.
func removeSegments(segments []*segment) error {
	var errs []error
	for _, seg := range segments {
		if err := os.Remove(seg.file.Name()); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		errs = append(errs, seg.file.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("drop from spool: %w", err)
	}
	return nil
}
