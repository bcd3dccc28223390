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
	// The waits before a container's log that broke off is opened again. A restarted API server takes reopenFirst
	// at least; after reopenLast a person would look for themselves.
	reopenFirst, reopenLast = 500 * time.Millisecond, 8 * time.Second
	// restWait is how long a log may stay silent after its container has ended, before we give it up.
	restWait = 10 * time.Second
	// restTries is how often we ask for the rest of such a log. A kubelet or API server that was away answers within
	// three waits.
	restTries = 4
)

// UnreadError says that a container's log can't be read, and why.
type UnreadError struct {
	pod string
	err error
}

// Error names the Pod and the reason.
func (e *UnreadError) Error() string {
	return fmt.Sprintf("the log of container job in %s can't be read: %v", e.pod, e.err)
}

// Unwrap returns the reason.
func (e *UnreadError) Unwrap() error { return e.err }

// Tail shows the log of a container, and remembers how far it has come, so that it can go on after the log broke off.
// [NewTail] makes one. One goroutine calls Show and then Missing; any may call End.
type Tail struct {
	open    func(context.Context, kubernetes.ContainerLogOptions) (io.ReadCloser, error)
	pod     string
	options kubernetes.ContainerLogOptions
	stream  hodeipb.Stream // STREAM_UNSPECIFIED: both as one
	// growing ends once end is called: the container has ended.
	growing context.Context
	end     context.CancelFunc

	position
	offset uint64 // bytes that are shown or held
	lines  int    // whole lines among them
	held   []byte // lines, the last of which was in the log at begun; they are written together
}

// position is how far a log was shown, by the times of its lines.
type position struct {
	last  time.Time // time of the last whole line
	equal int       // how many lines have that very time
	begun time.Time // time of the line that was begun,
	part  int       // and how many bytes of it were shown
}

// NewTail returns a Tail of the container job of a Pod. If o follows the log, Show goes on until End is called.
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

// End says that the container has ended: Show returns once it has read the rest of the log. End may be called more
// than once.
func (t *Tail) End() { t.end() }

// Missing returns what the log lacks of the output of the attempt that ended with o; false: nothing, as far as is
// known. The log must have been shown from its beginning to its end. Of an attempt that is not the Tail's, all output
// is missing; so it is for a nil Tail.
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

// addedNewlines is how many newlines a runtime may have added to the output: one after the last line of each stream.
const addedNewlines = 2

// Show writes the log to s until the container ends, or, if it does not follow the log, as far as it goes now. If the
// log breaks off, Show opens it again, as long as the container runs and for some 20 s after. The error is ctx's, s's,
// or an *UnreadError.
func (t *Tail) Show(ctx context.Context, s output.Sink) error {
	rest := restTries
	for wait := reopenFirst; ; wait = min(2*wait, reopenLast) {
		ended, over := !t.options.Follow, t.growing.Done()
		if t.growing.Err() != nil {
			if rest == restTries {
				wait = reopenFirst
			}
			rest--
			ended, over = true, nil // over has ended, so only the timer ends the wait
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
		// The log has ended. Its container may have, or only the connection: try again.
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-over:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// refusedForGood reports whether a log that was never read can't be read later either: we may not. A log that was read
// before is another case: an API server that has just started refuses until it has read its roles.
func refusedForGood(err error) bool {
	f, ok := errors.AsType[*job.Failure](err)
	return ok && f.Cause == job.Forbidden
}

// read opens the log where it broke off and writes what comes. An UnreadError is about the log, any other is from s.
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

// copy writes the lines of a log that was opened again, but for those that were shown before.
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

// line is a line of a log that was opened again.
type line struct {
	at    time.Time
	known bool // all of it was shown before
	drop  int  // how many of its first bytes were shown before
	open  bool // its end has not been read yet
}

// meet decides about the next line of a log that was shown up to p before it broke off. It returns how much of the
// line was shown, and the position to meet the line after it with.
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

// torn reports whether the line that came with err is not to be shown: the kubelet may have put an error into it. It
// is read again, unless the container has ended.
func torn(err error, ended bool) bool {
	return err != nil && !errors.Is(err, bufio.ErrBufferFull) && !ended
}

// lineIn reports whether a whole line can be read without a wait.
func lineIn(lines *bufio.Reader) bool {
	there, _ := lines.Peek(lines.Buffered()) // does not read more
	return bytes.IndexByte(there, '\n') >= 0
}

// restReader reads a log. Once the container has ended, it gives the log up if that is silent for restWait. Only time
// spent waiting for the log counts, not that of showing what was read.
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

// open opens the log. Its time counts like that of Read.
func (r *restReader) open(open func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	r.wait(true)
	defer r.wait(false)
	log, err := open()
	r.log = log
	return log, err
}

// Read reads from the log.
func (r *restReader) Read(p []byte) (int, error) {
	r.wait(true)
	defer r.wait(false)
	return r.log.Read(p)
}

// wait sets whether somebody waits for the log.
func (r *restReader) wait(waiting bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = waiting
	r.set()
}

// end says that the container has ended.
func (r *restReader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
	r.set()
}

// set starts or stops the clock. It is called with r.mu held.
func (r *restReader) set() {
	if r.waiting && r.ended {
		r.giveUp.Reset(restWait)
	} else {
		r.giveUp.Stop()
	}
}

// write shows a piece of a line, without the bytes that were shown before.
func (t *Tail) write(s output.Sink, piece []byte, l *line) error {
	n := min(l.drop, len(piece))
	l.drop -= n
	if piece = piece[n:]; len(piece) > 0 {
		t.begun = l.at
		t.part += len(piece)
		t.offset += uint64(len(piece))
		t.held = append(t.held, piece...)
		if _, raw := s.(output.Raw); !raw { // a raw sink needs no time of each line, so lines are written together
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

// past returns the position after a whole line that was in the log at the time at.
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

// cutTime splits a line of a log into the time that it begins with and the rest; false: it begins with none.
func cutTime(line []byte) (time.Time, []byte, bool) {
	stamp, rest, _ := bytes.Cut(line, []byte(" "))
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, line, false
	}
	return at, rest, true
}

// maxSaid bounds how much of the kubelet's error is shown, in bytes.
const maxSaid = 300

// kubeletSays returns, in words, an error that the kubelet has put into a log in place of the rest.
func kubeletSays(text []byte) string {
	return "the kubelet: " + ui.Printable(strings.TrimSpace(string(text[:min(len(text), maxSaid)])))
}
