package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -run %s -update writes it anew)\n got:\n%s\nwant:\n%s", path, t.Name(), got, want)
	}
}

// batch makes one of records, each "out:text", "err:text" or a number of lost bytes.
func batch(offset uint64, records ...any) *hodeipb.Batch {
	b := &hodeipb.Batch{Offset: offset}
	at := time.Date(2025, 6, 1, 12, 0, 0, 5000, time.UTC)
	streams := map[string]uint64{}
	for _, r := range records {
		record := &hodeipb.Record{TimeUnixNano: at.UnixNano()}
		at = at.Add(time.Second)
		switch r := r.(type) {
		case int:
			record.Lost = uint64(r)
		case string:
			kind, text, _ := strings.Cut(r, ":")
			record.Stream = map[string]hodeipb.Stream{"out": hodeipb.Stream_STDOUT, "err": hodeipb.Stream_STDERR}[kind]
			record.Length, record.StreamOffset = uint32(len(text)), streams[kind]
			streams[kind] += uint64(len(text))
			b.Data = append(b.Data, text...)
		}
		b.Records = append(b.Records, record)
	}
	return b
}

// testFollower is of a job that writes to out and errOut, which are no terminals.
func testFollower(out, errOut io.Writer, events string) *follower {
	a := &app{IOStreams: genericiooptions.IOStreams{Out: out, ErrOut: errOut}, name: "hodei", getenv: func(string) string { return "" }}
	f := &follower{out: out, err: errOut, screen: newScreen(a, events != ""), describe: "k8s (ns)", name: "hodei-x",
		running: make(chan struct{}), exited: make(chan *hodeipb.ExitRecord, 1), broken: make(chan error, 1)}
	if events != "" {
		f.events = &eventWriter{out: out, yaml: events == "yaml"}
	}
	return f
}

var instant = regexp.MustCompile(`20[0-9]{2}-[^"\n]*`)

func TestEvents(t *testing.T) {
	for _, format := range []string{"json", "yaml"} {
		t.Run(format, func(t *testing.T) {
			var out, errOut bytes.Buffer
			f := testFollower(&out, &errOut, format)
			f.phase(job.Event{Phase: job.Submitted, Time: time.Now()})
			f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Waiting: true, Detail: "no node takes it: \"0/1\" nodes\x1b[31m"})
			f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Detail: "node1"})
			attach(f, &hodeipb.Hello{Attempt: "hodei-x-abcde"})
			f.State("hodei-x-abcde", &hodeipb.State{Phase: hodeipb.Phase_RUNNING})
			f.agentUp = 0
			if err := output(f, "hodei-x-abcde", batch(1000, "out:out\n", "err:é \x1b[1merr\r\n", 1<<40, "out:\xff\x00", "out:yes", "out:")); err != nil {
				t.Error(err)
			}
			f.phase(job.Event{Phase: job.Pulled, Time: time.Now()}) // too late to be of interest
			if err := f.events.exit(&job.Outcome{Cause: job.OOMKilled, Code: 137, Signal: 9, Message: "memory reached its limit",
				Started: time.Now(), Finished: time.Now()}, "kubectl hodei run --memory 1Gi"); err != nil {
				t.Error(err)
			}
			text := instant.ReplaceAllStringFunc(out.String(), func(s string) string {
				if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
					t.Errorf("time %q: %v", s, err)
				}
				return "TIME"
			})
			golden(t, "events."+format, regexp.MustCompile(`agent [0-9.]+s, command [0-9.]+s`).ReplaceAllString(text, "agent N, command N"))
			if errOut.Len() > 0 {
				t.Errorf("stderr: %q", errOut.String())
			}
		})
	}
}

