package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// stuck is a writer that takes nothing until it is let go.
type stuck struct {
	entered, free chan struct{}
	once          sync.Once
	bytes.Buffer
}

func newStuck() *stuck { return &stuck{entered: make(chan struct{}), free: make(chan struct{})} }

func (w *stuck) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.entered) })
	<-w.free
	return w.Buffer.Write(p)
}

// A terminal that takes nothing holds up neither the storing nor the session, and
// what is said there is bounded.
func TestScreenStuck(t *testing.T) {
	w := newStuck()
	f := testFollower(t, io.Discard, struct{ io.Writer }{w}, "") // without the buffer's WriteString
	log := testLog(t, "x", 0)
	f.State("x", &hodeipb.State{Phase: hodeipb.Phase_WAITING})
	f.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x"}, Log: log, Temporary: logstore.ErrInUse})
	for i := range 100 {
		f.State("x", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: i%2 == 0})
	}
	store(t, log, batch(0, "out:text"))
	f.Exited("x", &hodeipb.ExitRecord{Cause: "Completed"})
	<-f.exited
	<-w.entered
	close(w.free)
	<-f.complete()
	text := w.String()
	if !strings.Contains(text, "another hodei on this machine stores the output of x") || strings.Count(text, "the job waits") > 2 {
		t.Errorf("stderr %q", text)
	}
}

// Who does not read holds up neither the storing nor what the session is told.
func TestDisplayStuck(t *testing.T) {
	w := newStuck()
	f := testFollower(t, w, io.Discard, "")
	log := attach(t, f, "x", 0)
	f.State("x", ran)
	store(t, log, batch(0, "out:0123456789"))
	<-w.entered
	for i := range uint64(100) {
		store(t, log, batch(10*(i+1), "out:0123456789"))
	}
	f.State("x", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: true})
	f.phase(job.Event{Phase: job.Scheduled})
	f.Exited("x", &hodeipb.ExitRecord{Cause: "Completed"})
	<-f.exited
	shown := f.complete()
	select {
	case <-shown:
		t.Error("all is shown")
	default:
	}
	close(w.free)
	<-shown
	if got := w.Len(); got != 1010 {
		t.Errorf("%d bytes shown", got)
	}
}

// A display that is left shows nothing more once the write that hangs is back.
func TestDisplayLeft(t *testing.T) {
	w := newStuck()
	f := testFollower(t, w, io.Discard, "")
	log := attach(t, f, "x", 0)
	f.State("x", ran)
	store(t, log, batch(0, "out:one"))
	<-w.entered
	store(t, log, batch(3, "out:two"))
	f.display.leave()
	f.display.leave() // again
	close(w.free)
	<-f.display.done
	if got := w.String(); got != "one" {
		t.Errorf("shown %q", got)
	}
	if f.closed() {
		t.Error("closed")
	}
	select {
	case err := <-f.display.broken:
		t.Errorf("broken: %v", err)
	default:
	}
}

// A settled session ends within its patience, whatever hangs.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		f := &follower{display: newDisplay(), passages: map[string]*passage{}}
		f.display.do(func(context.Context) error {
			<-free
			return nil
		})
		s := &session{follower: f}
		began := time.Now()
		if s.settle(true) || time.Since(began) != leaveWait {
			t.Errorf("settled after %s", time.Since(began))
		}
		close(free)
		if !s.settle(false) {
			t.Error("did not settle")
		}
	})
}

