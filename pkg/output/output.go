// Package output writes what jobs print and what happens to them: as raw bytes, as decorated lines,
// or as events in JSON or YAML. Start with [Streams], which everything that is shown shares;
// [Streams.Sinks] makes the [Sink] of each job, a [Display] writes at the reader's pace what a
// [Passage] reads from a log, and [Events] writes objects for a program.
//
// It fetches nothing and decides nothing about jobs. It knows no flag, reads no environment, and
// takes its writers, and what their terminals can do, from the caller.
package output

import (
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Sink takes the output of a job. An error is that of the writer behind it, after which it is
// called no more. A Sink is used by one goroutine at a time.
type Sink interface {
	// Record takes the bytes of one record, which lie at offset of the attempt's output. The sink
	// does not keep data.
	Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error
	// Gap takes that some of the output is missing.
	Gap(g Gap) error
	// Flush takes that the output of an attempt has ended.
	Flush() error
}

// Gap is output of an attempt that is missing.
type Gap struct {
	Attempt string
	Offset  uint64 // where it begins, in bytes of the attempt's output
	Bytes   uint64 // how many are missing; 0: nobody knows
	Damage  error  // what is wrong with the stored bytes; nil: they were dropped, or never came
	// ContainerLog is true if the output came from a container's log, whose bytes have no offsets.
	ContainerLog bool
	// Of is how many bytes a container's log should have; 0: nobody knows.
	Of uint64
}

// String says in one line what is missing.
func (g Gap) String() string {
	amount := "an unknown number of"
	if g.Bytes > 0 {
		amount = fmt.Sprint(g.Bytes)
	}
	if g.Of > 0 && g.Bytes > 0 {
		amount += fmt.Sprintf(" of %d", g.Of)
	}
	if g.ContainerLog {
		return fmt.Sprintf("%s bytes of %s are missing from its container's log", amount, g.Attempt)
	}
	text := fmt.Sprintf("%s bytes of %s are missing from offset %d on", amount, g.Attempt, g.Offset)
	if g.Damage != nil {
		text += ": " + g.Damage.Error()
	}
	return text
}

// Options say how the output of jobs is shown. The zero value passes it on byte for byte.
type Options struct {
	// Events, if not nil, writes all records as events; Lines, Timestamps and Prefix don't count then.
	Events *Events
	// Lines writes whole lines, because other jobs write to the same streams.
	Lines bool
	// Timestamps begins each line with the time at which its first byte was read.
	Timestamps bool
	// Prefix begins each line with the names of the job and the stream, coloured by the job's name.
	Prefix bool
	// Stream is the one that is shown; STREAM_UNSPECIFIED: both.
	Stream hodeipb.Stream
}

// Sinks returns a function that makes the sink of each job. Sinks of different jobs may be used at
// once if o has Events or makes lines.
func (s *Streams) Sinks(o Options) func(job string) Sink {
	return func(job string) Sink {
		sink := s.sink(o, job)
		if o.Stream != hodeipb.Stream_STREAM_UNSPECIFIED {
			return oneStream{sink, o.Stream}
		}
		return sink
	}
}

func (s *Streams) sink(o Options, job string) Sink {
	switch {
	case o.Events != nil:
		return o.Events
	case o.Prefix:
		return &Lines{To: s, Timestamps: o.Timestamps, Prefix: s.prefixes(job)}
	case o.Lines || o.Timestamps:
		return &Lines{To: s, Timestamps: o.Timestamps}
	}
	return Raw{s}
}

// prefixes returns a job's prefix on each stream. That of an unknown stream, which a container's
// log has, names the job alone, and is written to stdout.
func (s *Streams) prefixes(job string) func(hodeipb.Stream) string {
	named := ui.Printable(job)
	both := s.OutTerminal.Tint("["+named+"]", job)
	stdout := s.OutTerminal.Tint("["+named+" stdout]", job)
	stderr := s.ErrTerminal.Tint("["+named+" stderr]", job)
	return func(stream hodeipb.Stream) string {
		switch stream {
		case hodeipb.Stream_STDOUT:
			return stdout
		case hodeipb.Stream_STDERR:
			return stderr
		}
		return both
	}
}

// StreamName returns "stderr" for stderr, else "stdout".
func StreamName(s hodeipb.Stream) string {
	if s == hodeipb.Stream_STDERR {
		return "stderr"
	}
	return "stdout"
}

// oneStream passes on the records of one stream, and all gaps.
type oneStream struct {
	Sink
	stream hodeipb.Stream
}

func (s oneStream) Record(attempt string, offset uint64, r *hodeipb.Record, data []byte) error {
	if r.Stream != s.stream {
		return nil
	}
	return s.Sink.Record(attempt, offset, r, data)
}

// Unplaced returns the sink to show a container's log with, in place of s, and the events that it
// writes; nil: it writes none. The bytes of such a log have no offsets, so that events must not
// make them up; and the log was asked for the one stream that is wanted.
func Unplaced(s Sink) (Sink, *Events) {
	switch s := s.(type) {
	case oneStream:
		return Unplaced(s.Sink)
	case *tamed:
		inner, events := Unplaced(s.Sink)
		return Tame(inner), events
	case *Events:
		return unplacedEvents{s}, s
	}
	return s, nil
}
