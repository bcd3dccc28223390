package spool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// fileReads are what batches are made of that come from the file.
var fileReads = hodeipb.NewPool(BatchBytes + 2*recordHeader + minRead)

// Reader reads a spool from one offset on. Each has its own pace; it is used
// by one goroutine, needs no closing and holds nothing back from being dropped.
type Reader struct {
	s      *Spool
	offset uint64    // of the next byte to give
	seen   time.Time // when a byte at offset was first seen; zero: not yet
	given  time.Time // when the batch before was

	// Where in the files it is. at is the offset of the byte at pos, which lies
	// left bytes before the end of a record, or at a header where left is 0. at is
	// below offset after a search, until the records between are skipped.
	seg    *segment
	pos    int64
	at     uint64
	left   int
	record struct {
		stream hodeipb.Stream
		offset uint64 // of the byte at pos, within the stream
		time   int64
	}

	// The batch of the last call and its records, used again.
	batch   hodeipb.Batch
	records []*hodeipb.Record // as many as were ever needed
	timer   *time.Timer

	// The batch that is being made: from the tail, or from a buffer for the file.
	size  int // of its data
	buf   []byte
	start int // of the data in buf
	end   int
}

// Reader returns a reader that starts at offset, which may lie in the middle of a
// record, below what is held (it gets a gap record) or beyond the end (it waits).
func (s *Spool) Reader(offset uint64) *Reader {
	return &Reader{s: s, offset: offset}
}

// Next waits until there is something to read, and then until there are maxBytes
// of it, flush has passed since the batch before, or the spool is closed. What
// comes after a pause waits for a tenth of flush only, for what may belong to it.
// The batch continues where the one before ended. It holds at least one record,
// at most 1024 and maxBytes; a record that is too long for it goes on in the
// following batch. Neighbours of one stream and within 20 ms are one record.
// What was dropped is one gap record of exactly that length at the batch's start.
//
// The batch is the reader's and valid until the following call; its data lie
// beside it and are the caller's to free.
// What the disk does not give back is a gap too, to the end of its segment.
// The error is io.EOF when the spool is closed and read to its end, the cause of
// ctx, or ErrClosed after Remove.
func (r *Reader) Next(ctx context.Context, maxBytes int, flush time.Duration) (*hodeipb.Batch, mem.BufferSlice, error) {
	maxBytes = max(maxBytes, 1)
	for {
		if err := r.wait(ctx, maxBytes, flush); err != nil {
			return nil, nil, err
		}
		if data := r.fill(maxBytes); len(r.batch.Records) > 0 {
			r.given = time.Now()
			return &r.batch, data, nil
		}
		// All of it was dropped since: now there is a gap.
	}
}

// Offset returns the offset of the byte that the next batch starts with: that behind the last one's.
func (r *Reader) Offset() uint64 { return r.offset }

// Behind reports whether the spool held more output than the last batch took, as it was made.
func (r *Reader) Behind() bool { return !r.seen.IsZero() }

// wait returns when the next batch should be made.
func (r *Reader) wait(ctx context.Context, maxBytes int, flush time.Duration) error {
	var timeout <-chan time.Time
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ready, grown, err := r.ready(maxBytes)
		if ready || err != nil {
			return err
		}
		if !r.seen.IsZero() && timeout == nil {
			rest := max(flush/10-time.Since(r.seen), flush-time.Since(r.given))
			if rest <= 0 {
				return nil
			}
			if r.timer == nil {
				r.timer = time.NewTimer(rest)
			} else {
				r.timer.Reset(rest)
			}
			defer r.timer.Stop()
			timeout = r.timer.C
		}
		select {
		case <-grown:
		case <-timeout:
			return nil
		case <-ctx.Done():
		}
	}
}

// ready tells whether a batch needs no more waiting, and else gives what is
// closed when there is more to know: once for the first byte and once for a full
// batch, not for each append between.
func (r *Reader) ready(maxBytes int) (ready bool, grown <-chan struct{}, err error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	full := r.offset + uint64(maxBytes)
	if full < r.offset {
		full = ^uint64(0)
	}
	switch {
	case s.removed:
		return false, nil, ErrClosed
	case s.closed && s.end <= r.offset:
		return false, nil, io.EOF
	case s.closed || s.end >= full:
		return true, nil, nil
	}
	at := full
	if s.end <= r.offset {
		at = r.offset + 1
	} else if r.seen.IsZero() {
		r.seen = time.Now()
	}
	if s.grown.ch == nil || at < s.grownAt {
		s.grownAt = at
	}
	return false, s.grown.wait(), nil
}

