package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/mem"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// follower is the coordinator's Follower of hodei run: it shows the start,
// passes the output on, and tells the session what it has to act on. Output is
// stored once it is written.
type follower struct {
	out, err io.Writer
	silent   bool
	screen   *screen
	events   *eventWriter
	describe string
	name     string

	// running is closed when the command runs; exited and broken carry the exit
	// record of an attempt and the error of a write.
	running chan struct{}
	exited  chan *hodeipb.ExitRecord
	broken  chan error

	// writing is held while output is written, which may take for ever; mu never is.
	writing sync.Mutex

	mu        sync.Mutex
	onRunning sync.Once
	attempt   string // the latest that attached
	stored    uint64 // of its output
	agentUp   time.Duration
	shown     bool // that its command runs
	ended     bool
	last      *hodeipb.ExitRecord
	lost      string // what is known to be missing of the output
	fullDisk  bool   // why it is
	failed    error
}

// exitedBuffer is more exit records than a session leaves unread: it takes each
// at once.
const exitedBuffer = 16

func newFollower(o *runOptions) *follower {
	return &follower{
		out: o.Out, err: o.ErrOut, silent: !o.follow, screen: o.screen, events: o.events,
		describe: o.place.Describe(), name: o.spec.Name,
		running: make(chan struct{}),
		exited:  make(chan *hodeipb.ExitRecord, exitedBuffer),
		broken:  make(chan error, 1),
	}
}

// phase shows what the provider reports.
func (f *follower) phase(e job.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown { // the command's output has the terminal
		return
	}
	if e.Phase == job.Submitted && !e.Waiting {
		e.Detail = f.name + " to " + f.describe
	}
	f.show(e)
}

// hush ends the display of a start that was taken back.
func (f *follower) hush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown = true
	f.screen.stop()
}

// show is called with f.mu held.
func (f *follower) show(e job.Event) {
	f.screen.phase(e)
	if err := f.events.phase(e); err != nil {
		f.fail(err)
	}
}

// fail is called with f.mu held.
func (f *follower) fail(err error) {
	if f.failed == nil {
		f.failed = err
		f.broken <- err
	}
}

// closed tells that whoever read our output has gone.
func (f *follower) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Is(f.failed, syscall.EPIPE)
}

// Attached starts the display of an attempt.
func (f *follower) Attached(hello *hodeipb.Hello) (stored uint64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attempt == hello.Attempt {
		return f.stored, nil
	}
	if f.last != nil {
		f.screen.note(fmt.Sprintf("%s; next attempt: %s", coordinator.Outcome(f.last).Summary(), hello.Attempt))
	}
	if f.attempt != "" && !f.ended && !f.silent {
		f.lose(f.attempt, f.stored, 0)
	}
	f.attempt, f.stored, f.shown, f.ended = hello.Attempt, 0, false, false
	f.agentUp = f.screen.elapsed()
	if f.events != nil {
		f.show(job.Event{Phase: job.AgentUp, Time: time.Now(), Detail: hello.Attempt})
	}
	return 0, nil
}

// State shows that the command runs, once an attempt.
func (f *follower) State(attempt string, state *hodeipb.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if state.Phase < hodeipb.Phase_RUNNING {
		f.screen.waiting("agent up, waiting for the command")
		return
	}
	f.onRunning.Do(func() { close(f.running) })
	if f.shown || attempt != f.attempt {
		return
	}
	f.show(job.Event{Phase: job.Running, Time: time.Now(), Detail: fmt.Sprintf("agent %s, command %s",
		job.Duration(f.agentUp), job.Duration(f.screen.elapsed()))})
	f.shown = true
	f.screen.stop()
}

