package logstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// OffsetAtTime gives the offset of the first record that was read at t or later,
// by the agent's clock; the end of the log where there is none.
func (l *Log) OffsetAtTime(t time.Time) (uint64, error) {
	offset, err := l.offsetAtTime(t)
	if err != nil {
		return 0, fmt.Errorf("look for the output since %s: %w", t.Format(time.RFC3339Nano), err)
	}
	return offset, nil
}

func (l *Log) offsetAtTime(t time.Time) (uint64, error) {
	at, end, err := l.latest()
	if err != nil {
		return 0, err
	}
	r := l.Reader(at)
	// What is damaged may be as young as what follows: it counts as that, to be missed.
	hole := end
	for at < end {
		p, index, err := l.indexAt(at)
		if err != nil {
			return 0, err
		}
		if p.lost > 0 {
			if p.damage != nil {
				hole = min(hole, at)
			}
			at += p.lost
			continue
		}
		if e, ok := byTime(index, t); ok && e.offset > at {
			at = e.offset
		}
		found := false
		err = r.walk(at, min(p.end, end), func(offset uint64, rec *hodeipb.Record, _ []byte) bool {
			at = offset
			switch {
			case r.Damage() != nil:
				hole = min(hole, offset)
			case rec.Lost > 0 && rec.TimeUnixNano == 0: // dropped
			case time.Unix(0, rec.TimeUnixNano).Before(t):
				hole = end
			default:
				found = true
			}
			return !found
		})
		if err != nil || found {
			return min(at, hole), err
		}
		at = p.end
	}
	return hole, nil
}

// OffsetOfLastLines gives where the last n lines of a stream before end begin;
// of both streams together, in the order in which they were read, when stream is
// STREAM_UNSPECIFIED. A line ends with a newline; what follows the last one is a
// line too. It is the first offset of the log where there are fewer, and end
// where n is not above zero. It reads backwards, no more than the lines need.
func (l *Log) OffsetOfLastLines(n int, stream hodeipb.Stream, end uint64) (uint64, error) {
	offset, err := l.offsetOfLastLines(n, stream, end)
	if err != nil {
		return 0, fmt.Errorf("look for the last lines before offset %d: %w", end, err)
	}
	return offset, nil
}

func (l *Log) offsetOfLastLines(n int, stream hodeipb.Stream, end uint64) (uint64, error) {
	first, last, err := l.latest()
	if err != nil {
		return 0, err
	}
	end = max(min(end, last), first)
	if n <= 0 {
		return end, nil
	}
	lines := lineReader{r: l.Reader(first), stream: stream, end: end}
	for at := end; at > first; {
		p, index, err := l.indexAt(at - 1)
		if err != nil {
			return 0, err
		}
		if p.damage != nil { // its lines are not counted
			at = max(p.seg.first, first)
			continue
		}
		if p.lost > 0 {
			return at - 1 + p.lost, nil // dropped meanwhile
		}
		e, _ := byOffset(index, at-1)
		from := max(e.offset, p.seg.first)
		newlines, err := lines.count(from, at)
		if err != nil {
			return 0, err
		}
		if newlines >= n {
			return lines.after(from, newlines-n+1)
		}
		n -= newlines
		at = from
	}
	return first, nil
}

// lineReader looks for newlines of a stream before end.
type lineReader struct {
	r      *Reader
	stream hodeipb.Stream
	end    uint64
	seen   bool // the stream's last byte before end: it ends no line but its own
}

// count gives the newlines in a piece of the log, but for the stream's last
// byte. Pieces come from the last one backwards.
func (c *lineReader) count(from, to uint64) (newlines int, err error) {
	last := byte(0)
	seen := false
	err = c.each(from, to, func(_ uint64, data []byte) bool {
		newlines += bytes.Count(data, []byte{'\n'})
		last, seen = data[len(data)-1], true
		return true
	})
	if seen && !c.seen {
		c.seen = true
		if last == '\n' {
			newlines--
		}
	}
	return newlines, err
}

// after gives the offset of the stream's next byte behind the nth newline from
// an offset on, which is not the last byte of all.
func (c *lineReader) after(from uint64, n int) (uint64, error) {
	found := c.end
	err := c.each(from, c.end, func(at uint64, data []byte) bool {
		for n > 0 {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				return true
			}
			n--
			at += uint64(i) + 1
			data = data[i+1:]
		}
		found = at
		return len(data) == 0
	})
	return found, err
}

// each calls f with the stream's bytes until it returns false.
func (c *lineReader) each(from, to uint64, f func(at uint64, data []byte) bool) error {
	return c.r.walk(from, to, func(at uint64, rec *hodeipb.Record, data []byte) bool {
		if rec.Lost > 0 || c.stream != hodeipb.Stream_STREAM_UNSPECIFIED && rec.Stream != c.stream {
			return true
		}
		return f(at, data[:min(uint64(len(data)), to-at)])
	})
}

// walk calls f with each record that begins in a range of offsets which the log
// has, until it returns false.
func (r *Reader) walk(from, to uint64, f func(at uint64, rec *hodeipb.Record, data []byte) bool) error {
	r.offset, r.seg = from, nil
	for r.offset < to {
		b, err := r.Next(context.Background()) // never waits: the range is there
		if err != nil {
			return err
		}
		at, data := b.Offset, b.Data
		for _, rec := range b.Records {
			if at >= to {
				return nil
			}
			if !f(at, rec, data[:rec.Length]) {
				return nil
			}
			at += uint64(rec.Length) + rec.Lost
			data = data[rec.Length:]
		}
	}
	return nil
}

// latest gives the extent of the log as it is now.
func (l *Log) latest() (first, end uint64, err error) {
	if l.readOnly {
		if _, err := l.refresh(); err != nil {
			return 0, 0, err
		}
	}
	first, end = l.Extent()
	return first, end, nil
}

// indexAt gives the segment of an offset, and its index, unless it was dropped.
func (l *Log) indexAt(offset uint64) (place, []indexEntry, error) {
	for {
		p, err := l.locate(offset, nil)
		if err != nil || p.lost > 0 {
			return p, nil, err
		}
		index, err := l.indexOf(p)
		if !errors.Is(err, os.ErrClosed) { // else dropped, or all is closed
			return p, index, err
		}
	}
}
