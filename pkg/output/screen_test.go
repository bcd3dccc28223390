package output

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// The cost stands behind a short end, and before a long one.
func TestSummaryPlain(t *testing.T) {
	began := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	var samples []job.Sample // enough for curves, which are for a terminal
	for i := range 20 {
		samples = append(samples, job.Sample{Time: began.Add(time.Duration(i) * time.Second),
			Usage: job.Usage{CPU: job.CPUUsage{Total: new(time.Duration(i) * time.Second)}}})
	}
	usage := &job.Usage{CPU: job.CPUUsage{Total: new(2 * time.Second)}}
	for _, test := range []struct {
		name    string
		outcome job.Outcome
		want    string
	}{
		{"success", job.Outcome{Cause: job.Completed, Started: began, Finished: began.Add(time.Second), Usage: usage},
			"exit 0 in 1.00s, cpu 2.00s\n"},
		{"no usage", job.Outcome{Cause: job.Completed, Started: began, Finished: began.Add(time.Second)}, "exit 0 in 1.00s\n"},
		{"no figures", job.Outcome{Cause: job.Error, Code: 3, Usage: &job.Usage{}}, "exit 3\n"},
		{"a message", job.Outcome{Cause: job.Completed, Message: "held open", Usage: usage}, "used cpu 2.00s\nexit 0: held open\n"},
		{"a message and no usage", job.Outcome{Cause: job.Completed, Message: "held open"}, "exit 0: held open\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			NewScreen(&Streams{Err: &out}, false, nil).Summary(&test.outcome, samples)
			if out.String() != test.want {
				t.Errorf("got  %q\nwant %q", out.String(), test.want)
			}
		})
	}
}

// While a screen is held it writes nothing, and then the notes that have come.
func TestScreenHeld(t *testing.T) {
	var out bytes.Buffer
	s := NewScreen(&Streams{Err: &out}, false, nil)
	s.Note("before")
	s.Hold()
	s.Note("a note")
	s.Waiting("waiting")
	s.Phase(job.Event{Phase: job.Scheduled, Detail: "node1"})
	for range 2 * heldNotes {
		s.Note("more")
	}
	if got := out.String(); got != "before\n" {
		t.Errorf("%q was written while it was held", got)
	}
	s.Release()
	s.Release()
	s.Note("after")
	want := "before\na note\n" + strings.Repeat("more\n", heldNotes-1) + "after\n"
	if got := out.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	out.Reset()
	quiet := NewScreen(&Streams{Err: &out}, true, nil)
	quiet.Hold()
	quiet.Note("a note")
	quiet.Release()
	if out.Len() > 0 {
		t.Errorf("a quiet screen has written %q", out.String())
	}
}