// Output writes a batch.
func (f *follower) Output(_ context.Context, attempt string, b *hodeipb.Batch, data mem.BufferSlice) error {
	b.Data = data.Materialize()
	f.writing.Lock()
	defer f.writing.Unlock()
	f.mu.Lock()
	err := f.failed
	f.mu.Unlock()
	offset := b.Offset
	if err == nil {
		offset, err = f.writeAll(attempt, b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if attempt == f.attempt {
		f.stored = offset
	}
	if err == nil {
		return nil
	}
	f.fail(err)
	if errors.Is(err, syscall.EPIPE) {
		return nil // who closes a pipe has enough; the job is being stopped
	}
	return err
}

// writeAll writes a batch's records and returns the offset behind the last one
// that was written.
func (f *follower) writeAll(attempt string, b *hodeipb.Batch) (uint64, error) {
	data, offset := b.Data, b.Offset
	for _, r := range b.Records {
		if err := f.write(attempt, offset, r, data[:r.Length]); err != nil {
			return offset, err
		}
		data = data[r.Length:]
		offset += uint64(r.Length) + r.Lost
	}
	return offset, nil
}

// lose notes that output of an attempt is missing from offset on: n bytes of it,
// 0 if nobody knows. It is called with f.mu held.
func (f *follower) lose(attempt string, offset, n uint64) {
	amount := "an unknown number of"
	if n > 0 {
		amount = fmt.Sprint(n)
	}
	if f.lost == "" {
		f.lost = fmt.Sprintf("%s bytes of %s are missing from offset %d on", amount, attempt, offset)
	}
	if err := f.events.gap(attempt, offset, n); err != nil {
		f.fail(err)
	}
}

// missing says what the outcome's attempt has printed and we have not, or what
// was lost before, and what helps against it; empty: nothing.
func (f *follower) missing(o *job.Outcome) (lost, hint string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent {
		return "", ""
	}
	stored, attempt := f.stored, f.attempt
	if o.Attempt != "" && o.Attempt != f.attempt {
		stored, attempt = 0, o.Attempt
	}
	if o.OutputBytes > stored {
		f.lose(attempt, stored, o.OutputBytes-stored)
	}
	if f.fullDisk {
		return f.lost, "make room on the disk that the job runs on"
	}
	return f.lost, "let the Pod wait longer for its output to be fetched: --linger"
}

func (f *follower) write(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if r.Lost > 0 {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lose(attempt, offset, r.Lost)
		return nil
	}
	if f.events != nil {
		return f.events.output(attempt, offset, r, data)
	}
	w := f.out
	if r.Stream == hodeipb.Stream_STDERR {
		w = f.err
	}
	_, err := w.Write(data)
	return err
}

// Exited tells the session.
func (f *follower) Exited(attempt string, record *hodeipb.ExitRecord) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = record
	if record.Lost > 0 && !f.silent {
		f.fullDisk = true
		f.lose(attempt, record.End, record.Lost)
	}
	if attempt == f.attempt {
		f.ended = true
	}
	select {
	case f.exited <- record:
	default: // more attempts than were asked for: some did not count
	}
	return nil
}

// screen is what a person sees of a run, on stderr.
type screen struct {
	quiet, tty bool
	status     *ui.Status
	began      time.Time
}

func newScreen(a *app, quiet bool) *screen {
	t := ui.Detect(a.ErrOut, a.getenv)
	return &screen{quiet: quiet, tty: t.TTY, status: ui.NewStatus(a.ErrOut, t), began: time.Now()}
}

func (s *screen) elapsed() time.Duration { return time.Since(s.began) }

// waiting is for the spinner alone: in a log the phases tell enough.
func (s *screen) waiting(text string) {
	if s.tty && !s.quiet {
		s.status.Wait(text)
	}
}

func (s *screen) phase(e job.Event) {
	switch {
	case s.quiet:
	case e.Waiting:
		s.status.Wait(e.Detail)
	case e.Phase == job.Pulling:
		s.status.Wait("pulling " + e.Detail)
	case e.Phase == job.Running:
		s.status.Done(e.Phase.String(), e.Detail, 0)
	default:
		s.status.Done(e.Phase.String(), e.Detail, e.Time.Sub(s.began))
		s.waiting(next[e.Phase])
	}
}

// next is what is waited for after a phase.
var next = map[job.Phase]string{
	job.Submitted: "waiting for a node",
	job.Scheduled: "waiting for the images",
	job.Pulled:    "waiting for the agent",
	job.AgentUp:   "waiting for the command",
}

func (s *screen) note(text string) {
	if !s.quiet {
		s.status.Stop()
		s.status.Note(text)
	}
}

func (s *screen) summary(o *job.Outcome) {
	if !s.quiet {
		s.status.Summary(o.Cause == job.Completed, o.Summary())
	}
}

func (s *screen) stop() { s.status.Stop() }

// eventWriter writes all that happens as JSON, an object a line, or as YAML
// documents. A nil one writes nothing.
type eventWriter struct {
	out  io.Writer
	yaml bool
	mu   sync.Mutex
}

// event is what the three kinds have in common.
type event struct {
	Type string    `json:"type"` // phase, output, gap or exit
	Time time.Time `json:"time"`
}

func (w *eventWriter) write(v any) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var b []byte
	var err error
	if w.yaml {
		if b, err = yaml.Marshal(v); err == nil {
			b = append([]byte("---\n"), b...)
		}
	} else if b, err = json.Marshal(v); err == nil {
		b = append(b, '\n')
	}
	if err == nil {
		_, err = w.out.Write(b)
	}
	return err
}

func (w *eventWriter) phase(e job.Event) error {
	return w.write(struct {
		event
		Phase   string `json:"phase"`
		Detail  string `json:"detail,omitempty"`
		Waiting bool   `json:"waiting,omitempty"`
	}{event{"phase", e.Time}, e.Phase.String(), e.Detail, e.Waiting})
}

// notInYAML matches what the YAML library writes as it is and its readers refuse
// or change.
var notInYAML = regexp.MustCompile(`[\x7f-\x{9f}\x{fffe}\x{ffff}]`)

// output writes a record: as text where it is text, else in base64.
func (w *eventWriter) output(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	read := time.Unix(0, r.TimeUnixNano)
	e := struct {
		event
		Attempt      string  `json:"attempt"`
		Stream       string  `json:"stream"`
		Offset       uint64  `json:"offset"`
		StreamOffset uint64  `json:"streamOffset"`
		Text         *string `json:"text,omitempty"`
		Base64       string  `json:"base64,omitempty"`
	}{event: event{"output", read}, Attempt: attempt, Stream: "stdout", Offset: offset, StreamOffset: r.StreamOffset}
	if r.Stream == hodeipb.Stream_STDERR {
		e.Stream = "stderr"
	}
	if utf8.Valid(data) && (!w.yaml || !notInYAML.Match(data)) {
		text := string(data)
		e.Text = &text
	} else {
		e.Base64 = base64.StdEncoding.EncodeToString(data)
	}
	return w.write(e)
}

// gap says that output is missing: n bytes, 0 if nobody knows how many.
func (w *eventWriter) gap(attempt string, offset, n uint64) error {
	return w.write(struct {
		event
		Attempt string `json:"attempt"`
		Offset  uint64 `json:"offset"`
		Lost    uint64 `json:"lost,omitempty"`
	}{event{"gap", time.Now()}, attempt, offset, n})
}

func (w *eventWriter) exit(o *job.Outcome, hint string) error {
	shown := *o
	shown.Message = ui.Printable(o.Message)
	return w.write(struct {
		event
		*job.Outcome
		ExitCode int    `json:"exitCode"`
		Hint     string `json:"hint,omitempty"`
	}{event{"exit", time.Now()}, &shown, o.ExitCode(), hint})
}
