package session

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow/followtest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// scene is what a test of a session's end acts on.
type scene struct {
	follower *follower
	job      *followtest.Job
	signals  chan<- os.Signal
	log      *logstore.Log
}

func TestSessionEnds(t *testing.T) {
	runs := func(s scene) { s.follower.State("x-1", ran) }
	for _, test := range []struct {
		name     string
		attached bool
		fallback bool     // to the container's log
		out      *failing // nil: all is written
		act      func(scene)
		code     int
		message  string
		hint     string
		deleted  bool
		stopped  bool
	}{
		{name: "its own end", act: func(s scene) {
			s.job.Ends <- &job.Outcome{Cause: job.Error, Code: 7}
		}, code: 7},
		{name: "Ctrl-C before the start", act: func(s scene) {
			s.signals <- os.Interrupt
		}, code: 130, deleted: true},
		{name: "Ctrl-C twice", act: func(s scene) {
			runs(s)
			s.signals <- os.Interrupt
			s.signals <- os.Interrupt
		}, code: 130, message: "job x has been asked to stop and still runs", hint: "{hodei} attach x", stopped: true},
		{name: "Ctrl-C twice without the tunnel", fallback: true, act: func(s scene) {
			runs(s)
			s.signals <- os.Interrupt
			s.signals <- os.Interrupt
		}, code: 130, message: "job x goes on", hint: "{hodei} attach x"},
		{name: "the reader has gone without the tunnel", fallback: true, out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
		}, code: 125, message: "write output: write |1: broken pipe; job x goes on", hint: "{hodei} attach x"},
		{name: "Ctrl-C while attached", attached: true, act: func(s scene) {
			s.signals <- os.Interrupt
		}, code: 130, message: "job x goes on", hint: "{hodei} attach x"},
		{name: "hung up", act: func(s scene) {
			runs(s)
			s.signals <- syscall.SIGHUP
		}, code: 129, message: "hung up; job x goes on", hint: "{hodei} attach x"},
		{name: "hung up while attached", attached: true, act: func(s scene) {
			s.signals <- syscall.SIGHUP
		}, code: 129, message: "job x goes on", hint: "{hodei} attach x"},
		{name: "Ctrl-C that its reader heard first", out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
			untilBroken(s.follower)
			s.signals <- os.Interrupt
			<-s.job.Stopped
			s.job.Ends <- &job.Outcome{Cause: job.Cancelled, Attempt: "x-1", OutputBytes: 4}
		}, code: 130, stopped: true},
		{name: "Ctrl-C before its reader hears it", out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			s.signals <- os.Interrupt
			<-s.job.Stopped
			store(t, s.log, batch(0, "out:text"))
			untilBroken(s.follower)
			s.job.Ends <- &job.Outcome{Cause: job.Cancelled, Attempt: "x-1", OutputBytes: 4}
		}, code: 130, stopped: true},
		{name: "Ctrl-C that the reader of one attached heard first", attached: true, out: &failing{err: syscall.EPIPE},
			act: func(s scene) {
				runs(s)
				store(t, s.log, batch(0, "out:text"))
				untilBroken(s.follower)
				s.signals <- os.Interrupt
			}, code: 130, message: "job x goes on", hint: "{hodei} attach x"},
		{name: "hung up, and its reader first", out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
			untilBroken(s.follower)
			s.signals <- syscall.SIGHUP
		}, code: 129, message: "hung up; job x goes on", hint: "{hodei} attach x"},
		{name: "SIGTERM without the tunnel", fallback: true, act: func(s scene) {
			runs(s)
			s.signals <- syscall.SIGTERM
		}, code: 125, message: "without the tunnel it can't be asked to stop; job x goes on", hint: "{hodei} attach x"},
		{name: "SIGQUIT before the start", act: func(s scene) {
			s.signals <- syscall.SIGQUIT
		}, code: 130, deleted: true},
		{name: "SIGTERM while attached", attached: true, act: func(s scene) {
			s.signals <- syscall.SIGTERM
		}, code: 143, message: "job x goes on", hint: "{hodei} attach x"},
		{name: "the store is full", act: func(s scene) {
			runs(s)
			s.follower.Failed("x-1", fmt.Errorf("append to log: %w", &os.PathError{Op: "write", Path: "p", Err: syscall.ENOSPC}))
			s.follower.Failed("x-1", errors.New("again"))
		}, code: 125, message: "store output: no space left on device; job x goes on", hint: "make room in /store, then: {hodei} attach x"},
		{name: "the store is not of this attempt", attached: true, act: func(s scene) {
			s.follower.Failed("x-1", errors.New("beyond"))
		}, code: 125, message: "store output: beyond; job x goes on", hint: "{hodei} attach x"},
		{name: "the reader has gone", out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
			<-s.job.Stopped
			s.job.Ends <- &job.Outcome{Cause: job.Cancelled, Attempt: "x-1", OutputBytes: 4}
		}, code: 125, message: "write output: broken pipe; the job was told to stop", hint: "{hodei} logs x", stopped: true},
		{name: "the reader of one attached has gone", attached: true, out: &failing{err: syscall.EPIPE}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
		}, code: 125, message: "write output: write |1: broken pipe; job x goes on", hint: "{hodei} attach x"},
		{name: "our own disk is full", out: &failing{err: syscall.ENOSPC}, act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
		}, code: 125, message: "write output: write |1: no space left on device; job x goes on", hint: "{hodei} attach x"},
		{name: "the log can't be read", act: func(s scene) {
			runs(s)
			s.log.Close()
		}, code: 125, message: "stored output can't be shown: read log at offset 0: the log is closed; job x goes on",
			hint: "{hodei} attach x"},
		{name: "no end of the output", act: func(s scene) {
			runs(s)
			store(t, s.log, batch(0, "out:text"))
			s.job.Ends <- &job.Outcome{Cause: job.Completed, Attempt: "x-1", OutputBytes: 9}
		}, code: 125, message: "output is incomplete: 5 bytes of x-1 are missing from offset 4 on; the command: exit 0",
			hint: "let the Pod wait longer for its output to be fetched: --linger"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			a := newBeside(&out, &errOut)
			if test.out != nil {
				a.streams.Out = test.out
			}
			o := a.followed(Config{Teller: Teller{Spec: &job.Spec{Name: "x", Retries: 1}, Place: nowhere{}, Screen: a.screen(true)},
				Follow: true, Fallback: test.fallback})
			kept, err := logstore.Open(t.TempDir(), logstore.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			signals := make(chan os.Signal, 2)
			j := followtest.NewJob()
			o.Job, o.Signals, o.Attached, o.Store = j, signals, test.attached, &place.Store{Store: kept, Dir: "/store"}
			s := newSession(o)
			log := testLog(t, "x-1", 0)
			acted := make(chan struct{})
			s.follower.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1"}, Log: log})
			go func() {
				defer close(acted)
				test.act(scene{s.follower, j, signals, log})
			}()
			err = s.run(t.Context())
			<-acted
			a.end(nil)
			exit, ok := errors.AsType[*job.ExitError](err)
			if !ok || exit.Code != test.code {
				t.Fatalf("got %v, want exit code %d", err, test.code)
			}
			if exit.Err == nil && test.message != "" || exit.Err != nil && exit.Err.Error() != test.message {
				t.Errorf("error %v, want %q", exit.Err, test.message)
			}
			hint := ""
			if h, ok := errors.AsType[*job.Hinted](err); ok {
				hint = h.Hint
			} else if f, ok := errors.AsType[*job.Failure](err); ok {
				hint = f.Hint
			}
			if hint != test.hint {
				t.Errorf("hint %q, want %q", hint, test.hint)
			}
			stopped := false
			select {
			case <-j.Stopped:
				stopped = true
			default:
			}
			if j.Deleted.Load() != test.deleted || stopped != test.stopped {
				t.Errorf("deleted %t, stopped %t", j.Deleted.Load(), stopped)
			}
		})
	}
}

