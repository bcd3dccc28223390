package output

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
)

func TestLines(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, test := range []struct {
		name     string
		records  []any
		out, err string
	}{
		{"nothing", nil, "", ""},
		{"lines of two streams", []any{"out:a\nb\n", "err:c\n"}, "1 [o] a\n1 [o] b\n", "2 [e] c\n"},
		{"a line in pieces has the time of the first", []any{"out:a", "err:b", "out:c\nd\n", "err:e\n"},
			"1 [o] ac\n3 [o] d\n", "2 [e] be\n"},
		{"no newline at the end", []any{"out:a", "err:b"}, "1 [o] a\n", "2 [e] b\n"},
		{"empty lines", []any{"out:\n\n"}, "1 [o] \n1 [o] \n", ""},
		{"any bytes", []any{"out:\x00\xff\r\x1b[1m\n"}, "1 [o] \x00\xff\r1 [o] \x1b[1m\n", ""},
		{"a carriage return keeps what stands in front", []any{"out:\r10%\r\r20%\r", "out:30%\r\nnext\r\n\r\n"},
			"\r1 [o] 10%\r\r1 [o] 20%\r1 [o] 30%\r\n2 [o] next\r\n\r2 [o] \n", ""},
		{"a gap ends a line", []any{"out:a", 7, "out:b\n"}, "1 [o] a\n3 [o] b\n", ""},
		{"as long as can be held", []any{"out:" + long + "\na\n"}, "1 [o] " + long + "\n1 [o] a\n", ""},
		{"as long, in pieces", []any{"out:" + long, "out:\na\n"}, "1 [o] " + long + "\n2 [o] a\n", ""},
		{"longer", []any{"out:" + long + "y\na\n"}, "1 [o] " + long + "y\n1 [o] a\n", ""},
		{"much longer", []any{"out:" + long, "out:" + long + long + "z"}, "1 [o] " + long + long + long + "z\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			s := &Lines{To: &Streams{Out: &out, Err: &errOut}, Timestamps: true, Prefix: func(stream hodeipb.Stream) string {
				return map[hodeipb.Stream]string{hodeipb.Stream_STDOUT: "[o]", hodeipb.Stream_STDERR: "[e]"}[stream]
			}}
			b := outputtest.Batch(0, test.records...)
			data := b.Data
			for i, r := range b.Records {
				r.TimeUnixNano = int64(i+1) * int64(time.Second)
				if r.Lost > 0 {
					if err := s.Gap(Gap{Attempt: "x", Bytes: r.Lost}); err != nil {
						t.Fatal(err)
					}
					continue
				}
				if err := s.Record("x", 0, r, data[:r.Length]); err != nil {
					t.Fatal(err)
				}
				data = data[r.Length:]
				if n := cap(s.held[0].text) + cap(s.ready); n > 10*MaxLine {
					t.Errorf("%d bytes held", n)
				}
			}
			if err := s.Flush(); err != nil {
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
		{"too early", false, []event{{0, o, "na", 150 * time.Millisecond}, {0, o, "me", 40 * time.Millisecond}, {0, o, "!\n", 0}},
			"[0] name!\n", ""},
		{"counted from the first byte", false, []event{{0, o, "na", 150 * time.Millisecond}, {0, o, "me", 150 * time.Millisecond},
			{0, o, "!\n", 0}},
			"[0] name|!\n", ""},
		{"progress", false, []event{{0, o, "\r10%", time.Second}, {0, o, "\r20%", time.Second}, {0, o, "\n", 0}},
			"\r[0] 10%|\r[0] 20%|\n", ""},
		{"another job", false, []event{{0, o, "half", time.Second}, {1, o, "line\n", 0}, {0, o, "rest\n", 0}},
			"[0] half|\n[1] line\n[0] … rest\n", ""},
		{"another job's half", false, []event{{0, o, "half", time.Second}, {1, o, "line", time.Second}, {0, o, "\n", 0}, {1, o, "!\n", 0}},
			"[0] half|\n[1] line|!\n", ""},
		{"broken off, and returned", false, []event{{0, o, "10%\r", time.Second}, {1, o, "line\n", 0}, {0, o, "20%\n", 0}},
			"[0] 10%\r|\n[1] line\n[0] 20%\n", ""},
		{"the other stream", false, []event{{0, o, "half", time.Second}, {0, e, "oh\n", 0}, {0, o, "rest", 0}},
			"[0] half|\n[0] oh\n[0] … rest\n", ""},
		{"the other stream elsewhere", true, []event{{0, o, "half", time.Second}, {0, e, "oh\n", 0}, {0, o, "rest\n", 0}},
			"[0] half|rest\n", "[0] oh\n"},
		{"something is said", false, []event{{0, o, "half", time.Second}, {}, {0, o, "rest\n", 0}}, "[0] half|\nsaid\n[0] … rest\n", ""},
		{"something is said elsewhere", true, []event{{0, o, "half", time.Second}, {}, {0, o, "rest\n", 0}}, "[0] half|rest\n", "said\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out, errOut bytes.Buffer
				to := &Streams{Out: &out, Err: &errOut, Shared: !test.two}
				if to.Shared {
					to.Err = &out
				}
				var jobs [2]*Lines
				for i := range jobs {
					jobs[i] = &Lines{To: to, Prefix: func(hodeipb.Stream) string { return fmt.Sprintf("[%d]", i) }}
				}
				for _, e := range test.events {
					if e.text == "" {
						to.BeginLine()
						io.WriteString(to.Err, "said\n")
						continue
					}
					if err := jobs[e.job].Record("x", 0, &hodeipb.Record{Stream: e.stream}, []byte(e.text)); err != nil {
						t.Fatal(err)
					}
					time.Sleep(e.wait)
					synctest.Wait()
					if to.place(hodeipb.Stream_STDOUT).Load() != nil && !strings.HasSuffix(out.String(), "|") {
						out.WriteByte('|') // what had been shown by then
					}
				}
				for _, j := range jobs {
					if err := j.Flush(); err != nil {
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
func TestBeginLine(t *testing.T) {
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
			to := &Streams{Out: &out, Err: &errOut, Shared: test.one}
			if test.one {
				to.Out = &errOut
			}
			b := outputtest.Batch(0, test.stream+":"+test.text)
			if err := (Raw{to}).Record("x", 0, b.Records[0], b.Data); err != nil {
				t.Fatal(err)
			}
			to.BeginLine()
			to.BeginLine()
			if got := errOut.String(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// Jobs that write at once share no line.
func TestLinesShared(t *testing.T) {
	var out bytes.Buffer
	to := &Streams{Out: &out, Err: &out, Shared: true}
	var work sync.WaitGroup
	for i := range 8 {
		work.Go(func() {
			s := &Lines{To: to}
			for range 200 {
				for _, stream := range []hodeipb.Stream{hodeipb.Stream_STDOUT, hodeipb.Stream_STDERR} {
					text := fmt.Sprintf("%d-%s", i, StreamName(stream))
					for _, piece := range []string{text[:3], text[3:] + "\n" + text[:1], text[1:] + "\n"} {
						if err := s.Record("x", 0, &hodeipb.Record{Stream: stream}, []byte(piece)); err != nil {
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
	s := &Lines{To: &Streams{Out: failing{io.ErrShortWrite}, Err: io.Discard}}
	if err := s.Record("x", 0, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT}, []byte("a\n")); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
	if err := s.Record("x", 0, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT}, []byte("held")); err != nil {
		t.Errorf("got %v", err)
	}
	if err := s.Flush(); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("got %v", err)
	}
}

// failing is a writer that takes nothing.
type failing struct{ err error }

func (w failing) Write([]byte) (int, error) { return 0, w.err }
