package logstore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A segment is named after its first offset, in so many digits that names sort
// as offsets do. Its index is beside it.
const (
	segmentSuffix = ".log"
	indexSuffix   = ".index"
	nameDigits    = 20

	// maxSegmentFile bounds the time that a file takes which is none of ours: a
	// full segment and the exit record.
	maxSegmentFile = maxSegmentBytes + maxFrameSize

	// maxBuffers of one system call; Linux and Darwin take no more.
	maxBuffers = 1024
)

// segment is one file of a log. The log's mutex guards what changes; who has
// the writer's turn alone changes it, and so reads it without.
type segment struct {
	name  string // the path, without a suffix
	first uint64 // offset of its first byte
	end   uint64 // offset behind its last whole batch
	size  int64  // of its whole frames

	file    *os.File // nil: not opened yet, or the segment was dropped
	index   []indexEntry
	indexed bool // index is complete; a slice that is only ever added to
	synced  bool // it will survive a loss of power
}

// open opens the segment's file once; it needs the log's mutex.
func (seg *segment) open() (*os.File, error) {
	if seg.file == nil {
		file, err := os.Open(seg.name + segmentSuffix)
		if err != nil {
			return nil, err
		}
		seg.file = file
	}
	return seg.file, nil
}

// close may be called more than once; it needs the log's mutex. A reader in the
// middle of the file gets os.ErrClosed.
func (seg *segment) close() error {
	if seg.file == nil {
		return nil
	}
	err := seg.file.Close()
	seg.file = nil
	return err
}

// reach gives the offset behind the last whole batch of a segment that nobody
// writes to. It looks no further back than the last entry of the index that leads
// to a frame, or this would be felt in a large log.
func (seg *segment) reach() (uint64, error) {
	file, err := os.Open(seg.name + segmentSuffix)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	index, err := lastEntry(seg.name+indexSuffix, file, seg.first, seg.size)
	if err != nil {
		return 0, err
	}
	v, err := surveySegment(file, seg.first, seg.size, index)
	if err == nil {
		err = v.refusal()
	}
	return v.end, err
}

// remove deletes the files of a closed segment.
func (seg *segment) remove() error {
	var errs []error
	for _, suffix := range []string{segmentSuffix, indexSuffix} {
		if err := os.Remove(seg.name + suffix); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// listSegments gives the segments in dir, in order, with the sizes of their
// files. All but the last end where the next begins.
func listSegments(dir string) ([]*segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segments []*segment
	for _, entry := range entries {
		digits, ok := strings.CutSuffix(entry.Name(), segmentSuffix)
		if !ok || !entry.Type().IsRegular() || len(digits) != nameDigits {
			continue
		}
		first, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return nil, err
		}
		seg := &segment{name: segmentName(dir, first), first: first, end: first, size: info.Size()}
		if seg.size > maxSegmentFile {
			return nil, &DamageError{File: seg.name + segmentSuffix, Pos: maxSegmentFile, Reason: "the file is larger than any segment"}
		}
		segments = append(segments, seg)
	}
	slices.SortFunc(segments, func(a, b *segment) int { return strings.Compare(a.name, b.name) })
	for i := range segments[:max(len(segments), 1)-1] {
		segments[i].end = segments[i+1].first
	}
	return segments, nil
}

func segmentName(dir string, first uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d", nameDigits, first))
}

// writeVector is a WriteAt of several buffers, without copying them together.
// It changes bufs.
func writeVector(file *os.File, bufs [][]byte, pos int64) error {
	for len(bufs) > 0 {
		n, err := unix.Pwritev(int(file.Fd()), bufs[:min(len(bufs), maxBuffers)], pos)
		if errors.Is(err, unix.EINTR) {
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
		if len(bufs) > 0 {
			bufs[0] = bufs[0][n:]
		}
	}
	return nil
}

// syncFile makes a file, or the names in a directory, survive a loss of power.
func syncFile(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
