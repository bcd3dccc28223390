package session

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// testFollower is of a job that writes to out and errOut, which are no terminals.
func testFollower(t *testing.T, out, errOut io.Writer, events string) *follower {
	t.Helper()
	a := newBeside(out, errOut)
	o := a.followed(Config{Teller: Teller{Spec: &job.Spec{Name: "hodei-x"}, Place: nowhere{}, Screen: a.screen(events != "")},
		Follow: true})
	if events != "" {
		o.Events = &output.Events{Out: out, YAML: events == "yaml"}
		o.Sink = o.Events
	}
	f := newFollower(&o)
	t.Cleanup(func() {
		f.display.Leave()
		<-f.display.Done()
	})
	return f
}

// nowhere is a place with a name.
type nowhere struct{ place.Place }

func (nowhere) Describe() string  { return "k8s (ns)" }
func (nowhere) Namespace() string { return "ns" }

func (nowhere) EBPFHint(*job.Outcome) string { return "" }

// attach has an attempt attach whose log begins at offset first.
func attach(t *testing.T, f *follower, attempt string, first uint64) *logstore.Log {
	t.Helper()
	log := testLog(t, attempt, first)
	f.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: attempt}, Log: log})
	return log
}

// What tests store and how.
var (
	batch   = outputtest.Batch
	testLog = outputtest.NewLog
	store   = outputtest.Store
)

var ran = &hodeipb.State{Phase: hodeipb.Phase_RUNNING}

var instant = regexp.MustCompile(`20[0-9]{2}-[^"\n]*`)

func TestEvents(t *testing.T) {
	for _, format := range []string{"json", "yaml"} {
		t.Run(format, func(t *testing.T) {
			var out, errOut bytes.Buffer
			f := testFollower(t, &out, &errOut, format)
			f.phase(job.Event{Phase: job.Submitted, Time: time.Now()})
			f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Waiting: true, Detail: "no node takes it: \"0/1\" nodes\x1b[31m"})
			f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Detail: "node1"})
			log := attach(t, f, "hodei-x-abcde", 1000)
			f.passages["hodei-x-abcde"] = output.NewPassage("hodei-x-abcde", log, 1000)
			f.agentUp = 0
			f.State("hodei-x-abcde", ran)
			store(t, log, batch(1000, "out:out\n", "err:é \x1b[1merr\r\n", 1<<40, "out:\xff\x00", "out:yes", "out:null"))
			f.phase(job.Event{Phase: job.Pulled, Time: time.Now()}) // too late to be of interest
			<-f.complete()
			if err := f.events.Exit(&job.Outcome{Cause: job.OOMKilled, Code: 137, Signal: 9, Message: "memory reached its limit",
				Started: time.Now(), Finished: time.Now()}, "kubectl hodei run --memory 1Gi"); err != nil {
				t.Error(err)
			}
			text := instant.ReplaceAllStringFunc(out.String(), func(s string) string {
				if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
					t.Errorf("time %q: %v", s, err)
				}
				return "TIME"
			})
			outputtest.Golden(t, "events."+format,
				regexp.MustCompile(`agent [0-9.]+s, command [0-9.]+s`).ReplaceAllString(text, "agent N, command N"))
			if errOut.Len() > 0 {
				t.Errorf("stderr: %q", errOut.String())
			}
		})
	}
}

