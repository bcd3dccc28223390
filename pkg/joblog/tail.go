package joblog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// The waits before a container's log that broke off is opened again: the first
	// is what a restarted API server takes at least, the last what a person would
	// wait before looking for themselves.
	reopenFirst, reopenLast = 500 * time.Millisecond, 8 * time.Second
	// restWait is how long a log whose container has ended may say nothing before it is
	// given up.
	restWait = 10 * time.Second
	// restTries is how often the end of such a log is asked for: the kubelet or the
	// API server may have been away, and answer within three waits of being back.
	restTries = 4
)

// UnreadError is a container's log that can't be read.
type UnreadError struct {
	pod string
	err error
}

func (e *UnreadError) Error() string {
	return fmt.Sprintf("the log of container job in %s can't be read: %v", e.pod, e.err)
}
func (e *UnreadError) Unwrap() error { return e.err }

// Tail shows the log of a container, and remembers where it stands, so that one that broke off can be taken up
// again. [NewTail] makes one. It is shown by one goroutine; End may be called by others.
type Tail struct {
	open    func(context.Context, kubernetes.ContainerLogOptions) (io.ReadCloser, error)
	pod     string
	options kubernetes.ContainerLogOptions
	stream  hodeipb.Stream // STREAM_UNSPECIFIED: both, nobody knows which
	// growing ends, by end, when the container has.
	growing context.Context
	end     context.CancelFunc

	position
	offset uint64 // of what is shown, or held
	lines  int    // that have ended
	held   []byte // lines that are to be written at once, and were in the log at begun
}

// position is how far a log was shown, by the times of its lines.
type position struct {
	last  time.Time // of the last whole line
	equal int       // lines of that very time
	begun time.Time // of a line of which a part is shown,
	part  int       // so many bytes of it
}

// NewTail returns a Tail of the container job of a Pod. Where o follows the log, Show goes on until End is called.
func NewTail(c place.Cluster, pod string, o kubernetes.ContainerLogOptions) *Tail {
	t := &Tail{pod: pod, options: o, open: func(ctx context.Context, o kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
		return c.ContainerLog(ctx, pod, o)
	}}
	switch o.Stream {
	case "stdout":
		t.stream = hodeipb.Stream_STDOUT
	case "stderr":
		t.stream = hodeipb.Stream_STDERR
	}
	t.options.Timestamps = true
	t.growing, t.end = context.WithCancel(context.Background())
	return t
}

// End lets Show return when it has read what is left of the log: the container has ended. It may be called more than
// once.
func (t *Tail) End() { t.end() }

// Missing returns what the log lacks of the output of the attempt that ended with o; false: nothing, as far as is
// known. Nothing was shown of another attempt than the Tail's, and none at all by a nil Tail; the Gap names no
// attempt then if o names none. Otherwise the log was read from its beginning to its end.
func (t *Tail) Missing(o *job.Outcome) (output.Gap, bool) {
	pod, offset := o.Attempt, uint64(0)
	if t != nil && (o.Attempt == "" || o.Attempt == t.pod) {
		pod, offset = t.pod, t.offset
	}
	g := output.Gap{Attempt: pod, ContainerLog: true, Of: o.OutputBytes + o.LostBytes}
	if !o.Counted() {
		g.Of = 0
		return g, true
	}
	g.Bytes = g.Of - min(g.Of, offset)
	return g, g.Bytes > 0 || offset > g.Of+addedNewlines
}

// addedNewlines is how many a runtime may have added to an output, which makes its log longer: one to the last line of
// each stream.
const addedNewlines = 2

