package logstore

import (
	"bytes"
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
	tried int64 // bytes that were looked at for frames behind damage
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
	h, ok, err := s.header()
	if err != nil {
		return nil, err
	}
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
	b, err := s.bytes(size)
	if err != nil {
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

// header reads the header of a frame at pos; false if there is none.
func (s *scanner) header() (header, bool, error) {
	if s.limit-s.pos < headerSize {
		return header{}, false, nil
	}
	b, err := s.bytes(headerSize)
	if err != nil {
		return header{}, false, err
	}
	h, ok := parseHeader(b)
	return h, ok, nil
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

// follow gives the next frame of a log whose output goes up to offset at. Where that is
// not the next one in the file, it is the first behind what is damaged, which comes with
// it: output is missing up to the frame's offset. An error is io.EOF, what next says of
// the file's end, or the damage that no frame is found behind; then the scanner stays
// where it is.
func (s *scanner) follow(at uint64) (*frame, *DamageError, error) {
	f, err := s.next()
	if err == nil && f.offset == at {
		return f, nil, nil
	}
	begin := s.pos
	if err == nil {
		begin = f.pos
		damage := &DamageError{File: s.name, Pos: f.pos, Reason: fmt.Sprintf("frame at offset %d, expected %d", f.offset, at)}
		if f.offset > at {
			return f, damage, nil
		}
		err = damage
	}
	damage, ok := errors.AsType[*DamageError](err)
	if !ok || damage.torn {
		return nil, nil, err
	}
	f, err = s.search(begin, at)
	if err == nil && f == nil {
		err = damage
	}
	if err != nil {
		s.pos = begin
		return nil, nil, err
	}
	return f, damage, nil
}

// search gives the first whole frame behind the damage at pos that can follow output up
// to offset at; nil: there is none. What a job prints may look like frames. So the first
// guess is where the damaged frame ends by its own lengths; a frame that is found
// anywhere else counts only if another one follows it, or the end of the file.
func (s *scanner) search(pos int64, at uint64) (*frame, error) {
	s.pos = pos
	h, _, err := s.header()
	if err != nil {
		return nil, err
	}
	f, err := s.candidate(pos+int64(h.size()), at, true)
	for pos++; f == nil && err == nil && s.tried < maxSegmentFile; pos++ {
		if pos, err = s.findMagic(pos); pos < 0 || err != nil {
			return nil, err
		}
		f, err = s.candidate(pos, at, false)
	}
	return f, err
}

// findMagic returns where, from pos on, the next bytes are that a frame begins with; below
// zero: nowhere.
func (s *scanner) findMagic(pos int64) (int64, error) {
	for s.pos = pos; s.limit-s.pos >= headerSize; {
		if _, err := s.bytes(headerSize); err != nil {
			return -1, err
		}
		ahead := s.buf[s.pos-s.start:]
		if i := bytes.Index(ahead, magic[:]); i >= 0 {
			return s.pos + int64(i), nil
		}
		s.pos += int64(len(ahead) - len(magic) + 1)
	}
	return -1, nil
}

// candidate gives the frame at pos if it can follow output up to offset at; nil: there is
// none. One that is not sure has to be followed by another.
func (s *scanner) candidate(pos int64, at uint64, sure bool) (*frame, error) {
	s.pos = pos
	h, ok, err := s.header()
	if !ok || err != nil || h.offset < at {
		return nil, err
	}
	s.tried += int64(h.size())
	f, err := s.next()
	if _, bad := errors.AsType[*DamageError](err); bad || err == nil && f.kind == kindExit && s.pos != s.limit {
		return nil, nil
	}
	if err != nil || sure || s.pos == s.limit {
		return f, err
	}
	end := f.end // its slices may not outlast the next call
	if h, ok, err = s.header(); !ok || err != nil || h.offset != end {
		return nil, err
	}
	s.pos = pos
	return s.next()
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
	size    int64               // of the whole frames, and what is damaged between them
	exit    *hodeipb.ExitRecord // nil: none
	hole    *DamageError        // the first that frames were found behind
	damage  *DamageError        // what follows is no frames: damaged, or a torn tail
}

// surveySegment walks the segment that begins at offset first from the last
// entry of the index on, which is verified, and completes the index. It passes over
// damage that frames are found behind. size is the file's.
func surveySegment(file *os.File, first uint64, size int64, index []indexEntry) (survey, error) {
	v := survey{index: index, maxTime: math.MinInt64, end: first}
	if n := len(index); n > 0 {
		v.end, v.size, v.maxTime = index[n-1].offset, index[n-1].pos, index[n-1].maxTime
	}
	s := newScanner(file, v.size, size)
	for {
		f, hole, err := s.follow(v.end)
		if errors.Is(err, io.EOF) {
			return v, nil
		}
		if damage, ok := errors.AsType[*DamageError](err); ok {
			v.damage = damage
			return v, nil
		}
		if err != nil {
			return v, err
		}
		if v.hole == nil {
			v.hole = hole
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
	case f.kind == kindExit:
		exit := &hodeipb.ExitRecord{}
		if err := proto.Unmarshal(f.data, exit); err != nil {
			return "the exit record can't be read: " + err.Error()
		}
		v.exit, v.end = exit, f.offset
		return ""
	}
	v.index = addEntry(v.index, indexEntry{offset: f.offset, pos: f.pos, maxTime: v.maxTime})
	for i := range f.records {
		v.maxTime = max(v.maxTime, f.record(i).time)
	}
	v.end = f.end
	return ""
}

// refusal is why a log with this segment can't be written on: cutting at the damage
// would lose what is stored behind it, which nobody has looked at where no frame was
// found. A torn tail is no reason.
func (v *survey) refusal() error {
	switch {
	case v.hole != nil:
		return v.hole
	case v.damage != nil && !v.damage.torn:
		return v.damage
	}
	return nil
}
