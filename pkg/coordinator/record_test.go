package coordinator

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// heard is what a Recorder told.
type heard struct {
	attached chan Attachment
	exited   chan *hodeipb.ExitRecord
	failed   chan error
	samples  chan *hodeipb.Metrics

	mu     sync.Mutex
	phases []hodeipb.Phase
}

func newHeard() *heard {
	return &heard{attached: make(chan Attachment, 10), exited: make(chan *hodeipb.ExitRecord, 10), failed: make(chan error, 10),
		samples: make(chan *hodeipb.Metrics, 10)}
}

func (h *heard) Attached(a Attachment)                  { h.attached <- a }
func (h *heard) Exited(_ string, r *hodeipb.ExitRecord) { h.exited <- r }
func (h *heard) Failed(_ string, err error)             { h.failed <- err }
func (h *heard) Metrics(_ string, m *hodeipb.Metrics)   { h.samples <- m }

func (h *heard) State(_ string, s *hodeipb.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.phases = append(h.phases, s.Phase)
}

func openStore(t testing.TB, dir string) *logstore.Store {
	t.Helper()
	s, err := logstore.Open(dir, logstore.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testKey() logstore.Key {
	return logstore.Key{Namespace: testID.Namespace, Job: testID.Job, JobUID: "job-1", Attempt: "pod-uid-1", AttemptUID: "uid-1"}
}

// newRecording is a world whose Follower is a Recorder, with samples at each interval if that is
// not 0.
func newRecording(t testing.TB, r *Recorder, interval time.Duration) (*world, *heard) {
	t.Helper()
	h := newHeard()
	r.JobUID, r.Listener = "job-1", h
	w := newWorld(t, func(s *Server) { s.Follower, s.MetricsInterval = r, interval })
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, h
}

// read is all that the store has of the test's attempt.
func read(t testing.TB, s *logstore.Store) (string, *hodeipb.ExitRecord) {
	t.Helper()
	log, err := s.Read(testKey())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var data []byte
	for r := log.Reader(0); ; {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			return string(data), log.Exit()
		}
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b.Data...)
	}
}

// What was acknowledged is in the store, and the next coordinator goes on there.
func TestRecorder(t *testing.T) {
	dir := t.TempDir()
	t.Run("first", func(t *testing.T) {
		w, h := newRecording(t, &Recorder{Store: openStore(t, dir)}, 0)
		a := w.attach(t, 0)
		if offset := a.welcome().Offset; offset != 0 {
			t.Errorf("welcomed at %d", offset)
		}
		if at := <-h.attached; at.Log == nil || at.Temporary != nil || at.Hello.AttemptUid != "uid-1" {
			t.Errorf("attached %+v", at)
		}
		a.send(text(0, "hello "))
		a.ack(6, false)
		if got, exit := read(t, openStore(t, dir)); got != "hello " || exit != nil {
			t.Errorf("stored %q, %v", got, exit)
		}
		again := w.attach(t, 6) // a lost connection: the same log
		if offset := again.welcome().Offset; offset != 6 {
			t.Errorf("welcomed again at %d", offset)
		}
	})
	t.Run("second", func(t *testing.T) {
		w, h := newRecording(t, &Recorder{Store: openStore(t, dir)}, 0)
		a := w.attach(t, 6)
		if offset := a.welcome().Offset; offset != 6 {
			t.Errorf("welcomed at %d", offset)
		}
		a.send(&hodeipb.State{Phase: hodeipb.Phase_RUNNING})
		a.send(text(6, "world"))
		a.ack(11, false)
		a.send(&hodeipb.ExitRecord{Cause: contract.CauseError, Code: 3, End: 11, StdoutEnd: 11})
		a.ack(11, true)
		if r := <-h.exited; r.Code != 3 {
			t.Errorf("exited %v", r)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.phases) != 2 || h.phases[1] != hodeipb.Phase_RUNNING {
			t.Errorf("phases %v", h.phases)
		}
	})
	t.Run("complete", func(t *testing.T) { // the last ack was lost
		w, h := newRecording(t, &Recorder{Store: openStore(t, dir)}, 0)
		a := w.attach(t, 11)
		a.welcome()
		a.send(&hodeipb.ExitRecord{Cause: contract.CauseError, Code: 3, End: 11, StdoutEnd: 11})
		a.ack(11, true)
		<-h.exited
	})
	if got, exit := read(t, openStore(t, dir)); got != "hello world" || exit.GetCode() != 3 {
		t.Errorf("stored %q, %v", got, exit)
	}
}

// What came compressed is stored as it was before.
func TestRecorderDecoded(t *testing.T) {
	dir := t.TempDir()
	w, _ := newRecording(t, &Recorder{Store: openStore(t, dir)}, 0)
	a := w.attach(t, 0)
	a.welcome()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	plain := strings.Repeat("text ", 1000)
	b := text(0, plain)
	b.Encoding, b.Data = hodeipb.Encoding_ZSTD, encoder.EncodeAll(b.Data, nil)
	a.send(b)
	a.ack(5000, false)
	if got, _ := read(t, openStore(t, dir)); got != plain {
		t.Errorf("stored %d bytes: %.20q", len(got), got)
	}
}

