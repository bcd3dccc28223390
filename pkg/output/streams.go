package output

import (
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Streams are the stdout and stderr that all output of a program goes to. They know whether the
// cursor stands at the beginning of a line, so that no two texts end up on one line. All users of
// one stdout share one *Streams, whose fields do not change any more.
type Streams struct {
	// Out and Err are written to by sinks; Err also by [Streams.BeginLine].
	Out, Err io.Writer
	// Shared is true if both are the same file, as on a terminal; see [SameFile].
	Shared bool
	// OutTerminal and ErrTerminal are what the streams can do; the zero value is no terminal.
	OutTerminal, ErrTerminal ui.Terminal

	mu sync.Mutex // held by those who write lines
	// open is the line that the last byte on stdout, or on stderr, belongs to; nil: the
	// next byte begins one. BeginLine reads it without mu, which a writer may hold for as
	// long as a terminal is stopped.
	open [2]atomic.Pointer[openLine]
}

// rawLine stands for a line of output that is passed on as it is.
var rawLine openLine

// SameFile reports whether both writers are the same file.
func SameFile(a, b io.Writer) bool {
	first, ok := a.(*os.File)
	second, ok2 := b.(*os.File)
	if !ok || !ok2 {
		return false
	}
	x, err := first.Stat()
	y, err2 := second.Stat()
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// BeginLine ends the open line of output on stderr, if there is one, before the caller writes
// something else there. It does not wait for a sink that hangs in its writer.
func (s *Streams) BeginLine() {
	if s.place(hodeipb.Stream_STDERR).Swap(nil) != nil {
		_, _ = io.WriteString(s.Err, "\n") // what is written next meets the error, too
	}
}

func (s *Streams) writer(stream hodeipb.Stream) io.Writer {
	if stream == hodeipb.Stream_STDERR {
		return s.Err
	}
	return s.Out
}

// place returns where the open line is kept of the file that a stream is written to.
func (s *Streams) place(stream hodeipb.Stream) *atomic.Pointer[openLine] {
	if stream == hodeipb.Stream_STDERR && !s.Shared {
		return &s.open[1]
	}
	return &s.open[0]
}

// wrote notes that bytes of a stream were passed on as they are.
func (s *Streams) wrote(stream hodeipb.Stream, data []byte) {
	if len(data) == 0 {
		return
	}
	line := &rawLine
	if data[len(data)-1] == '\n' {
		line = nil
	}
	if place := s.place(stream); place.Load() != line {
		place.Store(line)
	}
}

// Raw passes the output of one job on byte for byte. Gaps leave no trace in it.
type Raw struct{ To *Streams }

// Record implements [Sink].
func (s Raw) Record(_ string, _ uint64, r *hodeipb.Record, data []byte) error {
	_, err := s.To.writer(r.Stream).Write(data)
	s.To.wrote(r.Stream, data)
	return err
}

// Gap implements [Sink].
func (Raw) Gap(Gap) error { return nil }

// Flush implements [Sink].
func (Raw) Flush() error { return nil }
