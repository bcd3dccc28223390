package logstore

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// recover finds the end of the log and makes it ready to be appended to. A new
// log begins at offset first. A loss of power may have taken any page that was not
// synced: the last segment is verified whole, and those before for their ends.
// What lies behind a hole goes: the agent that is attached still has it.
func (l *Log) recover(first uint64) error {
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		l.first, l.end = first, first
		// Of others, as this log has nothing to give yet.
		if _, err := l.sweep(); err != nil {
			return err
		}
		_, err := l.addSegment()
		return err
	}
	n, err := continuous(segments)
	if err != nil {
		return err
	}
	segments, behind := segments[:n], segments[n:]
	l.segments = segments
	seg := segments[n-1]
	if seg.file, err = os.OpenFile(seg.name+segmentSuffix, os.O_RDWR, 0); err != nil {
		return err
	}
	v, err := surveySegment(seg.file, seg.first, seg.size, nil)
	if err != nil {
		return err
	}
	if err := v.refusal(); err != nil {
		return err
	}
	if err := l.forget(behind); err != nil {
		return err
	}
	l.first, l.end = segments[0].first, v.end
	l.exit, l.maxTime = v.exit, v.maxTime
	seg.end, seg.size = v.end, v.size
	seg.index, seg.indexed = v.index, true
	if err := l.cut(seg); err != nil {
		return err
	}
	l.indexFile, err = writeIndex(seg.name+indexSuffix, seg.index)
	return err
}

// continuous tells how many segments there are up to the first that does not end
// where the next one begins.
func continuous(segments []*segment) (int, error) {
	for i, seg := range segments[:len(segments)-1] {
		end, err := seg.reach()
		if err != nil {
			return 0, err
		}
		if end != segments[i+1].first {
			return i + 1, nil
		}
	}
	return len(segments), nil
}

// forget removes segments behind a hole, the last one first: as long as one is
// left, the hole is found again.
func (l *Log) forget(behind []*segment) error {
	if len(behind) == 0 {
		return nil
	}
	for _, seg := range slices.Backward(behind) {
		if err := seg.remove(); err != nil {
			return err
		}
	}
	return syncFile(l.dir) // one that came back would overlap what is stored from now on
}

// makeRoom gives the segment that has room for a frame, a new one if need be.
// It drops what the limits ask for, and waits while that is held.
func (l *Log) makeRoom(ctx context.Context, size int64) (*segment, error) {
	last := l.segments[len(l.segments)-1]
	if last.size == 0 || last.size+size <= l.store.segmentBytes {
		return last, nil
	}
	if err := l.flush(last); err != nil {
		return nil, err
	}
	for {
		over, err := l.sweep()
		if err != nil {
			return nil, err
		}
		n, held := l.droppable(over)
		if held == nil {
			seg, err := l.addSegment()
			if err != nil {
				return nil, err
			}
			return seg, l.drop(n)
		}
		select {
		case <-held:
		case <-l.closing:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// sweep makes room for a segment among the logs that stay, where this one does,
// and gives by how many bytes there is too little. A temporary log has its room
// for itself.
func (l *Log) sweep() (over int64, err error) {
	need := l.store.segmentBytes
	if !l.temp {
		return l.store.sweep(need)
	}
	bytes, _, err := usage(l.dir)
	return bytes + need - l.store.limits.MaxBytes, err
}

// droppable gives how many of the oldest segments have to go to free so many
// bytes. The channel is not nil when one of them is held, and closed when that
// may have changed.
func (l *Log) droppable(over int64) (n int, held <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; over > 0 && n < len(l.segments); n++ {
		seg := l.segments[n]
		if seg.end > l.hold {
			return 0, l.held.wait()
		}
		over -= seg.size
	}
	return n, nil
}

// drop removes the n oldest segments.
func (l *Log) drop(n int) error {
	if n == 0 {
		return nil
	}
	l.mu.Lock()
	dropped := slices.Clone(l.segments[:n])
	l.segments = slices.Delete(l.segments, 0, n)
	l.first = l.segments[0].first
	var errs []error
	var bytes int64
	for _, seg := range dropped {
		bytes += seg.size
		errs = append(errs, seg.close())
	}
	l.mu.Unlock()
	if !l.temp {
		l.store.countDropped(0, bytes)
	}
	for _, seg := range dropped {
		errs = append(errs, seg.remove())
	}
	return errors.Join(errs...)
}

// addSegment begins a segment at the end of the log.
func (l *Log) addSegment() (*segment, error) {
	seg := &segment{name: segmentName(l.dir, l.end), first: l.end, end: l.end, indexed: true}
	// Not exclusive: an addSegment that failed half-way may have left the file.
	file, err := os.OpenFile(seg.name+segmentSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	index, err := writeIndex(seg.name+indexSuffix, nil)
	if err != nil {
		return nil, errors.Join(err, file.Close(), seg.remove())
	}
	if l.indexFile != nil {
		err = l.indexFile.Close()
	}
	l.indexFile, l.maxTime, l.torn = index, math.MinInt64, false
	l.mu.Lock()
	defer l.mu.Unlock()
	seg.file = file
	l.segments = append(l.segments, seg)
	return seg, err
}

// flush begins to bring a full segment to the disk, so that less is left to do
// when the exit record comes. While the one before is under way the disk is
// busy, and Append does not wait for it: the segment is then left to sync.
func (l *Log) flush(seg *segment) error {
	if l.temp || seg == l.flushed || l.flushing != nil && len(l.flushing) == 0 {
		return nil
	}
	if err := l.awaitFlush(); err != nil {
		return err
	}
	done := make(chan error, 1)
	l.flushing, l.flushed = done, seg
	file := seg.file
	go func() { done <- file.Sync() }()
	return nil
}

// awaitFlush waits for the flush under way, if any.
func (l *Log) awaitFlush() error {
	if l.flushing == nil {
		return nil
	}
	err := <-l.flushing
	l.flushing = nil
	if errors.Is(err, os.ErrClosed) { // it was dropped before
		return nil
	}
	l.broken = err
	l.flushed.synced = err == nil
	return err
}

// sync makes the whole log survive a loss of power.
func (l *Log) sync() error {
	if l.temp {
		return nil
	}
	if err := l.awaitFlush(); err != nil {
		return err
	}
	last := len(l.segments) - 1
	for i, seg := range l.segments {
		if seg.synced {
			continue
		}
		l.mu.Lock()
		file, err := seg.open()
		l.mu.Unlock()
		if err != nil {
			return err
		}
		if err := file.Sync(); err != nil {
			return err
		}
		seg.synced = i < last // the last one may grow
	}
	job := filepath.Dir(l.dir)
	for _, name := range []string{filepath.Join(l.dir, metaName), l.dir, job, filepath.Dir(job), l.store.dir} {
		if err := syncFile(name); err != nil {
			return err
		}
	}
	return nil
}