func TestPassage(t *testing.T) {
	log := testLog(t, "x", 4)
	store(t, log, batch(4, "out:ab", "err:cd", "out:ef"))
	store(t, log, batch(10, 5, "out:gh"))
	for _, test := range []struct {
		from, to uint64
		stream   hodeipb.Stream
		want     string
		gaps     string
	}{
		{0, math.MaxUint64, 0, "abcdefgh", "0+4 10+5"},
		{4, math.MaxUint64, 0, "abcdefgh", "10+5"},
		{5, 9, 0, "bcde", ""},
		{5, 10, hodeipb.Stream_STDOUT, "bef", ""},
		{4, 17, hodeipb.Stream_STDERR, "cd", "10+5"},
		{17, math.MaxUint64, 0, "", ""},
		{4, 4, 0, "", ""},
	} {
		t.Run(fmt.Sprint(test.from, test.to, test.stream), func(t *testing.T) {
			p := newPassage("x", log, test.from)
			p.to = test.to
			p.end()
			kept := &keptSink{}
			var s sink = kept
			if test.stream != 0 {
				s = streamSink{s, test.stream}
			}
			if err := p.show(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if got := kept.String(); got != test.want || strings.Join(kept.gaps, " ") != test.gaps || kept.flushed != 1 {
				t.Errorf("got %q, gaps %q, flushed %d times; want %q and %q", got, kept.gaps, kept.flushed, test.want, test.gaps)
			}
		})
	}
	p := newPassage("x", log, 4)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	if err := p.show(ctx, &keptSink{}); !errors.Is(err, errLeft) {
		t.Errorf("got %v", err)
	}
}

// keptSink keeps what it is shown.
type keptSink struct {
	bytes.Buffer
	gaps    []string
	flushed int
}

func (s *keptSink) record(_ string, _ uint64, _ *hodeipb.Record, data []byte) error {
	s.Write(data)
	return nil
}

func (s *keptSink) gap(g gap) error {
	s.gaps = append(s.gaps, fmt.Sprintf("%d+%d", g.offset, g.bytes))
	return nil
}

func (s *keptSink) flush() error {
	s.flushed++
	return nil
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxPartial)
	for _, test := range []struct {
		name     string
		records  []any
		out, err string
	}{
		{"nothing", nil, "", ""},
		{"lines of two streams", []any{"out:a\nb\n", "err:c\n"}, "1 [o] a\n1 [o] b\n", "2 [e] c\n"},
		{"a line in pieces has the time of the first", []any{"out:a", "err:b", "out:c\nd\n", "err:e\n"}, "1 [o] ac\n3 [o] d\n", "2 [e] be\n"},
		{"no newline at the end", []any{"out:a", "err:b"}, "1 [o] a\n", "2 [e] b\n"},
		{"empty lines", []any{"out:\n\n"}, "1 [o] \n1 [o] \n", ""},
		{"any bytes", []any{"out:\x00\xff\r\x1b[1m\n"}, "1 [o] \x00\xff\r1 [o] \x1b[1m\n", ""},
		{"a carriage return keeps what stands in front", []any{"out:\r10%\r\r20%\r", "out:30%\r\nnext\r\n\r\n"}, "\r1 [o] 10%\r\r1 [o] 20%\r1 [o] 30%\r\n2 [o] next\r\n\r2 [o] \n", ""},
		{"a gap ends a line", []any{"out:a", 7, "out:b\n"}, "1 [o] a\n3 [o] b\n", ""},
		{"as long as can be held", []any{"out:" + long + "\na\n"}, "1 [o] " + long + "\n1 [o] a\n", ""},
		{"as long, in pieces", []any{"out:" + long, "out:\na\n"}, "1 [o] " + long + "\n2 [o] a\n", ""},
		{"longer", []any{"out:" + long + "y\na\n"}, "1 [o] " + long + "y\n1 [o] a\n", ""},
		{"much longer", []any{"out:" + long, "out:" + long + long + "z"}, "1 [o] " + long + long + long + "z\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			s := &lineSink{to: &lineWriter{out: &out, err: &errOut}, timestamps: true, prefix: func(stream hodeipb.Stream) string {
				return map[hodeipb.Stream]string{hodeipb.Stream_STDOUT: "[o]", hodeipb.Stream_STDERR: "[e]"}[stream]
			}}
			b := batch(0, test.records...)
			data := b.Data
			for i, r := range b.Records {
				r.TimeUnixNano = int64(i+1) * int64(time.Second)
				if r.Lost > 0 {
					if err := s.gap(gap{attempt: "x", bytes: r.Lost}); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err := s.record("x", 0, r, data[:r.Length]); err != nil {
					t.Fatal(err)
				}
				data = data[r.Length:]
				if n := cap(s.held[0].text) + cap(s.shown); n > 10*maxPartial {
					t.Errorf("%d bytes held", n)
				}
			}
			if err := s.flush(); err != nil {
				t.Fatal(err)
			}
			short := strings.NewReplacer("1970-01-01T00:00:0", "", "Z ", " ")
			if got := short.Replace(out.String()); got != test.out {
				t.Errorf("stdout %.200q\nwant   %.200q", got, test.out)
			}
			if got := short.Replace(errOut.String()); got != test.err {
				t.Errorf("stderr %q, want %q", got, test.err)
			}
		})
	}
}

