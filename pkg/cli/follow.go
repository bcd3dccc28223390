package cli

import (
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

	mu        sync.Mutex
	onRunning sync.Once
	attempt   string // the latest that attached
	agentUp   time.Duration
	shown     bool // that its command runs
	ended     bool
	last      *hodeipb.ExitRecord
	failed    error
}

func newFollower(o *runOptions) *follower {
	return &follower{
		out: o.Out, err: o.ErrOut, silent: !o.follow, screen: o.screen, events: o.events,
		describe: o.place.Describe(), name: o.spec.Name,
		running: make(chan struct{}),
		exited:  make(chan *hodeipb.ExitRecord, o.spec.Retries+1),
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
func (f *follower) Attached(hello *hodeipb.Hello, stored uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.attempt == hello.Attempt {
		return
	}
	if f.last != nil {
		f.screen.note(fmt.Sprintf("%s; next attempt: %s", coordinator.Outcome(f.last).Summary(), hello.Attempt))
	}
	f.attempt, f.shown, f.ended = hello.Attempt, false, false
	f.agentUp = f.screen.elapsed()
	if f.events != nil {
		f.show(job.Event{Phase: job.AgentUp, Time: time.Now(), Detail: hello.Attempt})
	}
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
func (f *follower) Output(attempt string, b *hodeipb.Batch) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(f.failed, syscall.EPIPE):
		return nil // who closes a pipe has enough; the job is being stopped
	case f.failed != nil:
		return f.failed
	}
	data, offset := b.Data, b.Offset
	for _, r := range b.Records {
		bytes := data[:r.Length]
		data = data[r.Length:]
		if err := f.write(attempt, offset, r, bytes); err != nil {
			f.fail(err)
			if errors.Is(err, syscall.EPIPE) {
				return nil
			}
			return err
		}
		offset += uint64(r.Length) + r.Lost
	}
	return nil
}

func (f *follower) write(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if f.events != nil {
		return f.events.output(attempt, offset, r, data)
	}
	if r.Lost > 0 {
		f.screen.note(fmt.Sprintf("lost %d bytes of output at offset %d", r.Lost, offset))
		return nil
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
	if attempt == f.attempt {
		f.ended = true
	}
	select {
	case f.exited <- record:
	default: // more attempts than were asked for: some did not count
	}
	return nil
}

// warnIncomplete says so when the end of the output never came.
func (f *follower) warnIncomplete() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.silent && !f.ended {
		f.screen.note("the connection to the agent was lost before the end: output is missing")
	}
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
	if r.Lost > 0 {
		return w.write(struct {
			event
			Attempt string `json:"attempt"`
			Offset  uint64 `json:"offset"`
			Lost    uint64 `json:"lost"`
		}{event{"gap", read}, attempt, offset, r.Lost})
	}
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
