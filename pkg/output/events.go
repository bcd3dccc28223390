package output

import (
	"encoding/base64"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/hodei-jobs/hodei/pkg/document"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Events writes all that happens as JSON, an object a line, or as YAML documents. It is a [Sink],
// too. A nil one writes nothing. All methods may be called at once; their errors are those of Out.
type Events struct {
	Out io.Writer
	// YAML chooses YAML in place of JSON.
	YAML bool

	mu sync.Mutex
}

// Event is what all kinds of events have in common.
type Event struct {
	Type string    `json:"type"` // phase, output, gap, note, usage, attempt or exit
	Time time.Time `json:"time"`
}

// Write writes an event of any kind; v is a struct that embeds [Event].
func (w *Events) Write(v any) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := w.marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Out.Write(b)
	return err
}

func (w *Events) marshal(v any) ([]byte, error) {
	if !w.YAML {
		return document.JSON(v, "")
	}
	b, err := document.YAML(v, "")
	return append([]byte("---\n"), b...), err
}

// Phase writes a step of the way to the command.
func (w *Events) Phase(e job.Event) error {
	return w.Write(struct {
		Event
		Phase   string `json:"phase"`
		Detail  string `json:"detail,omitempty"`
		Waiting bool   `json:"waiting,omitempty"`
	}{Event{"phase", e.Time}, e.Phase.String(), e.Detail, e.Waiting})
}

// Record writes a record: as text where it is text, else in base64.
func (w *Events) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	e := newOutputEvent(attempt, r)
	e.Offset, e.StreamOffset = &offset, &r.StreamOffset
	return w.output(e, data)
}

// outputEvent is a record as an event.
type outputEvent struct {
	Event
	Attempt      string  `json:"attempt"`
	Stream       string  `json:"stream,omitempty"`       // empty: unknown
	Offset       *uint64 `json:"offset,omitempty"`       // nil: it has none,
	StreamOffset *uint64 `json:"streamOffset,omitempty"` // as this
	Text         *string `json:"text,omitempty"`
	Base64       string  `json:"base64,omitempty"`
}

func newOutputEvent(attempt string, r *hodeipb.Record) outputEvent {
	e := outputEvent{Event: Event{"output", time.Unix(0, r.TimeUnixNano)}, Attempt: attempt}
	if r.Stream != hodeipb.Stream_STREAM_UNSPECIFIED {
		e.Stream = StreamName(r.Stream)
	}
	return e
}

// output writes e with data in it.
func (w *Events) output(e outputEvent, data []byte) error {
	if utf8.Valid(data) && (!w.YAML || job.FitsYAML(data)) {
		text := string(data)
		e.Text = &text
	} else {
		e.Base64 = base64.StdEncoding.EncodeToString(data)
	}
	return w.Write(e)
}

// Flush has nothing to do: an event is written whole.
func (w *Events) Flush() error { return nil }

// Gap writes that output is missing.
func (w *Events) Gap(g Gap) error {
	damage, offset := "", &g.Offset
	if g.Damage != nil {
		damage = g.Damage.Error()
	}
	if g.ContainerLog {
		offset = nil
	}
	return w.Write(struct {
		Event
		Attempt string  `json:"attempt"`
		Offset  *uint64 `json:"offset,omitempty"` // nil: it has none
		Lost    uint64  `json:"lost,omitempty"`   // 0: nobody knows how many bytes
		Damage  string  `json:"damage,omitempty"`
	}{Event{"gap", time.Now()}, g.Attempt, offset, g.Bytes, damage})
}

// Note writes what a reader of the output has to know about it.
func (w *Events) Note(text string) error {
	return w.Write(struct {
		Event
		Text string `json:"text"`
	}{Event{"note", time.Now()}, text})
}

// Usage writes what an attempt has used up to a time, which is that of its agent's clock.
func (w *Events) Usage(attempt string, s job.Sample) error {
	return w.Write(struct {
		Event
		Attempt string    `json:"attempt"`
		Usage   job.Usage `json:"usage"`
	}{Event{"usage", s.Time}, attempt, PrintableUsage(s.Usage)})
}

// PrintableUsage returns u with the one word in it that the job has chosen, the name of an OOM
// victim, made printable. What u points to is not changed.
func PrintableUsage(u job.Usage) job.Usage {
	if v := u.Memory.OOMVictim; v != nil {
		shown := *v
		shown.Name = ui.Printable(v.Name)
		u.Memory.OOMVictim = &shown
	}
	return u
}

// PrintableOutcome returns a copy of o with the words in it that the job has chosen made printable.
func PrintableOutcome(o *job.Outcome) *job.Outcome {
	shown := *o
	shown.Message = ui.Printable(o.Message)
	if o.Usage != nil {
		usage := PrintableUsage(*o.Usage)
		shown.Usage = &usage
	}
	return &shown
}

// Exit writes how a job has ended, and what can be typed then; hint may be empty.
func (w *Events) Exit(o *job.Outcome, hint string) error { return w.end("exit", o, hint) }

// Attempt writes how an attempt has ended that another one follows.
func (w *Events) Attempt(o *job.Outcome) error { return w.end("attempt", o, "") }

func (w *Events) end(kind string, o *job.Outcome, hint string) error {
	return w.Write(struct {
		Event
		*job.Outcome
		ExitCode int    `json:"exitCode"`
		Hint     string `json:"hint,omitempty"`
	}{Event{kind, time.Now()}, PrintableOutcome(o), o.ExitCode(), hint})
}

// unplacedEvents writes records without offsets.
type unplacedEvents struct{ *Events }

func (w unplacedEvents) Record(attempt string, _ uint64, r *hodeipb.Record, data []byte) error {
	return w.output(newOutputEvent(attempt, r), data)
}