// untilBroken waits until nothing is displayed any more.
func untilBroken(f *follower) {
	broken := make(chan struct{})
	f.display.Do(func(ctx context.Context) error {
		<-ctx.Done()
		close(broken)
		return nil
	})
	<-broken
}

// Ctrl-C once the job is over is about what is still to be shown: it asks no job to
// stop, and makes none a cancelled one.
func TestInterruptOver(t *testing.T) {
	for _, test := range []struct {
		name string
		sent int
		code float64 // of the exit event; 0: there is none
	}{{"once", 1, 0}, {"twice", 2, 125}} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			f := testFollower(t, &out, io.Discard, "json")
			o := newBeside(io.Discard, io.Discard).config(f.screen, f.events)
			o.Job = followtest.NewJob()
			s := &session{Config: o, follower: f, over: &job.Outcome{Cause: job.Completed}}
			for range test.sent {
				_, _ = s.take(t.Context(), event{what: signalCame, signal: os.Interrupt})
			}
			if s.stopped {
				t.Error("the job is said to have been asked to stop")
			}
			if text := out.String(); strings.Contains(text, "Cancelled") || strings.Contains(text, `"exit"`) != (test.code != 0) {
				t.Errorf("stdout %q", text)
			}
		})
	}
}

// What does not read does not keep Ctrl-C from leaving, and says where the rest is.
func TestSessionStuck(t *testing.T) {
	w := newStuck()
	var errOut bytes.Buffer
	a := newBeside(w, &errOut)
	o := a.config(a.screen(true), nil)
	o.Follow = true
	signals := make(chan os.Signal, 2)
	j := followtest.NewJob()
	o.Job, o.Signals = j, signals
	s := newSession(o)
	log := testLog(t, "x-1", 0)
	s.follower.Attached(coordinator.Attachment{Hello: &hodeipb.Hello{Attempt: "x-1"}, Log: log})
	s.follower.State("x-1", ran)
	store(t, log, batch(0, "out:text"))
	go func() {
		<-w.entered
		j.Ends <- &job.Outcome{Cause: job.Completed, OutputBytes: 4}
		signals <- os.Interrupt
		signals <- os.Interrupt
	}()
	err := s.run(t.Context())
	exit, ok := errors.AsType[*job.ExitError](err)
	if !ok || exit.Code != 130 || !strings.Contains(err.Error(), "x") {
		t.Errorf("got %v", err)
	}
	close(w.free)
	<-s.follower.display.Done()
}