// The output itself is passed on byte for byte, and only that is on stdout.
func TestOutput(t *testing.T) {
	var out, errOut bytes.Buffer
	f := testFollower(t, &out, &errOut, "")
	f.screen.Quiet = true
	log := attach(t, f, "x", 0)
	f.State("x", ran)
	store(t, log, batch(0, "out:a\x00\xff", "err:no newline", "out:\r"))
	store(t, log, batch(14, 42, "out:after"))
	<-f.complete()
	if got, want := out.String(), "a\x00\xff\rafter"; got != want {
		t.Errorf("stdout %q, want %q", got, want)
	}
	if got, want := errOut.String(), "no newline"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	const want = "42 bytes of x are missing from offset 14 on"
	got, hint, err := f.missing(&job.Outcome{Cause: job.Completed})
	if got != want || !strings.Contains(hint, "--log-spool") || err != nil {
		t.Errorf("missing %q, hint %q, %v; want %q", got, hint, err, want)
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

// An output that nobody takes ends the display, and neither the storing nor what
// is still to be said.
func TestOutputFails(t *testing.T) {
	for _, test := range []struct {
		name   string
		err    error
		events string
		writes int
	}{
		{"reader gone", syscall.EPIPE, "", 2},
		{"reader gone, events", syscall.EPIPE, "json", 4}, // two phases before
		{"disk full", syscall.ENOSPC, "", 2},
		{"disk full, events", syscall.ENOSPC, "yaml", 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := &failing{after: test.writes - 1, err: test.err}
			f := testFollower(t, w, io.Discard, test.events)
			log := attach(t, f, "x", 0)
			f.State("x", ran)
			for i := range 3 {
				store(t, log, batch(uint64(6*i), "out:ab", "out:cd", "out:ef"))
			}
			if err := <-f.display.Broken(); !errors.Is(err, test.err) {
				t.Errorf("reported %v", err)
			}
			f.phase(job.Event{Phase: job.Scheduled})
			attach(t, f, "y", 0)
			f.State("y", ran)
			<-f.complete()
			select {
			case err := <-f.display.Broken():
				t.Errorf("reported again: %v", err)
			default:
			}
			if w.writes != test.writes { // no more after the one that failed
				t.Errorf("%d writes, want %d", w.writes, test.writes)
			}
			if f.closed() != (test.err == syscall.EPIPE) {
				t.Errorf("closed is %t", f.closed())
			}
		})
	}
}

// Off a terminal the start is told in plain lines, each once.
func TestScreenWithoutTerminal(t *testing.T) {
	var out, errOut bytes.Buffer
	f := testFollower(t, &out, &errOut, "")
	now := func(after time.Duration) time.Time { return f.screen.Began.Add(after) }
	f.screen.Waiting("submitting")
	f.phase(job.Event{Phase: job.Submitted, Time: now(20 * time.Millisecond)})
	for range 2 {
		f.phase(job.Event{Phase: job.Scheduled, Waiting: true, Detail: "no node takes it: 0/1\x1b[2K nodes"})
	}
	f.phase(job.Event{Phase: job.Scheduled, Time: now(time.Second), Detail: "node1"})
	f.phase(job.Event{Phase: job.Pulling, Time: now(time.Second), Detail: "golang:1.26"})
	f.phase(job.Event{Phase: job.Pulled, Time: now(12 * time.Second), Detail: "pulled"})
	attach(t, f, "x-1", 0)
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
	<-f.complete()
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
	a := newBeside(io.Discard, &errOut)
	s := a.screen(true)
	s.Waiting("a")
	s.Phase(job.Event{Phase: job.Submitted, Time: time.Now()})
	s.Phase(job.Event{Phase: job.Scheduled, Waiting: true, Detail: "b"})
	s.Note("c")
	s.Summary(&job.Outcome{Cause: job.Error, Code: 1, Usage: &job.Usage{}}, nil)
	s.Stop()
	if errOut.Len() > 0 {
		t.Errorf("got %q", errOut.String())
	}
}

func TestFollowerAttempts(t *testing.T) {
	var out, errOut bytes.Buffer
	f := testFollower(t, &out, &errOut, "")
	f.exited = make(chan *hodeipb.ExitRecord, 1)
	first := attach(t, f, "x-1", 0)
	f.State("x-1", ran)
	store(t, first, batch(0, "out:one\n"))
	if err := first.SetExit(&hodeipb.ExitRecord{Cause: "Error", Code: 3, End: 4, StdoutEnd: 4}); err != nil {
		t.Fatal(err)
	}
	f.Exited("x-1", &hodeipb.ExitRecord{Cause: "Error", Code: 3})
	f.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1"}, Log: first}) // again, after a lost connection
	second := attach(t, f, "x-2", 0)
	f.State("x-1", ran) // late
	f.State("x-2", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: true})
	f.State("x-2", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: true})
	store(t, second, batch(0, "out:two\n"))
	f.Exited("x-2", &hodeipb.ExitRecord{Cause: "Completed"}) // more than the channel holds
	if record := <-f.exited; record.Code != 3 {
		t.Errorf("got %v", record)
	}
	<-f.complete()
	if got := out.String(); got != "one\ntwo\n" {
		t.Errorf("stdout %q", got)
	}
	text := errOut.String()
	for _, line := range []string{"running: ", "exit 3; next attempt: x-2\n", "the job waits: its output can't be stored fast enough\n"} {
		want := 1
		if line == "running: " {
			want = 2
		}
		if strings.Count(text, line) != want {
			t.Errorf("not %d times %q in %q", want, line, text)
		}
	}
}

// What is stored of an attempt is shown before its end is missed, and before what
// comes after.
func TestFollowerAbandons(t *testing.T) {
	var out bytes.Buffer
	f := testFollower(t, &out, io.Discard, "json")
	log := attach(t, f, "x-1", 0)
	store(t, log, batch(0, "out:half"))
	attach(t, f, "x-2", 0)
	f.State("x-2", ran)
	<-f.complete()
	types := regexp.MustCompile(`"(?:type":"(?:output|gap)|phase":"[a-z ]+)"`).FindAllString(out.String(), -1)
	want := []string{`"phase":"agent up"`, `"type":"output"`, `"type":"gap"`, `"phase":"agent up"`, `"phase":"running"`}
	if !slices.Equal(types, want) {
		t.Errorf("got  %q\nwant %q", types, want)
	}
	lost, _, err := f.missing(&job.Outcome{Cause: job.Completed})
	if want := "an unknown number of bytes of x-1 are missing from offset 4 on"; lost != want || err != nil {
		t.Errorf("missing %q, %v", lost, err)
	}
}

// Of an attempt whose command never started nothing is missing.
func TestFollowerUnstarted(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "json")
	attach(t, f, "x-1", 0)
	f.neverStarted("x-1")
	attach(t, f, "x-2", 0)
	f.neverStarted("x-2")
	<-f.complete()
	if lost, _, err := f.missing(&job.Outcome{Cause: job.AgentLost, NeverStarted: true, Attempt: "x-2"}); lost != "" || err != nil {
		t.Errorf("missing %q, %v", lost, err)
	}
}

func TestHush(t *testing.T) {
	var errOut bytes.Buffer
	f := testFollower(t, io.Discard, &errOut, "")
	f.hush()
	f.phase(job.Event{Phase: job.Scheduled, Time: time.Now(), Detail: "node1"})
	<-f.complete()
	if errOut.Len() > 0 {
		t.Errorf("got %q", errOut.String())
	}
}

// Who comes back to a terminal misses nothing of what was printed before.
func TestFollowerAtTerminal(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "")
	f.attached, f.terminal = true, &terminal.Terminal{}
	<-f.complete()
	if lost, _, err := f.missing(&job.Outcome{Cause: job.Completed, Attempt: "x-1", OutputBytes: 200}); lost != "" || err != nil {
		t.Errorf("missing %q, %v", lost, err)
	}
}
