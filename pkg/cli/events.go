package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// eventWriter writes all that happens as JSON, an object a line, or as YAML
// documents. A nil one writes nothing.
type eventWriter struct {
	out  io.Writer
	yaml bool
	mu   sync.Mutex
}

// event is what all kinds have in common.
type event struct {
	Type string    `json:"type"` // phase, output, gap, note, usage, attempt or exit
	Time time.Time `json:"time"`
}

func (w *eventWriter) write(v any) error {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	b, err := marshal(v, w.yaml, "")
	if w.yaml {
		b = append([]byte("---\n"), b...)
	}
	if err == nil {
		_, err = w.out.Write(b)
	}
	return err
}

// escaped is JSON in which what could command a terminal, or turn the order of a line
// around, is written as \u: strings in it are the job's choice, and JSON itself escapes
// nothing above the ASCII controls.
func escaped(b []byte) []byte {
	if bytes.IndexFunc(b, isTerminalControl) < 0 {
		return b
	}
	var out []byte
	for len(b) > 0 {
		r, n := utf8.DecodeRune(b)
		if isTerminalControl(r) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, b[:n]...)
		}
		b = b[n:]
	}
	return out
}

// isTerminalControl reports whether r is DEL, a C1 control, a Unicode format character (a bidi
// override is one) or one of the two noncharacters that YAML's readers refuse. No format
// character above U+FFFF does anything to a terminal.
func isTerminalControl(r rune) bool {
	return r >= 0x7f && r <= 0xffff && (unicode.In(r, unicode.Cc, unicode.Cf) || r >= 0xfffe)
}

// marshal is v as JSON, with what indents it, or as YAML. The library of the latter refuses
// such signs, or writes them as they are: where there are some it is JSON, which is YAML too.
func marshal(v any, inYAML bool, indent string) ([]byte, error) {
	b, err := json.Marshal(v)
	if err == nil && indent != "" {
		var indented bytes.Buffer
		err = json.Indent(&indented, b, "", indent)
		b = indented.Bytes()
	}
	if err == nil && inYAML && plain(b) {
		return yaml.Marshal(v)
	}
	return escaped(append(b, '\n')), err
}

// plain tells whether JSON can be written as YAML that reads the same and does nothing to
// a terminal.
func plain(b []byte) bool { return bytes.IndexFunc(b, isTerminalControl) < 0 }

func (w *eventWriter) phase(e job.Event) error {
	return w.write(struct {
		event
		Phase   string `json:"phase"`
		Detail  string `json:"detail,omitempty"`
		Waiting bool   `json:"waiting,omitempty"`
	}{event{"phase", e.Time}, e.Phase.String(), e.Detail, e.Waiting})
}

// record writes a record: as text where it is text, else in base64.
func (w *eventWriter) record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	e := newOutputEvent(attempt, r)
	e.Offset, e.StreamOffset = &offset, &r.StreamOffset
	return w.output(e, data)
}

// outputEvent is a record as an event.
type outputEvent struct {
	event
	Attempt      string  `json:"attempt"`
	Stream       string  `json:"stream,omitempty"`       // empty: unknown
	Offset       *uint64 `json:"offset,omitempty"`       // nil: it has none,
	StreamOffset *uint64 `json:"streamOffset,omitempty"` // as this
	Text         *string `json:"text,omitempty"`
	Base64       string  `json:"base64,omitempty"`
}

func newOutputEvent(attempt string, r *hodeipb.Record) outputEvent {
	e := outputEvent{event: event{"output", time.Unix(0, r.TimeUnixNano)}, Attempt: attempt}
	if r.Stream != hodeipb.Stream_STREAM_UNSPECIFIED {
		e.Stream = streamName(r.Stream)
	}
	return e
}

func (w *eventWriter) output(e outputEvent, data []byte) error {
	if utf8.Valid(data) && (!w.yaml || job.FitsYAML(data)) {
		text := string(data)
		e.Text = &text
	} else {
		e.Base64 = base64.StdEncoding.EncodeToString(data)
	}
	return w.write(e)
}

// flush has nothing to do: an event is written whole.
func (w *eventWriter) flush() error { return nil }

// gap says that output is missing.
func (w *eventWriter) gap(g gap) error {
	damage, offset := "", &g.offset
	if g.damage != nil {
		damage = g.damage.Error()
	}
	if g.log {
		offset = nil
	}
	return w.write(struct {
		event
		Attempt string  `json:"attempt"`
		Offset  *uint64 `json:"offset,omitempty"` // nil: it has none
		Lost    uint64  `json:"lost,omitempty"`   // 0: nobody knows how many bytes
		Damage  string  `json:"damage,omitempty"`
	}{event{"gap", time.Now()}, g.attempt, offset, g.bytes, damage})
}

// note says what a reader of the output has to know of it.
func (w *eventWriter) note(text string) error {
	return w.write(struct {
		event
		Text string `json:"text"`
	}{event{"note", time.Now()}, text})
}

// usage tells what an attempt has used up to a time, which is its agent's.
func (w *eventWriter) usage(attempt string, s job.Sample) error {
	return w.write(struct {
		event
		Attempt string    `json:"attempt"`
		Usage   job.Usage `json:"usage"`
	}{event{"usage", s.Time}, attempt, printableUsage(s.Usage)})
}

// printableUsage is a usage with the one word in it that the job has chosen made
// printable.
func printableUsage(u job.Usage) job.Usage {
	if v := u.Memory.OOMVictim; v != nil {
		shown := *v
		shown.Name = ui.Printable(v.Name)
		u.Memory.OOMVictim = &shown
	}
	return u
}

func (w *eventWriter) exit(o *job.Outcome, hint string) error { return w.end("exit", o, hint) }

// attempt tells the end of one that another one follows.
func (w *eventWriter) attempt(o *job.Outcome) error { return w.end("attempt", o, "") }

func (w *eventWriter) end(kind string, o *job.Outcome, hint string) error {
	shown := *o
	shown.Message = ui.Printable(o.Message)
	if o.Usage != nil {
		usage := printableUsage(*o.Usage)
		shown.Usage = &usage
	}
	return w.write(struct {
		event
		*job.Outcome
		ExitCode int    `json:"exitCode"`
		Hint     string `json:"hint,omitempty"`
	}{event{kind, time.Now()}, &shown, o.ExitCode(), hint})
}