// The beginning of a line is shown when its end has not come in a while, and goes on where
// nobody has written meanwhile.
func TestLinesPartial(t *testing.T) {
	const o, e = hodeipb.Stream_STDOUT, hodeipb.Stream_STDERR
	type event struct {
		job    int
		stream hodeipb.Stream
		text   string // empty: something is said beside the output
		wait   time.Duration
	}
	for _, test := range []struct {
		name   string
		two    bool // files
		events []event
		out    string
		err    string
	}{
		{"a prompt", false, []event{{0, o, "name: ", time.Second}, {0, o, "x\n", 0}}, "[0] name: |x\n", ""},
		{"too early", false, []event{{0, o, "na", 150 * time.Millisecond}, {0, o, "me", 40 * time.Millisecond}, {0, o, "!\n", 0}}, "[0] name!\n", ""},
		{"counted from the first byte", false, []event{{0, o, "na", 150 * time.Millisecond}, {0, o, "me", 150 * time.Millisecond}, {0, o, "!\n", 0}}, "[0] name|!\n", ""},
		{"progress", false, []event{{0, o, "\r10%", time.Second}, {0, o, "\r20%", time.Second}, {0, o, "\n", 0}}, "\r[0] 10%|\r[0] 20%|\n", ""},
		{"another job", false, []event{{0, o, "half", time.Second}, {1, o, "line\n", 0}, {0, o, "rest\n", 0}}, "[0] half|\n[1] line\n[0] … rest\n", ""},
		{"another job's half", false, []event{{0, o, "half", time.Second}, {1, o, "line", time.Second}, {0, o, "\n", 0}, {1, o, "!\n", 0}}, "[0] half|\n[1] line|!\n", ""},
		{"broken off, and returned", false, []event{{0, o, "10%\r", time.Second}, {1, o, "line\n", 0}, {0, o, "20%\n", 0}}, "[0] 10%\r|\n[1] line\n[0] 20%\n", ""},
		{"the other stream", false, []event{{0, o, "half", time.Second}, {0, e, "oh\n", 0}, {0, o, "rest", 0}}, "[0] half|\n[0] oh\n[0] … rest\n", ""},
		{"the other stream elsewhere", true, []event{{0, o, "half", time.Second}, {0, e, "oh\n", 0}, {0, o, "rest\n", 0}}, "[0] half|rest\n", "[0] oh\n"},
		{"something is said", false, []event{{0, o, "half", time.Second}, {}, {0, o, "rest\n", 0}}, "[0] half|\nsaid\n[0] … rest\n", ""},
		{"something is said elsewhere", true, []event{{0, o, "half", time.Second}, {}, {0, o, "rest\n", 0}}, "[0] half|rest\n", "said\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out, errOut bytes.Buffer
				to := &lineWriter{out: &out, err: &errOut, one: !test.two}
				if to.one {
					to.err = &out
				}
				var jobs [2]*lineSink
				for i := range jobs {
					jobs[i] = &lineSink{to: to, prefix: func(hodeipb.Stream) string { return fmt.Sprintf("[%d]", i) }}
				}
				for _, e := range test.events {
					if e.text == "" {
						to.fresh()
						io.WriteString(to.err, "said\n")
						continue
					}
					if err := jobs[e.job].record("x", 0, &hodeipb.Record{Stream: e.stream}, []byte(e.text)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(e.wait)
					synctest.Wait()
					if to.place(hodeipb.Stream_STDOUT).Load() != nil && !strings.HasSuffix(out.String(), "|") {
						out.WriteByte('|') // what had been shown by then
					}
				}
				for _, j := range jobs {
					if err := j.flush(); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if got := out.String(); got != test.out {
					t.Errorf("stdout %q\nwant   %q", got, test.out)
				}
				if got := errOut.String(); got != test.err {
					t.Errorf("stderr %q, want %q", got, test.err)
				}
			})
		})
	}
}

// What is said begins a line of its own where the output has left one open, and only there.
func TestFresh(t *testing.T) {
	for _, test := range []struct {
		name, stream, text string
		one                bool
		want               string // on stderr
	}{
		{"no newline on a terminal", "out", "half", true, "half\n"},
		{"newline on a terminal", "out", "whole\n", true, "whole\n"},
		{"carriage return", "err", "100%\r", true, "100%\r\n"},
		{"stdout elsewhere", "out", "half", false, ""},
		{"stderr", "err", "half", false, "half\n"},
		{"nothing", "out", "", true, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			to := &lineWriter{out: &out, err: &errOut, one: test.one}
			if test.one {
				to.out = &errOut
			}
			b := batch(0, test.stream+":"+test.text)
			if err := (rawSink{to}).record("x", 0, b.Records[0], b.Data); err != nil {
				t.Fatal(err)
			}
			to.fresh()
			to.fresh()
			if got := errOut.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Jobs that write at once share no line.
func TestLinesShared(t *testing.T) {
	var out bytes.Buffer
	to := &lineWriter{out: &out, err: &out, one: true}
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			s := &lineSink{to: to}
			for range 200 {
				for _, stream := range []hodeipb.Stream{hodeipb.Stream_STDOUT, hodeipb.Stream_STDERR} {
					text := fmt.Sprintf("%d-%s", i, streamName(stream))
					for _, piece := range []string{text[:3], text[3:] + "\n" + text[:1], text[1:] + "\n"} {
						if err := s.record("x", 0, &hodeipb.Record{Stream: stream}, []byte(piece)); err != nil {
							t.Error(err)
						}
					}
				}
			}
		})
	}
	work.Wait()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 8*200*4 {
		t.Errorf("%d lines", len(lines))
	}
	slices.Sort(lines)
	if distinct := slices.Compact(lines); len(distinct) != 16 {
		t.Errorf("lines %q", distinct)
	}
}

func TestLinesFail(t *testing.T) {
	s := &lineSink{to: &lineWriter{out: &failing{err: io.ErrShortWrite}, err: io.Discard}}
	if err := s.record("x", 0, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT}, []byte("a\n")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
	if err := s.record("x", 0, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT}, []byte("held")); err != nil {
		t.Errorf("got %v", err)
	}
	if err := s.flush(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}
