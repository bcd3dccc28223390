package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sort"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Reader reads a log from one offset on. Each has its own pace; it is used by
// one goroutine, needs no closing and holds nothing back from being dropped. Its
// memory is 256 KiB, or 1.1 MiB when a batch is larger than that.
type Reader struct {
	log    *Log
	offset uint64 // of the next byte to give

	seg     *segment // nil: not known yet where offset is
	scan    scanner
	at      uint64 // offset of the frame that scan comes to
	batch   hodeipb.Batch
	records []*hodeipb.Record // as many as were ever needed
	damage  *DamageError      // why the batch that was given last is a gap; nil: it was dropped, or is none
}

// Reader gives a reader that starts at offset, which may lie in the middle of a
// record, below what is stored (it gets a gap record) or beyond the end (it
// waits).
func (l *Log) Reader(offset uint64) *Reader { return &Reader{log: l, offset: offset} }

// Next gives the next batch as it was stored, with its data in it; of the first
// one, what is before the reader's offset is cut off. What was dropped from the
// log, or is damaged in front of what can be read, is a batch of one gap record.
// Batch and data are the reader's and valid until the following call.
//
// In a log that is being written in this process Next waits for more; the error
// is io.EOF behind the exit record. In one opened with Read it is io.EOF at the
// last whole batch there is; a later call looks again. It is a *DamageError where
// all that follows is damaged, the cause of ctx when it ends, and ErrClosed.
func (r *Reader) Next(ctx context.Context) (*hodeipb.Batch, error) {
	b, err := r.next(ctx)
	if err == nil || errors.Is(err, io.EOF) {
		return b, err
	}
	return nil, fmt.Errorf("read log at offset %d: %w", r.offset, err)
}

// Damage returns what is damaged if the last batch of Next is a gap; nil: it is no gap, or its
// output was dropped.
func (r *Reader) Damage() *DamageError { return r.damage }

func (r *Reader) next(ctx context.Context) (*hodeipb.Batch, error) {
	r.damage = nil
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		p, err := r.log.locate(r.offset, r.seg)
		switch {
		case err != nil:
			return nil, err
		case p.lost > 0:
			r.damage = p.damage
			return r.gap(p.lost), nil
		case p.grown != nil:
			select {
			case <-p.grown:
			case <-ctx.Done():
			}
			continue
		}
		b, err := r.read(p)
		if errors.Is(err, os.ErrClosed) {
			r.seg = nil // dropped, or all is closed
			continue
		}
		return b, err
	}
}

// place is where a reader finds its offset.
type place struct {
	lost   uint64          // above zero: so much was dropped,
	damage *DamageError    // or, with this, can't be read
	grown  <-chan struct{} // not nil: nothing is there before it is closed
	seg    *segment
	file   *os.File
	size   int64
	end    uint64
}

// locate looks for offset; hint is where the one before was found. In a log
// that somebody else may be writing it looks what is new before it gives up.
func (l *Log) locate(offset uint64, hint *segment) (place, error) {
	for {
		p, err := l.lookUp(offset, hint)
		if !errors.Is(err, errStale) {
			return p, err
		}
		more, err := l.refresh()
		if err != nil {
			return place{}, err
		}
		if _, end := l.Extent(); offset >= end && !more {
			return place{}, io.EOF
		}
	}
}

// errStale is that a log opened with Read may have changed.
var errStale = errors.New("what is known of the log is not enough")

func (l *Log) lookUp(offset uint64, hint *segment) (place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return place{}, ErrClosed
	case offset < l.first:
		return place{lost: l.first - offset}, nil
	case offset >= l.end && l.exit != nil:
		return place{}, io.EOF
	case offset >= l.end && l.damage != nil && !l.damage.torn:
		return place{}, l.damage
	case offset >= l.end && l.readOnly:
		return place{}, errStale
	case offset >= l.end:
		return place{grown: l.grown.wait()}, nil
	}
	seg := hint
	if seg == nil || seg.file == nil || offset >= seg.end {
		seg = l.segments[sort.Search(len(l.segments), func(i int) bool { return l.segments[i].end > offset })]
	}
	file, err := seg.open()
	if errors.Is(err, fs.ErrNotExist) && l.readOnly {
		return place{}, errStale // its writer has dropped it
	}
	if err != nil {
		return place{lost: seg.end - offset, damage: asDamage(seg.name+segmentSuffix, err), seg: seg}, nil
	}
	return place{seg: seg, file: file, size: seg.size, end: seg.end}, nil
}

// read gives the batch at r.offset, which lies in p, or the gap that is there.
func (r *Reader) read(p place) (*hodeipb.Batch, error) {
	err := r.enter(p)
	for err == nil {
		var f *frame
		var hole *DamageError
		if f, hole, err = r.scan.follow(r.at); err != nil {
			break
		}
		r.at = f.end
		switch {
		case hole != nil && f.offset > r.offset:
			r.scan.pos, r.at = f.pos, f.offset
			return r.hole(f.offset, hole), nil
		case f.kind != kindBatch:
			err = &DamageError{File: r.scan.name, Pos: f.pos,
				Reason: fmt.Sprintf("the exit record of a log that goes on to offset %d", p.end)}
		case f.end > r.offset:
			return r.fill(f), nil
		}
	}
	if errors.Is(err, os.ErrClosed) {
		return nil, err
	}
	if errors.Is(err, io.EOF) {
		err = &DamageError{File: r.scan.name, Pos: r.scan.pos, Reason: fmt.Sprintf("it ends at offset %d, expected %d", r.at, p.end)}
	}
	r.seg = nil // the rest of it is left out
	return r.hole(p.end, asDamage(p.file.Name(), err)), nil
}

