package cli

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

// restNote is how long hodei reads the rest of a log in silence once its job is over. The
// kubelet gives out some ten thousand lines in a second, and a command prints millions.
const restNote = 5 * time.Second

// inexact is said once of output that comes from a container's log.
const inexact = "this is the container's log: both streams as one, without what the kubelet has cut off"

// followContainer has the log of a Pod's job displayed, in place of the output
// that its agent would send.
func (f *follower) followContainer(c place.Cluster, pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tail != nil {
		f.tail.end() // of the attempt before
	} else {
		f.display.Say(func() error {
			f.screen.Note(inexact)
			return f.events.Note(inexact)
		})
	}
	f.shown = false
	f.runs(pod)
	t := newTail(c, pod, kubernetes.ContainerLogOptions{Follow: true})
	f.tail = t
	f.display.Do(func(ctx context.Context) error {
		sink, _ := output.Unplaced(f.sink)
		err := t.show(ctx, sink)
		if unread, ok := errors.AsType[*unreadError](err); ok {
			f.misses(unread.Error())
			return nil
		}
		return err
	})
}

// unreadError is a container's log that can't be read.
type unreadError struct {
	pod string
	err error
}

func (e *unreadError) Error() string {
	return fmt.Sprintf("the log of container job in %s can't be read: %v", e.pod, e.err)
}
func (e *unreadError) Unwrap() error { return e.err }

// tail shows the log of a container, and remembers where it stands, so that one
// that broke off can be taken up again.
type tail struct {
	open    func(context.Context, kubernetes.ContainerLogOptions) (io.ReadCloser, error)
	pod     string
	options kubernetes.ContainerLogOptions
	stream  hodeipb.Stream // STREAM_UNSPECIFIED: both, nobody knows which
	// growing ends, by end, when the container has.
	growing context.Context
	end     context.CancelFunc

	offset uint64    // of what is shown, or held
	last   time.Time // of the last whole line
	equal  int       // lines of that very time
	begun  time.Time // of a line of which a part is shown,
	part   int       // so many bytes of it
	lines  int       // that have ended
	held   []byte    // lines that are to be written at once, and were in the log at begun
}

// missing returns what a log lacks of the output of an attempt that ended with o; false:
// nothing, as far as is known. The log was read from its beginning to its end. A runtime may
// have added a newline to the last line of each stream, which makes the log longer.
func (t *tail) missing(o *job.Outcome) (output.Gap, bool) {
	g := output.Gap{Attempt: t.pod, ContainerLog: true, Of: o.OutputBytes + o.LostBytes}
	if !counted(o) {
		g.Of = 0
		return g, true
	}
	g.Bytes = g.Of - min(g.Of, t.offset)
	return g, g.Bytes > 0 || t.offset > g.Of+addedNewlines
}

// addedNewlines is how many a runtime may have added: one to each stream.
const addedNewlines = 2

func newTail(c place.Cluster, pod string, o kubernetes.ContainerLogOptions) *tail {
	t := &tail{pod: pod, options: o, open: func(ctx context.Context, o kubernetes.ContainerLogOptions) (io.ReadCloser, error) {
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

// show writes the log to s until the container ends, or, if it is not to be
// followed, what there is of it.
func (t *tail) show(ctx context.Context, s output.Sink) error {
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
		unread, broke := errors.AsType[*unreadError](err)
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

// read opens the log where it was left and writes what comes. An unreadError is
// the log's, others are of s.
func (t *tail) read(ctx context.Context, s output.Sink, ended bool) error {
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
		return &unreadError{t.pod, err}
	}
	defer log.Close()
	lines := bufio.NewReaderSize(rest, output.MaxLine)
	var (
		at       time.Time // of the line
		start    = true    // of a line
		skip     bool      // it was shown before
		drop     int       // bytes of it that were
		resumed  = t.last
		repeated = t.equal
	)
	for {
		piece, err := lines.ReadSlice('\n')
		if len(piece) > 0 && start {
			var stamped bool
			if at, piece, stamped = cutTime(piece); !stamped {
				if e := t.release(s); e != nil {
					return e
				}
				return &unreadError{t.pod, errors.New(kubeletSays(piece))}
			}
			skip = at.Before(resumed)
			if at.Equal(resumed) && repeated > 0 {
				repeated--
				skip = true
			}
			drop = 0
			if !skip && t.part > 0 && at.Equal(t.begun) {
				drop = t.part
			} else if !skip {
				t.part = 0
			}
		}
		start = len(piece) > 0 && piece[len(piece)-1] == '\n'
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !ended {
			skip = true // the rest of a line, to which the kubelet may have added an error: it is read again
		}
		if !skip {
			if e := t.write(s, at, piece, &drop); e != nil {
				return e
			}
			if start { // and end of the one before
				if at.Equal(t.last) {
					t.equal++
				} else {
					t.last, t.equal = at, 1
				}
				t.part = 0
				t.lines++
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
			return &unreadError{t.pod, err}
		}
	}
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

// write shows a piece of a line, without the first drop bytes of the line.
func (t *tail) write(s output.Sink, at time.Time, piece []byte, drop *int) error {
	n := min(*drop, len(piece))
	*drop -= n
	if piece = piece[n:]; len(piece) == 0 {
		return nil
	}
	t.begun = at
	t.part += len(piece)
	t.offset += uint64(len(piece))
	t.held = append(t.held, piece...)
	if _, raw := s.(output.Raw); raw { // which has no use for the time of each line
		return nil
	}
	return t.release(s)
}

// release writes what is held.
func (t *tail) release(s output.Sink) error {
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