// Without a tunnel and without output, the provider's word that the command runs is
// the only one.
func TestReportUnmet(t *testing.T) {
	f := testFollower(t, io.Discard, io.Discard, "")
	s := &session{Config: Config{Fallback: true}, follower: f}
	s.report(job.Event{Phase: job.Scheduled, Detail: "node1"})
	select {
	case <-f.running:
		t.Error("it runs already")
	default:
	}
	s.report(job.Event{Phase: job.Running, Detail: "x-1"})
	<-f.running
	if f.tail != nil {
		t.Error("output is shown that was not asked for")
	}
}

// TestNote shows an error that ends nothing with what to type about it.
func TestNote(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{&job.Failure{Cause: job.Forbidden, Message: "forbidden: no", Hint: "{hodei} install"},
			"forbidden: no\nhint: kubectl hodei install\n"},
		{&job.Failure{Message: "no"}, "no\n"},
		{errors.New("lost"), "lost\n"},
	} {
		var said bytes.Buffer
		a := newBeside(io.Discard, &said)
		a.name = "kubectl hodei"
		s := &session{Config: a.followed(Config{Teller: Teller{Screen: a.screen(false)}})}
		s.note(test.err)
		s.Screen.Stop()
		if said.String() != test.want {
			t.Errorf("got %q, want %q", said.String(), test.want)
		}
	}
}

// Output that is missing changes what is said of the end, and nothing that is known of it.
func TestIncompleteOutcome(t *testing.T) {
	var out bytes.Buffer
	f := testFollower(t, &out, io.Discard, "json")
	o := newBeside(io.Discard, io.Discard).config(f.screen, f.events)
	began := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	ended := job.Outcome{Cause: job.Completed, Attempt: "x-1", OutputBytes: 9, Started: began, Finished: began.Add(time.Second),
		Usage: &job.Usage{Source: "cgroup2"}, Probes: []job.Probe{{Name: "stats"}}}
	given := ended
	if err := o.Conclude(&given, nil, Missing{Output: "5 bytes", Hint: "remedy"}); err == nil {
		t.Error("no error")
	}
	var got job.Outcome
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	want := ended
	want.Cause, want.Message = job.Unknown, "output is incomplete: 5 bytes; the command: exit 0 in 1.00s"
	got.Code = want.Code // of the event, which is that of the run
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !reflect.DeepEqual(given, ended) {
		t.Errorf("the outcome itself was changed: %+v", given)
	}
}

// How a run has ended is said before its job is removed, which may take a while; that
// it could not be is said as well.
func TestRemovedAfterwards(t *testing.T) {
	for _, test := range []struct {
		name   string
		broken error
		said   string
	}{
		{"Ctrl-C before the start", nil, "Cancelled (exit 130): the command had not started; it is being removed\n"},
		{"its watch fails", &job.Failure{Cause: job.ImagePull, Message: "no image"}, "error: no image\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var errOut bytes.Buffer
			a := newBeside(io.Discard, &errOut)
			o := a.config(a.screen(false), nil)
			j := followtest.NewJob()
			j.Broken = test.broken
			before := ""
			j.OnDelete = func() error {
				before = errOut.String()
				return &job.Failure{Message: "job x may be left", Hint: "kubectl delete job x"}
			}
			signals := make(chan os.Signal, 1)
			o.Job, o.Signals = j, signals
			if test.broken == nil {
				signals <- os.Interrupt
			}
			err := Run(t.Context(), o)
			if j.Deleted.Load() {
				t.Error("it was removed before the end was reported")
			}
			if a.end(err); before != test.said {
				t.Errorf("before it was removed stderr was %q, want %q", before, test.said)
			}
			if got, want := errOut.String(), test.said+"job x may be left\nhint: kubectl delete job x\n"; got != want {
				t.Errorf("stderr %q, want %q", got, want)
			}
		})
	}
}
