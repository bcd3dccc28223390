package logstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"

	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// scanBytes is read from a segment at once: the next frames of 64 KiB come with
// the one asked for, in a quarter of the system calls. It is the memory of a
// reader, as long as no frame is larger.
const scanBytes = 256 << 10

// scanner gives the frames of one segment, one after the other, verified.
type scanner struct {
	file  io.ReaderAt
	name  string
	pos   int64 // of the next frame
	limit int64 // nothing behind is looked at

	buf   []byte
	start int64 // of buf in the file
}

func newScanner(file *os.File, pos, limit int64) *scanner {
	return &scanner{file: file, name: file.Name(), pos: pos, limit: limit}
}

// next gives the frame at pos and moves behind it: io.EOF at the limit, a
// *DamageError for anything else than a frame. Then it stays where it is. The
// frame's slices are valid until the following call.
func (s *scanner) next() (*frame, error) {
	left := s.limit - s.pos
	if left <= 0 {
		return nil, io.EOF
	}
	if left < headerSize {
		return nil, s.damage(true, "%d bytes are no frame", left)
	}
	b, err := s.bytes(headerSize)
	if err != nil {
		return nil, err
	}
	h, ok := parseHeader(b)
	if !ok {
		zeros, err := s.zeros()
		if err != nil {
			return nil, err
		}
		return nil, s.damage(zeros, "no frame begins here")
	}
	size := h.size()
	if left < int64(size) {
		return nil, s.damage(true, "frame of %d bytes, of which %d are there", size, left)
	}
	if b, err = s.bytes(size); err != nil {
		return nil, err
	}
	b = b[headerSize:]
	if crc32.Checksum(b, castagnoli) != h.bodyCRC {
		// At the very end: the machine stopped before all pages were on disk.
		return nil, s.damage(left == int64(size), "checksum is wrong")
	}
	f := &frame{header: h, pos: s.pos, table: b[:h.records*recordSize], data: b[h.records*recordSize:]}
	if err := f.check(); err != nil {
		return nil, s.damage(false, "%v", err)
	}
	s.pos += int64(size)
	return f, nil
}

func (s *scanner) damage(torn bool, format string, args ...any) error {
	return &DamageError{File: s.name, Pos: s.pos, Reason: fmt.Sprintf(format, args...), torn: torn}
}

// bytes gives n bytes at pos, which lie before the limit, and reads ahead.
func (s *scanner) bytes(n int) ([]byte, error) {
	from := s.pos - s.start
	if from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from:][:n], nil
	}
	var rest []byte
	if from >= 0 && from < int64(len(s.buf)) {
		rest = s.buf[from:]
	}
	if cap(s.buf) < n {
		size := scanBytes
		if n > size { // rare; its exact size would be outgrown by the next
			size = maxFrameSize
		}
		s.buf = make([]byte, size)
	}
	have := copy(s.buf[:cap(s.buf)], rest)
	want := int(min(int64(cap(s.buf)), s.limit-s.pos))
	read, err := s.file.ReadAt(s.buf[have:want], s.pos+int64(have))
	s.buf, s.start = s.buf[:have+read], s.pos
	if have+read < n {
		if errors.Is(err, io.EOF) { // somebody has shortened the file
			return nil, s.damage(true, "%d bytes, where %d were", have+read, s.limit-s.pos)
		}
		return nil, err
	}
	return s.buf[:n], nil
}

// zeros tells whether nothing else follows: a file system that had made room,
// but not written the bytes when the machine stopped.
func (s *scanner) zeros() (bool, error) {
	b := make([]byte, 64<<10)
	for pos := s.pos; pos < s.limit; {
		n, err := s.file.ReadAt(b[:min(int64(len(b)), s.limit-pos)], pos)
		for _, c := range b[:n] {
			if c != 0 {
				return false, nil
			}
		}
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		pos += int64(n)
	}
	return true, nil
}

// survey is what a segment holds.
type survey struct {
	index   []indexEntry
	maxTime int64               // the latest time of all records
	end     uint64              // offset behind the last whole batch
	size    int64               // of the whole frames
	exit    *hodeipb.ExitRecord // nil: none
	damage  *DamageError        // what follows is neither frames nor a torn tail
}

// surveySegment walks the segment that begins at offset first from the last
// entry of the index on, which is verified, and completes the index. It stops
// at a torn tail and at damage. size is the file's.
func surveySegment(file *os.File, first uint64, size int64, index []indexEntry) (survey, error) {
	v := survey{index: index, maxTime: math.MinInt64, end: first}
	if n := len(index); n > 0 {
		v.end, v.size, v.maxTime = index[n-1].offset, index[n-1].pos, index[n-1].maxTime
	}
	s := newScanner(file, v.size, size)
	for {
		f, err := s.next()
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		var damage *DamageError
		if errors.As(err, &damage) {
			if !damage.torn {
				v.damage = damage
			}
			return v, nil
		}
		if err != nil {
			return v, err
		}
		if reason := v.add(f); reason != "" {
			v.damage = &DamageError{File: s.name, Pos: f.pos, Reason: reason}
			return v, nil
		}
		v.size = s.pos
	}
}

// add takes in the next frame, or says why it can't be the next.
func (v *survey) add(f *frame) (reason string) {
	switch {
	case v.exit != nil:
		return "a frame behind the exit record"
	case f.offset != v.end:
		return fmt.Sprintf("frame at offset %d, expected %d", f.offset, v.end)
	case f.kind == kindExit:
		exit := &hodeipb.ExitRecord{}
		if err := proto.Unmarshal(f.data, exit); err != nil {
			return "the exit record can't be read: " + err.Error()
		}
		v.exit = exit
		return ""
	}
	v.index = addEntry(v.index, indexEntry{offset: f.offset, pos: f.pos, maxTime: v.maxTime})
	for i := range f.records {
		v.maxTime = max(v.maxTime, f.record(i).time)
	}
	v.end = f.end
	return ""
}