// Show writes the log to s until the container ends, or, if it is not to be followed, what there is of it. It opens
// a log that broke off again and again while the container runs, and for some 20 s after. The error is ctx's, s's, or
// an *UnreadError.
func (t *Tail) Show(ctx context.Context, s output.Sink) error {
	rest := restTries
	for wait := reopenFirst; ; wait = min(2*wait, reopenLast) {
		ended, over := !t.options.Follow, t.growing.Done()
		if t.growing.Err() != nil {
			if rest == restTries {
				wait = reopenFirst
			}
			rest--
			ended, over = true, nil // only time helps now
		}
		before := t.offset
		err := t.read(ctx, s, ended)
		unread, broke := errors.AsType[*UnreadError](err)
		switch {
		case err != nil && !broke, ctx.Err() != nil:
			return err
		case broke && (rest == 0 || !t.options.Follow || t.offset == 0 && refusedForGood(unread.err)):
			return err
		case ended && !broke:
			return s.Flush()
		}
		if t.offset > before {
			wait = reopenFirst
		}
		// The end of the log says little: its container has ended, or the connection.
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-over:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// refusedForGood tells an error that asking again does not mend, unless the log
// has been read before: an API server that has just started refuses for a moment
// what it has not yet read that we may.
func refusedForGood(err error) bool {
	f, ok := errors.AsType[*job.Failure](err)
	return ok && f.Cause == job.Forbidden
}

// read opens the log where it was left and writes what comes. An UnreadError is
// the log's, others are of s.
func (t *Tail) read(ctx context.Context, s output.Sink, ended bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rest := newRestReader(cancel)
	defer context.AfterFunc(t.growing, rest.end)()
	o := t.options
	o.Follow = !ended
	if !t.last.IsZero() {
		o.Since, o.TailLines = t.last, nil
	}
	log, err := rest.open(func() (io.ReadCloser, error) { return t.open(ctx, o) })
	if err != nil {
		return &UnreadError{t.pod, err}
	}
	defer log.Close()
	return t.copy(bufio.NewReaderSize(rest, output.MaxLine), s, ended)
}

// copy writes the lines of a log that was opened anew.
func (t *Tail) copy(lines *bufio.Reader, s output.Sink, ended bool) error {
	before := t.position
	var l line
	for {
		piece, err := lines.ReadSlice('\n')
		if len(piece) > 0 && !l.open {
			at, text, stamped := cutTime(piece)
			if !stamped {
				if e := t.release(s); e != nil {
					return e
				}
				return &UnreadError{t.pod, errors.New(kubeletSays(piece))}
			}
			piece = text
			if l, before = before.meet(at); !l.known {
				t.part = l.drop
			}
		}
		l.open = !bytes.HasSuffix(piece, []byte("\n"))
		if !l.known && !torn(err, ended) {
			if e := t.write(s, piece, &l); e != nil {
				return e
			}
		}
		if err != nil || len(t.held) >= output.MaxLine || !lineIn(lines) {
			if e := t.release(s); e != nil {
				return e
			}
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return nil
		default:
			return &UnreadError{t.pod, err}
		}
	}
}

// line is a line of a log that was opened anew.
type line struct {
	at    time.Time
	known bool // all of it was shown before
	drop  int  // bytes of it that were
	open  bool // it goes on
}

// meet decides about the next line of a log, which was shown up to p before it was opened anew. It returns how much of
// the line was shown, and the position up to which further lines were.
func (p position) meet(at time.Time) (line, position) {
	switch {
	case at.Before(p.last):
		return line{at: at, known: true}, p
	case at.Equal(p.last) && p.equal > 0:
		p.equal--
		return line{at: at, known: true}, p
	}
	l := line{at: at}
	if at.Equal(p.begun) {
		l.drop = p.part
	}
	p.part = 0 // no later line was begun
	return l, p
}

// torn reports whether what was read with err is the rest of a line to which the kubelet may have added an error. It
// is read again, unless the container has ended.
func torn(err error, ended bool) bool {
	return err != nil && !errors.Is(err, bufio.ErrBufferFull) && !ended
}

// lineIn tells that a whole line can be read without a wait.
func lineIn(lines *bufio.Reader) bool {
	there, _ := lines.Peek(lines.Buffered()) // no more than there is
	return bytes.IndexByte(there, '\n') >= 0
}

// restReader reads a log, and gives up what stalls for restWait once the container
// has ended. The time in which what was read is shown does not count.
type restReader struct {
	log    io.Reader
	giveUp *time.Timer

	mu             sync.Mutex
	waiting, ended bool
}

func newRestReader(giveUp func()) *restReader {
	r := &restReader{giveUp: time.AfterFunc(restWait, giveUp)}
	r.giveUp.Stop()
	return r
}

// open waits for the log, like Read.
func (r *restReader) open(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r.wait(true)
	defer r.wait(false)
	log, err := open()
	r.log = log
	return log, err
}

func (r *restReader) Read(p []byte) (int, error) {
	r.wait(true)
	defer r.wait(false)
	return r.log.Read(p)
}

// wait tells whether somebody waits for the log.
func (r *restReader) wait(waiting bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = waiting
	r.set()
}

// end tells that the container has ended.
func (r *restReader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.set()
}

// set is called with r.mu held.
func (r *restReader) set() {
	if r.waiting && r.ended {
		r.giveUp.Reset(restWait)
	} else {
		r.giveUp.Stop()
	}
}

// write shows a piece of a line, without the bytes of it that were shown before.
func (t *Tail) write(s output.Sink, piece []byte, l *line) error {
	n := min(l.drop, len(piece))
	l.drop -= n
	if piece = piece[n:]; len(piece) > 0 {
		t.begun = l.at
		t.part += len(piece)
		t.offset += uint64(len(piece))
		t.held = append(t.held, piece...)
		if _, raw := s.(output.Raw); !raw { // which has no use for the time of each line
			if err := t.release(s); err != nil {
				return err
			}
		}
	}
	if !l.open {
		t.position = t.position.past(l.at)
		t.lines++
	}
	return nil
}

// past returns the position behind a whole line.
func (p position) past(at time.Time) position {
	if !at.Equal(p.last) {
		p.last, p.equal = at, 0
	}
	p.equal++
	p.part = 0
	return p
}

// release writes what is held.
func (t *Tail) release(s output.Sink) error {
	n := len(t.held)
	if n == 0 {
		return nil
	}
	r := &hodeipb.Record{Stream: t.stream, Length: uint32(n), TimeUnixNano: t.begun.UnixNano()}
	err := s.Record(t.pod, t.offset-uint64(n), r, t.held)
	t.held = t.held[:0]
	return err
}

// cutTime cuts off the time that each line of a log begins with; false if there is none.
func cutTime(line []byte) (time.Time, []byte, bool) {
	stamp, rest, _ := bytes.Cut(line, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, line, false
	}
	return at, rest, true
}

// maxSaid bounds how much of the kubelet's error is shown.
const maxSaid = 300

// kubeletSays is an error that the kubelet has put into a log, in place of the rest of it.
func kubeletSays(text []byte) string {
	return "the kubelet: " + ui.Printable(strings.TrimSpace(string(text[:min(len(text), maxSaid)])))
}