// fill makes a batch of what is there without waiting; it has no records if that
// is nothing.
func (r *Reader) fill(maxBytes int) mem.BufferSlice {
	b := &r.batch
	b.Offset, b.Records, b.Encoding = r.offset, b.Records[:0], hodeipb.Encoding_IDENTITY
	if lost := r.lost(); lost > 0 {
		r.newRecord().Lost = lost
		r.offset += lost
	}
	data := r.fromTail(maxBytes)
	if data == nil {
		var err error
		if data, err = r.fromFile(maxBytes); err != nil && len(b.Records) == 0 {
			r.skip(err)
		}
		// Else it comes again at the start of the next batch.
	}
	r.seen = time.Time{}
	if _, end := r.s.Extent(); end > r.offset && len(b.Records) > 0 {
		// The time to flush what stays behind runs from here, not from the next call.
		r.seen = time.Now()
	}
	return data
}

// skip gives up what can't be read, to the end of its segment: that is lost, and
// said to be.
func (r *Reader) skip(err error) {
	r.s.mu.Lock()
	lost := r.seg.end - r.offset
	r.s.mu.Unlock()
	if r.s.damaged != nil {
		r.s.damaged(fmt.Errorf("read spool at offset %d, %d bytes are lost: %w", r.offset, lost, err))
	}
	r.newRecord().Lost = lost
	r.offset += lost
	r.seg = nil
}

// lost is how much is missing at offset.
func (r *Reader) lost() uint64 {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.offset >= s.first || s.removed {
		return 0
	}
	return s.first - r.offset
}

// fromTail adds what the tail has at offset to the batch, up to maxBytes, and
// returns its bytes where they are; nil: it has nothing there.
func (r *Reader) fromTail(maxBytes int) mem.BufferSlice {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.tail.at(r.offset)
	if i < 0 || r.offset < s.first {
		return nil
	}
	var data mem.BufferSlice
	r.size = 0
	for ; i < len(s.tail.chunks) && r.size < maxBytes; i++ {
		c := s.tail.chunks[i]
		from := int(r.offset - c.first)
		want := min(c.n-from, maxBytes-r.size)
		added := r.addRecords(c.records, want)
		if added > 0 {
			data = append(data, c.buf.Slice(from, from+added))
		}
		if added < want { // no more records fit
			break
		}
	}
	r.seg = nil // where we are in the file has to be looked for
	return data
}

// addRecords adds up to n bytes from offset on to the batch and returns how many
// there was room for.
func (r *Reader) addRecords(records []chunkRecord, n int) (added int) {
	k := sort.Search(len(records), func(k int) bool { return records[k].end > r.offset })
	for ; k < len(records) && added < n; k++ {
		c := &records[k]
		m := min(int(c.end-r.offset), n-added)
		r.record.stream, r.record.time = c.stream, c.time
		r.record.offset = c.streamOffset + uint64(c.length) - (c.end - r.offset)
		if !r.addBytes(m) {
			break
		}
		added += m
		r.offset += uint64(m)
	}
	r.size += added
	return added
}

// fromFile is fromTail for what only the file has.
func (r *Reader) fromFile(maxBytes int) (mem.BufferSlice, error) {
	handle := fileReads.Get(maxBytes + 2*recordHeader + minRead)
	r.buf, r.start, r.end = *handle, 0, 0
	defer func() { r.buf = nil }()
	for more := true; more; {
		var err error
		if more, err = r.fillMore(maxBytes); err != nil && len(r.batch.Records) == 0 {
			fileReads.Put(handle)
			return nil, err
		}
	}
	if r.start == r.end {
		fileReads.Put(handle)
		return nil, nil
	}
	whole := mem.NewBuffer(handle, fileReads)
	defer whole.Free()
	return mem.BufferSlice{whole.Slice(r.start, r.end)}, nil
}