// A program that reads the events gets every byte of the output back.
func FuzzEvents(f *testing.F) {
	for _, s := range []string{"", "a", "\n", "null", "yes", "1e3", "~", " a ", "\t", "\x00", "\xff", "\r\n", "\u0085\u2028\ufeff", "--- |\n", "<&>", "\ufffd", "é"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range []string{"json", "yaml"} {
			var out bytes.Buffer
			w := &eventWriter{out: &out, yaml: format == "yaml"}
			if err := w.output("a", 1, &hodeipb.Record{Stream: hodeipb.Stream_STDOUT, Length: uint32(len(data))}, data); err != nil {
				t.Fatal(err)
			}
			var e struct{ Text, Base64 string }
			decode := json.Unmarshal
			if format == "yaml" {
				decode = func(b []byte, v any) error { return yaml.Unmarshal(b, v) }
			} else if bytes.Count(out.Bytes(), []byte("\n")) != 1 {
				t.Errorf("json: more than a line: %q", out.Bytes())
			}
			if err := decode(out.Bytes(), &e); err != nil {
				t.Fatalf("%s of %q: %v\n%s", format, data, err, out.Bytes())
			}
			got := []byte(e.Text)
			if e.Base64 != "" {
				got, _ = base64.StdEncoding.DecodeString(e.Base64)
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%s: %q comes back as %q from\n%s", format, data, got, out.Bytes())
			}
		}
	})
}

// The output itself is passed on byte for byte, and only that is on stdout.
func TestOutput(t *testing.T) {
	var out, errOut bytes.Buffer
	f := testFollower(&out, &errOut, "")
	for _, b := range []*hodeipb.Batch{
		batch(0, "out:a\x00\xff", "err:no newline", "out:\r"),
		batch(100, 42, "out:after"),
		batch(200),
	} {
		if err := output(f, "x", b); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := out.String(), "a\x00\xff\rafter"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got, want := errOut.String(), "no newline"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	if got, hint := f.missing(&job.Outcome{}); got != "42 bytes of x are missing from offset 100 on" || !strings.Contains(hint, "--linger") {
		const want = "42 bytes of x are missing from offset 100 on"
		t.Errorf("missing %q, want %q", got, want)
	}
}

// failing is a writer that fails after some writes, and counts all of them.
type failing struct {
	after, writes int
	err           error
}

func (w *failing) Write(p []byte) (int, error) {
	if w.writes++; w.writes > w.after {
		return 0, &os.PathError{Op: "write", Path: "|1", Err: w.err}
	}
	return len(p), nil
}

func TestOutputFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		events string
		stored bool // to the agent it looks as if all had been stored
	}{
		{"reader gone", syscall.EPIPE, "", true},
		{"reader gone, events", syscall.EPIPE, "json", true},
		{"disk full", syscall.ENOSPC, "", false},
		{"disk full, events", syscall.ENOSPC, "yaml", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &failing{after: 1, err: test.err}
			f := testFollower(w, io.Discard, test.events)
			for i := range 3 {
				err := output(f, "x", batch(uint64(10*i), "out:ab", "out:cd", "out:ef"))
				if (err == nil) != test.stored || err != nil && !errors.Is(err, test.err) {
					t.Errorf("batch %d: %v", i, err)
				}
			}
			if w.writes != 2 { // no more after the one that failed
				t.Errorf("%d writes", w.writes)
			}
			if err := <-f.broken; !errors.Is(err, test.err) {
				t.Errorf("reported %v", err)
			}
			if f.events != nil { // a phase meets the same error, and does not block
				f.phase(job.Event{Phase: job.Scheduled})
				attach(f, &hodeipb.Hello{Attempt: "x"})
			}
			select {
			case err := <-f.broken:
				t.Errorf("reported again: %v", err)
			default:
			}
			if f.closed() != test.stored {
				t.Errorf("closed is %t", f.closed())
			}
		})
	}
}

