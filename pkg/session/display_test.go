package session

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
)

// stuck is a writer that takes nothing until it is let go.
type stuck struct {
	entered, free chan struct{}
	once          sync.Once
	bytes.Buffer
}

func newStuck() *stuck { return &stuck{entered: make(chan struct{}), free: make(chan struct{})} }

func (w *stuck) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.entered) })
	<-w.free
	return w.Buffer.Write(p)
}

// A terminal that takes nothing holds up neither the storing nor the session, and
// what is said there is bounded.
func TestScreenStuck(t *testing.T) {
	w := newStuck()
	f := testFollower(t, io.Discard, struct{ io.Writer }{w}, "") // without the buffer's WriteString
	log := testLog(t, "x", 0)
	f.State("x", &hodeipb.State{Phase: hodeipb.Phase_WAITING})
	f.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x"}, Log: log, Temporary: logstore.ErrInUse})
	for i := range 100 {
		f.State("x", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: i%2 == 0})
	}
	store(t, log, batch(0, "out:text"))
	f.Exited("x", &hodeipb.ExitRecord{Cause: "Completed"})
	<-f.exited
	<-w.entered
	close(w.free)
	<-f.complete()
	text := w.String()
	if !strings.Contains(text, "another hodei on this machine stores the output of x") || strings.Count(text, "the job waits") > 2 {
		t.Errorf("stderr %q", text)
	}
}

// Who does not read holds up neither the storing nor what the session is told.
func TestDisplayStuck(t *testing.T) {
	w := newStuck()
	f := testFollower(t, w, io.Discard, "")
	log := attach(t, f, "x", 0)
	f.State("x", ran)
	store(t, log, batch(0, "out:0123456789"))
	<-w.entered
	for i := range uint64(100) {
		store(t, log, batch(10*(i+1), "out:0123456789"))
	}
	f.State("x", &hodeipb.State{Phase: hodeipb.Phase_RUNNING, BlockedOnOutput: true})
	f.phase(job.Event{Phase: job.Scheduled})
	f.Exited("x", &hodeipb.ExitRecord{Cause: "Completed"})
	<-f.exited
	shown := f.complete()
	select {
	case <-shown:
		t.Error("all is shown")
	default:
	}
	close(w.free)
	<-shown
	if got := w.Len(); got != 1010 {
		t.Errorf("%d bytes shown", got)
	}
}

// A display that is left shows nothing more once the write that hangs is back.
func TestDisplayLeft(t *testing.T) {
	w := newStuck()
	f := testFollower(t, w, io.Discard, "")
	log := attach(t, f, "x", 0)
	f.State("x", ran)
	store(t, log, batch(0, "out:one"))
	<-w.entered
	store(t, log, batch(3, "out:two"))
	f.display.Leave()
	f.display.Leave() // again
	close(w.free)
	<-f.display.Done()
	if got := w.String(); got != "one" {
		t.Errorf("shown %q", got)
	}
	if f.closed() {
		t.Error("closed")
	}
	select {
	case err := <-f.display.Broken():
		t.Errorf("broken: %v", err)
	default:
	}
}

// A settled session ends within its patience, whatever hangs.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		f := &follower{display: output.NewDisplay(), passages: map[string]*output.Passage{}}
		f.display.Do(func(context.Context) error {
			<-free
			return nil
		})
		s := &session{follower: f}
		began := time.Now()
		if s.settle(true) || time.Since(began) != leaveWait {
			t.Errorf("settled after %s", time.Since(began))
		}
		close(free)
		if !s.settle(false) {
			t.Error("did not settle")
		}
	})
}
