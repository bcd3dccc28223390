package output

import (
	"bytes"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// MaxLine is how many bytes are held of a line that has not ended; the beginning of a
	// longer one is shown. It bounds the memory for each stream of each job.
	MaxLine = 64 << 10
	// partialWait is how long the beginning of a line waits for its end: shorter breaks up
	// the lines of jobs that are shown side by side, longer hides a prompt or a progress bar.
	partialWait = 200 * time.Millisecond
)

// continued begins the rest of a line that another line has interrupted.
const continued = "… "

// Lines shows the output of one job line by line, decorated. A line that does not end for 200 ms is
// shown as far as it has come. A last line without newline gets one. Several Lines may write to the
// same [Streams] at once. After the last record, call Flush: it stops the timer.
type Lines struct {
	To *Streams
	// Timestamps begins each line with the time at which its first byte was read (RFC 3339, UTC).
	Timestamps bool
	// Prefix returns what begins each line of a stream; nil: nothing.
	Prefix func(stream hodeipb.Stream) string

	// All below is used with To.mu held.
	held    [2]openLine // of stdout and stderr
	ready   []byte      // to be written, all of one stream
	partial *time.Timer // shows what is held; nil: nothing was held yet
	armed   bool
	failed  error // of a write by partial
}

// openLine is a line that has not ended.
type openLine struct {
	stream hodeipb.Stream
	text   []byte // what is not shown of it
	at     time.Time
	state  lineState
}

// lineState says where on its line the next byte will stand.
type lineState int

const (
	lineNew      lineState = iota // at the beginning: nothing is decorated yet
	lineReturned                  // at the beginning again, by a carriage return: it is decorated
	lineBegun                     // after other bytes
)

// Record implements [Sink].
func (s *Lines) Record(_ string, _ uint64, r *hodeipb.Record, data []byte) error {
	s.To.mu.Lock()
	defer s.To.mu.Unlock()
	if s.failed != nil {
		return s.failed
	}
	h := &s.held[0]
	if r.Stream == hodeipb.Stream_STDERR {
		h = &s.held[1]
	}
	at := time.Unix(0, r.TimeUnixNano)
	for len(data) > 0 {
		if len(h.text) == 0 && h.state != lineBegun {
			h.stream, h.at = r.Stream, at
		}
		n, ends := bytes.IndexByte(data, '\n')+1, true
		if n == 0 {
			n, ends = len(data), false
		}
		if room := MaxLine - len(h.text); n > room {
			n, ends = room, false
		}
		h.text = append(h.text, data[:n]...)
		data = data[n:]
		if !ends && len(h.text) < MaxLine {
			break // it may go on
		}
		s.show(h)
		if len(s.ready) >= MaxLine {
			if err := s.write(r.Stream); err != nil {
				return err
			}
		}
	}
	if len(h.text) > 0 {
		s.arm()
	}
	return s.write(r.Stream)
}

// arm starts the timer that shows what is held, unless it runs already.
func (s *Lines) arm() {
	switch {
	case s.armed:
		return
	case s.partial == nil:
		s.partial = time.AfterFunc(partialWait, s.showPartial)
	default:
		s.partial.Reset(partialWait)
	}
	s.armed = true
}

// showPartial shows the beginnings of lines whose end has not come.
func (s *Lines) showPartial() {
	s.To.mu.Lock()
	defer s.To.mu.Unlock()
	if !s.armed { // too late: the lines have ended
		return
	}
	s.armed = false
	for i := range s.held {
		h := &s.held[i]
		s.show(h)
		if err := s.write(h.stream); err != nil {
			s.failed = err
			return
		}
	}
}

// show makes ready to be written what is held of a line.
func (s *Lines) show(h *openLine) {
	text := h.text
	h.text = h.text[:0]
	if len(text) == 0 {
		return
	}
	ends := text[len(text)-1] == '\n'
	place := s.To.place(h.stream)
	if open := place.Load(); open != h {
		if h.state != lineNew && len(text) == 1 && ends {
			h.state = lineNew // whoever broke it off has ended it
			return
		}
		s.resume(h, open)
	}
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\r')
		if n == 0 {
			s.ready = append(s.ready, '\r')
			text = text[1:]
			if h.state == lineBegun {
				h.state = lineReturned
			}
			continue
		}
		if n < 0 {
			n = len(text)
		}
		if h.state == lineNew || h.state == lineReturned && text[0] != '\n' {
			s.decorate(h)
			h.state = lineBegun
		}
		s.ready = append(s.ready, text[:n]...)
		text = text[n:]
	}
	if ends {
		h.state = lineNew
		h = nil
	}
	place.Store(h)
}

// resume begins a line, or the rest of one that was broken off. open is the line that was
// written to last; nil: it has ended.
func (s *Lines) resume(h, open *openLine) {
	if open != nil {
		s.ready = append(s.ready, '\n')
	}
	switch h.state {
	case lineReturned:
		h.state = lineNew
	case lineBegun:
		s.decorate(h)
		s.ready = append(s.ready, continued...)
	}
}

// decorate writes the time and the prefix that a line begins with.
func (s *Lines) decorate(h *openLine) {
	if s.Timestamps {
		s.ready = append(h.at.UTC().AppendFormat(s.ready, time.RFC3339Nano), ' ')
	}
	if s.Prefix != nil {
		s.ready = append(append(s.ready, s.Prefix(h.stream)...), ' ')
	}
}

// write writes what is ready.
func (s *Lines) write(stream hodeipb.Stream) error {
	if len(s.ready) == 0 {
		return nil
	}
	_, err := s.To.writer(stream).Write(s.ready)
	s.ready = s.ready[:0]
	return err
}

// Gap ends the lines: what comes after it belongs to others.
func (s *Lines) Gap(Gap) error { return s.Flush() }

// Flush shows what is held, and ends the open lines.
func (s *Lines) Flush() error {
	s.To.mu.Lock()
	defer s.To.mu.Unlock()
	if s.armed {
		s.armed = false
		s.partial.Stop()
	}
	for i := range s.held {
		h := &s.held[i]
		s.show(h)
		if place := s.To.place(h.stream); place.Load() == h {
			s.ready = append(s.ready, '\n')
			place.Store(nil)
		}
		h.state = lineNew
		if err := s.write(h.stream); err != nil {
			return err
		}
	}
	return s.failed
}