// fillMore adds what one read of a file gives; false: no more fits or is there.
//
// It reads behind the data that the batch already has, and the records' bytes are
// moved down over their headers. So a record of a batch's size, and the rest of
// one that the last batch cut, are read to where they stay.
func (r *Reader) fillMore(maxBytes int) (more bool, err error) {
	size := r.locate()
	if size == 0 {
		return false, nil
	}
	want := max(maxBytes-(r.end-r.start)+recordHeader, minRead)
	raw := r.buf[r.end : r.end+int(min(int64(want), size-r.pos))]
	if _, err := r.seg.file.ReadAt(raw, r.pos); errors.Is(err, os.ErrClosed) {
		return false, nil // dropped since locate
	} else if err != nil {
		return false, err
	}
	return r.take(raw, maxBytes, size)
}

// take adds the records of raw, which lies in buf from end on and was read at
// pos; false: no more fits.
func (r *Reader) take(raw []byte, maxBytes int, size int64) (more bool, err error) {
	for i := 0; i < len(raw); {
		if r.left == 0 {
			if len(raw)-i < recordHeader {
				break // the next read starts with it
			}
			if err := r.parseHeader(raw[i:], size); err != nil {
				return false, err
			}
			i += recordHeader
		}
		if r.at < r.offset {
			n := int(min(uint64(r.left), r.offset-r.at))
			r.advance(n)
			i += n // perhaps beyond raw
			continue
		}
		n := min(r.left, len(raw)-i, maxBytes-(r.end-r.start))
		if n == 0 {
			break
		}
		if !r.addBytes(n) {
			return false, nil
		}
		switch {
		case r.start == r.end && i <= recordHeader:
			r.start, r.end = i, i // the first bytes stay where they are
		case &r.buf[r.end] != &raw[i]:
			copy(r.buf[r.end:], raw[i:i+n])
		}
		i += n
		r.end += n
		r.offset += uint64(n)
		r.advance(n)
	}
	return r.end-r.start < maxBytes, nil
}

// locate makes seg and pos right for offset and gives the size up to which seg
// may be read; 0: there is nothing, or it was dropped.
func (r *Reader) locate() (size int64) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.offset >= s.end || r.offset < s.first || s.removed {
		return 0
	}
	if r.seg == nil || r.offset >= r.seg.end {
		i := sort.Search(len(s.segments), func(i int) bool { return s.segments[i].end > r.offset })
		r.seg = s.segments[i]
		index := r.seg.index
		i = sort.Search(len(index), func(i int) bool { return index[i].offset > r.offset }) - 1
		r.pos, r.at, r.left = index[i].pos, index[i].offset, 0
	}
	return r.seg.size
}

// parseHeader takes in the header at pos. size is that of the whole segment.
func (r *Reader) parseHeader(header []byte, size int64) error {
	stream := hodeipb.Stream(header[0])
	length := int64(binary.LittleEndian.Uint32(header[1:]))
	if stream != hodeipb.Stream_STDOUT && stream != hodeipb.Stream_STDERR ||
		length == 0 || r.pos+recordHeader+length > size {
		return fmt.Errorf("%s: damaged record at byte %d", r.seg.file.Name(), r.pos)
	}
	r.pos += recordHeader
	r.left = int(length)
	r.record.stream = stream
	r.record.offset = binary.LittleEndian.Uint64(header[5:])
	r.record.time = int64(binary.LittleEndian.Uint64(header[13:]))
	return nil
}

// advance goes n bytes further within the record.
func (r *Reader) advance(n int) {
	r.pos += int64(n)
	r.at += uint64(n)
	r.left -= n
	r.record.offset += uint64(n)
}

// addBytes puts the next n bytes of the record into the batch; false: no more
// records fit.
func (r *Reader) addBytes(n int) bool {
	b := &r.batch
	if k := len(b.Records); k > 0 {
		last := b.Records[k-1]
		apart := time.Duration(r.record.time - last.TimeUnixNano).Abs()
		if last.Stream == r.record.stream && apart <= mergeWithin {
			last.Length += uint32(n)
			return true
		}
		if k == maxBatchRecords {
			return false
		}
	}
	record := r.newRecord()
	record.Stream = r.record.stream
	record.StreamOffset = r.record.offset
	record.Length = uint32(n)
	record.TimeUnixNano = r.record.time
	return true
}

// newRecord adds a record without content to the batch.
func (r *Reader) newRecord() *hodeipb.Record {
	k := len(r.batch.Records)
	if k == len(r.records) {
		r.records = append(r.records, new(hodeipb.Record))
	}
	record := r.records[k]
	record.Stream, record.StreamOffset, record.Length = 0, 0, 0
	record.TimeUnixNano, record.Lost = 0, 0
	r.batch.Records = append(r.batch.Records, record)
	return record
}
