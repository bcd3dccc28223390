package cli

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// maxPartial is what is held of a line that has not ended; a longer one is shown
// in pieces. It bounds the memory for each stream of each job.
const maxPartial = 64 << 10

// continued stands in front of a piece of a line of which the beginning has been
// shown.
const continued = "… "

// lineWriter is shared by all who write lines to one stdout and stderr, so that no
// two of them end up on one line.
type lineWriter struct {
	mu       sync.Mutex
	out, err io.Writer
}

// lineSink shows the output of one job line by line, decorated. Lines are split
// for this alone; a last one without newline gets one.
type lineSink struct {
	to         *lineWriter
	timestamps bool
	// prefix of each line of a stream; nil: none.
	prefix func(stream hodeipb.Stream) string

	held  [2]heldLine // of stdout and stderr
	shown []byte      // lines that are ready to be written
}

// heldLine is a line that has not ended.
type heldLine struct {
	stream    hodeipb.Stream
	text      []byte
	at        time.Time // of its first byte
	continued bool
}

func (s *lineSink) record(_ string, _ uint64, r *hodeipb.Record, data []byte) error {
	h := &s.held[0]
	if r.Stream == hodeipb.Stream_STDERR {
		h = &s.held[1]
	}
	for len(data) > 0 {
		if len(h.text) == 0 {
			h.stream, h.at = r.Stream, time.Unix(0, r.TimeUnixNano)
		}
		n, ends := bytes.IndexByte(data, '\n')+1, true
		if n == 0 {
			n, ends = len(data), false
		}
		if room := maxPartial - len(h.text); n > room && !(ends && n == room+1) {
			n, ends = room, false
		}
		h.text = append(h.text, data[:n]...)
		data = data[n:]
		if !ends && len(data) == 0 {
			break // it may go on
		}
		s.decorate(r.Stream, h, ends)
		if len(s.shown) >= maxPartial {
			if err := s.write(r.Stream); err != nil {
				return err
			}
		}
	}
	return s.write(r.Stream)
}

// decorate turns what is held of a line into a line of its own.
func (s *lineSink) decorate(stream hodeipb.Stream, h *heldLine, ends bool) {
	if s.timestamps {
		s.shown = append(h.at.UTC().AppendFormat(s.shown, time.RFC3339Nano), ' ')
	}
	if s.prefix != nil {
		s.shown = append(append(s.shown, s.prefix(stream)...), ' ')
	}
	if h.continued {
		s.shown = append(s.shown, continued...)
	}
	s.shown = append(s.shown, h.text...)
	if !ends {
		s.shown = append(s.shown, '\n')
	}
	h.text, h.continued = h.text[:0], !ends
}

// write writes the lines that are ready, all of one stream.
func (s *lineSink) write(stream hodeipb.Stream) error {
	if len(s.shown) == 0 {
		return nil
	}
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	w := s.to.out
	if stream == hodeipb.Stream_STDERR {
		w = s.to.err
	}
	_, err := w.Write(s.shown)
	s.shown = s.shown[:0]
	return err
}

// gap ends the lines: what comes behind it belongs to others.
func (s *lineSink) gap(string, uint64, uint64) error { return s.flush() }

func (s *lineSink) flush() error {
	for i := range s.held {
		h := &s.held[i]
		if len(h.text) > 0 {
			s.decorate(h.stream, h, false)
		}
		h.continued = false
		if err := s.write(h.stream); err != nil {
			return err
		}
	}
	return nil
}