// Off a terminal the start is told in plain lines, each once.
func TestScreenWithoutTerminal(t *testing.T) {
	var out, errOut bytes.Buffer
	f := testFollower(&out, &errOut, "")
	now := func(after time.Duration) time.Time { return f.screen.began.Add(after) }
	f.screen.waiting("submitting")
	f.phase(job.Event{Phase: job.Submitted, Time: now(20 * time.Millisecond)})
	for range 2 {
		f.phase(job.Event{Phase: job.Scheduled, Waiting: true, Detail: "no node takes it: 0/1\x1b[2K nodes"})
	}
	f.phase(job.Event{Phase: job.Scheduled, Time: now(time.Second), Detail: "node1"})
	f.phase(job.Event{Phase: job.Pulling, Time: now(time.Second), Detail: "golang:1.26"})
	f.phase(job.Event{Phase: job.Pulled, Time: now(12 * time.Second), Detail: "pulled"})
	attach(f, &hodeipb.Hello{Attempt: "x-1"})
	f.State("x-1", &hodeipb.State{Phase: hodeipb.Phase_WAITING})
	select {
	case <-f.running:
		t.Error("it runs already")
	default:
	}
	for range 2 {
		f.State("x-1", &hodeipb.State{Phase: hodeipb.Phase_RUNNING})
	}
	<-f.running
	f.phase(job.Event{Phase: job.Pulled, Time: now(13 * time.Second), Detail: "late"})
	lines := strings.Split(errOut.String(), "\n")
	want := []string{
		"submitted: hodei-x to k8s (ns) (0.02s)",
		"no node takes it: 0/1[2K nodes",
		"scheduled: node1 (1.00s)",
		"pulling golang:1.26",
		"image: pulled (12.0s)",
		"running: agent ",
		"",
	}
	if !slices.EqualFunc(lines, want, strings.HasPrefix) || strings.ContainsAny(errOut.String(), "\x1b\r") {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
	if out.Len() > 0 {
		t.Errorf("stdout: %q", out.String())
	}
}

func TestScreenQuiet(t *testing.T) {
	var errOut bytes.Buffer
	a := &app{IOStreams: genericiooptions.IOStreams{ErrOut: &errOut}, getenv: func(string) string { return "" }}
	s := newScreen(a, true)
	s.waiting("a")
	s.phase(job.Event{Phase: job.Submitted, Time: time.Now()})
	s.phase(job.Event{Phase: job.Scheduled, Waiting: true, Detail: "b"})
	s.note("c")
	s.summary(&job.Outcome{Cause: job.Error, Code: 1})
	s.stop()
	if errOut.Len() > 0 {
		t.Errorf("got %q", errOut.String())
	}
}

func TestFollowerAttempts(t *testing.T) {
	var errOut bytes.Buffer
	f := testFollower(io.Discard, &errOut, "")
	attach(f, &hodeipb.Hello{Attempt: "x-1"})
	f.State("x-1", &hodeipb.State{Phase: hodeipb.Phase_RUNNING})
	f.Exited("x-1", &hodeipb.ExitRecord{Cause: "Error", Code: 3})
	attach(f, &hodeipb.Hello{Attempt: "x-1"}) // the same one again, after a lost connection
	attach(f, &hodeipb.Hello{Attempt: "x-2"})
	f.State("x-1", &hodeipb.State{Phase: hodeipb.Phase_RUNNING}) // late
	f.State("x-2", &hodeipb.State{Phase: hodeipb.Phase_RUNNING})
	f.Exited("x-2", &hodeipb.ExitRecord{Cause: "Completed"}) // more than the channel holds
	if record := <-f.exited; record.Code != 3 {
		t.Errorf("got %v", record)
	}
	want := []string{"running: ", "exit 3; next attempt: x-2", "running: ", ""}
	if got := strings.Split(errOut.String(), "\n"); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestHush(t *testing.T) {
	var errOut bytes.Buffer
	f := testFollower(io.Discard, &errOut, "")
	f.hush()
	f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Detail: "node1"})
	if errOut.Len() > 0 {
		t.Errorf("got %q", errOut.String())
	}
}

func attach(f *follower, hello *hodeipb.Hello) {
	if _, err := f.Attached(hello); err != nil {
		panic(err)
	}
}

func output(f *follower, attempt string, b *hodeipb.Batch) error {
	return f.Output(context.Background(), attempt, b, mem.BufferSlice{mem.SliceBuffer(b.Data)})
}
