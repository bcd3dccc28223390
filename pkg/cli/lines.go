package cli

import (
	"bytes"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// maxPartial is what is held of a line that has not ended; of a longer one the
	// beginning is shown. It bounds the memory for each stream of each job.
	maxPartial = 64 << 10
	// partialWait is how long the beginning of a line waits for its end: shorter breaks up
	// the lines of jobs that are shown side by side, longer hides a prompt or a progress bar.
	partialWait = 200 * time.Millisecond
)

// continued begins the rest of a line that another line has interrupted.
const continued = "… "

// lineWriter is shared by everything that writes to one stdout and stderr. It knows which line
// is still open, so that no two texts end up on one line.
type lineWriter struct {
	mu       sync.Mutex // held by those who write lines
	out, err io.Writer
	// one tells that both are the same file, as on a terminal.
	one bool
	// open is the line that the last byte on stdout, or on stderr, belongs to; nil: the
	// next byte begins one. Who says something beside the output takes it without mu,
	// which may be held for as long as a terminal is stopped.
	open [2]atomic.Pointer[heldLine]
}

// rawLine stands for a line of output that is passed on as it is.
var rawLine heldLine

func sameFile(a, b io.Writer) bool {
	first, ok := a.(*os.File)
	second, ok2 := b.(*os.File)
	if !ok || !ok2 {
		return false
	}
	x, err := first.Stat()
	y, err2 := second.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

func (w *lineWriter) writer(stream hodeipb.Stream) io.Writer {
	if stream == hodeipb.Stream_STDERR {
		return w.err
	}
	return w.out
}

// place is the open line where a stream is written.
func (w *lineWriter) place(stream hodeipb.Stream) *atomic.Pointer[heldLine] {
	if stream == hodeipb.Stream_STDERR && !w.one {
		return &w.open[1]
	}
	return &w.open[0]
}

// wrote takes that bytes of a stream were passed on as they are.
func (w *lineWriter) wrote(stream hodeipb.Stream, data []byte) {
	if len(data) == 0 {
		return
	}
	line := &rawLine
	if data[len(data)-1] == '\n' {
		line = nil
	}
	if place := w.place(stream); place.Load() != line {
		place.Store(line)
	}
}

// fresh ends the open line of output on stderr, if there is one, before hodei says something
// there.
func (w *lineWriter) fresh() {
	if w.place(hodeipb.Stream_STDERR).Swap(nil) != nil {
		_, _ = io.WriteString(w.err, "\n") // what is said next meets the error, too
	}
}

// lineSink shows the output of one job line by line, decorated. Lines are split
// for this alone; a last one without newline gets one.
type lineSink struct {
	to         *lineWriter
	timestamps bool
	// prefix of each line of a stream; nil: none.
	prefix func(stream hodeipb.Stream) string

	// All below is used with to.mu held.
	held    [2]heldLine // of stdout and stderr
	shown   []byte      // what is ready to be written, all of one stream
	partial *time.Timer // shows what is held; nil: nothing was, yet
	armed   bool
	failed  error // of a write by partial
}

// heldLine is a line that has not ended.
type heldLine struct {
	stream hodeipb.Stream
	text   []byte // of it that is not shown
	at     time.Time
	state  lineState
}

// lineState is where on its line the next byte is to be shown.
type lineState int

const (
	lineNew      lineState = iota // at the beginning: nothing is decorated yet
	lineReturned                  // at the beginning, by a carriage return, after it was decorated
	lineBegun                     // behind others
)

func (s *lineSink) record(_ string, _ uint64, r *hodeipb.Record, data []byte) error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
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
		if room := maxPartial - len(h.text); n > room {
			n, ends = room, false
		}
		h.text = append(h.text, data[:n]...)
		data = data[n:]
		if !ends && len(h.text) < maxPartial {
			break // it may go on
		}
		s.show(h)
		if len(s.shown) >= maxPartial {
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

// arm has what is held shown in partialWait, unless it was to be before.
func (s *lineSink) arm() {
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
func (s *lineSink) showPartial() {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
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

// show makes ready what is held of a line.
func (s *lineSink) show(h *heldLine) {
	text := h.text
	h.text = h.text[:0]
	if len(text) == 0 {
		return
	}
	ends := text[len(text)-1] == '\n'
	place := s.to.place(h.stream)
	if open := place.Load(); open != h {
		if h.state != lineNew && len(text) == 1 && ends {
			h.state = lineNew // who broke it off has ended it
			return
		}
		s.resume(h, open)
	}
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\r')
		if n == 0 {
			s.shown = append(s.shown, '\r')
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
		s.shown = append(s.shown, text[:n]...)
		text = text[n:]
	}
	if ends {
		h.state = lineNew
		h = nil
	}
	place.Store(h)
}

// resume begins a line, or the rest of one that was broken off, where open is the line
// that was written to last; nil: it has ended.
func (s *lineSink) resume(h, open *heldLine) {
	if open != nil {
		s.shown = append(s.shown, '\n')
	}
	switch h.state {
	case lineReturned:
		h.state = lineNew
	case lineBegun:
		s.decorate(h)
		s.shown = append(s.shown, continued...)
	}
}

// decorate puts in front of a line what belongs there.
func (s *lineSink) decorate(h *heldLine) {
	if s.timestamps {
		s.shown = append(h.at.UTC().AppendFormat(s.shown, time.RFC3339Nano), ' ')
	}
	if s.prefix != nil {
		s.shown = append(append(s.shown, s.prefix(h.stream)...), ' ')
	}
}

// write writes what is ready, all of one stream.
func (s *lineSink) write(stream hodeipb.Stream) error {
	if len(s.shown) == 0 {
		return nil
	}
	_, err := s.to.writer(stream).Write(s.shown)
	s.shown = s.shown[:0]
	return err
}

// gap ends the lines: what comes behind it belongs to others.
func (s *lineSink) gap(gap) error { return s.flush() }

func (s *lineSink) flush() error {
	s.to.mu.Lock()
	defer s.to.mu.Unlock()
	if s.armed {
		s.armed = false
		s.partial.Stop()
	}
	for i := range s.held {
		h := &s.held[i]
		s.show(h)
		if place := s.to.place(h.stream); place.Load() == h {
			s.shown = append(s.shown, '\n')
			place.Store(nil)
		}
		h.state = lineNew
		if err := s.write(h.stream); err != nil {
			return err
		}
	}
	return s.failed
}