func TestRecorderTemporary(t *testing.T) {
	for _, test := range []struct {
		name   string
		before string // of the attempt's output, in the store
		inUse  bool
		begin  uint64
		offset uint64 // of the welcome
		why    error
	}{
		{"nothing there", "", false, 0, 0, nil},
		{"only the end", "", false, 8, 8, ErrShort},
		{"some there, only the end", "abc", false, 8, 8, ErrShort},
		{"enough there", "abcdefgh", false, 8, 8, nil},
		{"more there", "abcdefghi", false, 8, 9, nil},
		{"in use", "abc", true, 0, 0, logstore.ErrInUse},
		{"in use, only the end", "abcdefghi", true, 8, 8, logstore.ErrInUse},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if test.before != "" {
				log, err := openStore(t, dir).Create(testKey(), 0)
				if err != nil {
					t.Fatal(err)
				}
				b := text(0, test.before)
				data := mem.BufferSlice{mem.SliceBuffer(b.Data)}
				b.Data = nil
				if err := log.Append(t.Context(), b, data); err != nil {
					t.Fatal(err)
				}
				if test.inUse {
					defer log.Close()
				} else if err := log.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r := &Recorder{Store: openStore(t, dir)}
			if test.begin > 0 {
				r.Begin = func(*hodeipb.Hello) uint64 { return test.begin }
			}
			w, h := newRecording(t, r, 0)
			a := w.attach(t, 20)
			if offset := a.welcome().Offset; offset != test.offset {
				t.Errorf("welcomed at %d, want %d", offset, test.offset)
			}
			if at := <-h.attached; !errors.Is(at.Temporary, test.why) || (at.Temporary == nil) != (test.why == nil) {
				t.Errorf("temporary: %v, want %v", at.Temporary, test.why)
			}
			a.send(text(test.offset, "more"))
			a.ack(test.offset+4, false)
			if test.why != nil && test.before != "" {
				if got, _ := read(t, openStore(t, dir)); got != test.before {
					t.Errorf("the store has %q now", got)
				}
			}
		})
	}
}

// A log that goes further than its agent's output is of something else.
func TestRecorderBeyond(t *testing.T) {
	w, h := newRecording(t, &Recorder{Store: openStore(t, t.TempDir())}, 0)
	a := w.attach(t, 0)
	a.welcome()
	a.send(text(0, "hello"))
	a.ack(5, false)
	const want = "the log of pod-uid-1 is stored up to offset 5, its agent has it up to 4: they are not of the same attempt"
	w.attach(t, 4).failsWith(codes.ResourceExhausted, "store output: "+want)
	if err := <-h.failed; err.Error() != want {
		t.Errorf("failed: %v", err)
	}
}

// Nothing is acknowledged that is not stored.
func TestRecorderFails(t *testing.T) {
	dir := t.TempDir()
	r := &Recorder{Store: openStore(t, dir)}
	w, h := newRecording(t, r, 0)
	a := w.attach(t, 0)
	a.welcome()
	if err := (<-h.attached).Log.Close(); err != nil { // the next Append fails
		t.Fatal(err)
	}
	a.send(text(0, "hello"))
	if s := a.fails(); s.Code() != codes.ResourceExhausted || !strings.HasPrefix(s.Message(), "store output: ") {
		t.Errorf("ended with %s: %s", s.Code(), s.Message())
	}
	if err := <-h.failed; !errors.Is(err, logstore.ErrClosed) {
		t.Errorf("failed: %v", err)
	}
	if err := r.Exited("pod-uid-1", &hodeipb.ExitRecord{}); !errors.Is(err, logstore.ErrClosed) ||
		!errors.Is(<-h.failed, logstore.ErrClosed) {
		t.Errorf("exited: %v", err)
	}
}

func TestRecorderNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "jobs")
	store := openStore(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // no directory can be made here
		t.Fatal(err)
	}
	w, h := newRecording(t, &Recorder{Store: store}, 0)
	if s := w.attach(t, 0).fails(); s.Code() != codes.ResourceExhausted {
		t.Errorf("ended with %s: %s", s.Code(), s.Message())
	}
	if err := <-h.failed; err == nil {
		t.Error("told nothing")
	}
}

// Without a store the server asks for no output, and takes none.
func TestRecorderSilent(t *testing.T) {
	h := newHeard()
	r := &Recorder{Listener: h}
	w := newWorld(t, func(s *Server) { s.Follower, s.Silent = r, true })
	a := w.attach(t, 100)
	if welcome := a.welcome(); welcome.Output {
		t.Error("output is asked for")
	}
	if at := <-h.attached; at.Log != nil {
		t.Error("there is a log")
	}
	a.send(&hodeipb.ExitRecord{Cause: contract.CauseCompleted, End: 100})
	a.ack(0, true)
	<-h.exited
	if err := r.Output(context.Background(), "pod-uid-1", text(0, "x"), nil); err == nil {
		t.Error("took output")
	}
}