// hole returns the gap that damage has left, up to an offset.
func (r *Reader) hole(to uint64, damage *DamageError) *hodeipb.Batch {
	r.damage = damage
	return r.gap(to - r.offset)
}

// enter puts the scanner at or before r.offset.
func (r *Reader) enter(p place) error {
	if r.seg == p.seg && r.at <= r.offset {
		r.scan.limit = p.size
		return nil
	}
	index, err := r.log.indexOf(p)
	if err != nil {
		return err
	}
	r.seg, r.at = p.seg, p.seg.first
	r.scan = scanner{file: p.file, name: p.file.Name(), limit: p.size, buf: r.scan.buf[:0]}
	if e, ok := byOffset(index, r.offset); ok {
		r.at, r.scan.pos = e.offset, e.pos
	}
	return nil
}

// fill makes the batch of a frame, from r.offset on.
func (r *Reader) fill(f *frame) *hodeipb.Batch {
	r.batch.Offset, r.batch.Records = r.offset, r.batch.Records[:0]
	at, data := f.offset, f.data
	for i := range f.records {
		row := f.record(i)
		end := at + row.advance()
		cut := uint64(0)
		if at < r.offset {
			cut = min(r.offset, end) - at
		}
		data = data[min(cut, uint64(row.length)):]
		if at = end; cut == row.advance() {
			continue
		}
		record := r.newRecord()
		record.TimeUnixNano = row.time
		if row.stream == hodeipb.Stream_STREAM_UNSPECIFIED {
			record.Lost = row.at - cut
			continue
		}
		record.Stream = row.stream
		record.StreamOffset = row.at + cut
		record.Length = row.length - uint32(cut)
	}
	r.batch.Data = data
	r.offset = f.end
	return &r.batch
}

// gap makes a batch of what is missing.
func (r *Reader) gap(lost uint64) *hodeipb.Batch {
	r.batch.Offset, r.batch.Records, r.batch.Data = r.offset, r.batch.Records[:0], nil
	r.newRecord().Lost = lost
	r.offset += lost
	return &r.batch
}

func (r *Reader) newRecord() *hodeipb.Record {
	n := len(r.batch.Records)
	if n == len(r.records) {
		r.records = append(r.records, new(hodeipb.Record))
	}
	record := r.records[n]
	record.Stream, record.StreamOffset, record.Length = 0, 0, 0
	record.TimeUnixNano, record.Lost = 0, 0
	r.batch.Records = append(r.batch.Records, record)
	return record
}

// indexOf gives the index of the segment at p, whole unless the segment is
// damaged: then up to there, as far as the index file does not know more.
func (l *Log) indexOf(p place) ([]indexEntry, error) {
	l.mu.Lock()
	index, indexed := p.seg.index, p.seg.indexed
	l.mu.Unlock()
	if indexed {
		return index, nil
	}
	index, err := readIndex(p.seg.name+indexSuffix, p.file, p.seg.first, p.size)
	if err != nil {
		return nil, err
	}
	v, err := surveySegment(p.file, p.seg.first, p.size, index)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.seg.index, p.seg.indexed = v.index, true
	return v.index, nil
}

// refresh looks what another process has written to a log that was opened with
// Read, or dropped from it, and tells whether there is more to read than before.
func (l *Log) refresh() (more bool, err error) {
	l.writer <- struct{}{}
	defer l.unlockWriter()
	segments, err := listSegments(l.dir)
	if err != nil || len(segments) == 0 {
		return false, err
	}
	known := map[string]*segment{}
	for _, seg := range l.segments {
		known[seg.name] = seg
	}
	last := segments[len(segments)-1]
	v, err := l.survey(last, known[last.name])
	if errors.Is(err, fs.ErrNotExist) { // dropped meanwhile
		return false, err
	}
	if err != nil {
		v, err = survey{end: last.first, damage: asDamage(last.name+segmentSuffix, err)}, nil
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	for i, seg := range segments {
		old := known[seg.name]
		delete(known, seg.name)
		if old == nil {
			continue
		}
		if old.size != seg.size && seg != last {
			old.index, old.indexed = nil, false
		}
		old.end, old.size = seg.end, seg.size
		segments[i] = old
	}
	last = segments[len(segments)-1]
	last.end, last.size = v.end, v.size
	last.index, last.indexed = v.index, true
	for _, seg := range known { // dropped
		err = errors.Join(err, seg.close())
	}
	more = v.end > l.end || v.exit != nil && l.exit == nil || v.damage != nil && l.damage == nil
	l.segments = segments
	l.first, l.end = segments[0].first, v.end
	l.exit, l.damage = v.exit, v.damage
	return more, err
}

// survey verifies what is new in the last segment; old is what was known of it.
func (l *Log) survey(last, old *segment) (survey, error) {
	file, err := os.Open(last.name + segmentSuffix)
	if err != nil {
		return survey{}, err
	}
	defer file.Close()
	if old != nil && old.indexed && len(old.index) > 0 {
		return surveySegment(file, last.first, last.size, old.index)
	}
	index, err := readIndex(last.name+indexSuffix, file, last.first, last.size)
	if err != nil {
		return survey{}, err
	}
	return surveySegment(file, last.first, last.size, index)
}
