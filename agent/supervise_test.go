package agent

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// lonely is an agent whose launcher and coordinators are the test.
func lonely(t testing.TB) *agent {
	t.Helper()
	return &agent{
		Config: Config{Grace: time.Hour, Linger: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil))},
		spool:  testSpool(t, 1<<20),
		orders: make(chan *hodeipb.Control, 16), changed: make(chan struct{}),
		state: &hodeipb.State{Phase: hodeipb.Phase_WAITING}, samples: meter.NewSampler(),
	}
}

func (a *agent) phase() hodeipb.Phase {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state.Phase
}

// TestConversation plays the launcher against supervise.
func TestConversation(t *testing.T) {
	exit := func(code, signal int) handover.FromLauncher {
		return handover.FromLauncher{Exit: &handover.Exit{Code: code, Signal: signal, Finished: time.Now()}}
	}
	started := handover.FromLauncher{Started: &handover.Started{Time: time.Now()}}
	tests := []struct {
		name   string
		orders []*hodeipb.Control
		says   []any
		code   int32
		cause  string
		ran    bool
	}{
		{"as it should be", nil, []any{started, exit(0, 0)}, 0, contract.CauseCompleted, true},
		{"never ran", nil, []any{exit(127, 0)}, 127, contract.CauseError, false},
		{"goes without a word", nil, nil, 137, "", false},
		{"goes in the middle", nil, []any{started}, 137, "", true},
		{"starts twice", nil, []any{started, started, exit(1, 0)}, 1, contract.CauseError, true},
		{"talks nonsense", nil, []any{started, "nonsense", exit(0, 0)}, 137, "", true},
		{"says hello again", nil, []any{handover.FromLauncher{Hello: &handover.Hello{}}, started, exit(143, 15)}, 143,
			contract.CauseSignaled, true},
		{"says nothing", nil, []any{handover.FromLauncher{}, exit(3, 0)}, 3, contract.CauseError, false},
		{"cancelled before it started",
			[]*hodeipb.Control{{Order: &hodeipb.Control_Cancel{Cancel: &hodeipb.Cancel{Grace: durationpb.New(time.Hour)}}}},
			[]any{started, exit(0, 0)}, 0, contract.CauseCancelled, true},
		{"a signal before it started", []*hodeipb.Control{{Order: &hodeipb.Control_Signal{Signal: 10}}}, []any{started, exit(0, 0)}, 0,
			contract.CauseCompleted, true},
		{"empty orders",
			[]*hodeipb.Control{{}, {Order: &hodeipb.Control_Signal{}}, {Order: &hodeipb.Control_Signal{Signal: 65}},
				{Order: &hodeipb.Control_Signal{Signal: -1}}},
			[]any{started, exit(0, 0)}, 0, contract.CauseCompleted, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := lonely(t)
			a.orders = make(chan *hodeipb.Control) // one that is sent has been taken
			launcher, conn := agenttest.SocketPair(t)
			defer conn.Close()
			result := make(chan *hodeipb.ExitRecord, 1)
			go func() {
				record, err := a.supervise(t.Context(), &handover.Launcher{Conn: conn}, &meter.Meter{})
				if err != nil {
					t.Error(err)
				}
				result <- record
			}()
			hear := func(what string) handover.FromAgent {
				t.Helper()
				var m handover.FromAgent
				if _, err := handover.Receive(launcher, &m); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				return m
			}
			if !hear("start").Start {
				t.Fatal("the first message is not to start")
			}
			for _, order := range tt.orders {
				a.orders <- order
				if order.GetCancel() != nil {
					if m := hear("cancel"); m.Signal != int(unix.SIGTERM) {
						t.Fatalf("got %+v, want SIGTERM", m)
					}
					if phase := a.phase(); phase != hodeipb.Phase_STOPPING {
						t.Errorf("told to stop, it is %s", phase)
					}
				}
			}
			for _, m := range tt.says {
				_ = handover.Send(launcher, m)
			}
			if n := len(tt.says); n > 0 && tt.code != 137 {
				if !hear("done").Done {
					t.Error("the last message is not done")
				}
			}
			launcher.Close()
			r := <-result
			if tt.name == "a signal before it started" && a.state.GetSignals() != 0 {
				t.Errorf("it says that it passed on %d signals", a.state.GetSignals())
			}
			if phase := a.phase(); r.Code != tt.code || r.Cause != tt.cause || (r.Started != nil) != tt.ran ||
				phase != hodeipb.Phase_ENDED {
				t.Errorf("exit record %v in phase %s", r, phase)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	finished := time.Now()
	const oom = "memory reached its limit and the kernel killed a process of the job"
	tests := []struct {
		name    string
		stopped string
		podEnds bool
		exit    *handover.Exit
		oom     string
		code    int32
		signal  int32
		cause   string
		message string
	}{
		{"success", "", false, &handover.Exit{}, "", 0, 0, contract.CauseCompleted, ""},
		{"failure", "", false, &handover.Exit{Code: 7}, "", 7, 0, contract.CauseError, ""},
		{"signal", "", false, &handover.Exit{Code: 137, Signal: 9}, "", 137, 9, contract.CauseSignaled, ""},
		{"out of memory", "", false, &handover.Exit{Code: 137, Signal: 9}, oom, 137, 9, contract.CauseOOMKilled, oom},
		{"out of memory, swallowed", "", false, &handover.Exit{}, oom, 0, 0, contract.CauseOOMKilled, oom},
		{"out of memory, the launcher too", "", false, nil, oom, 137, 9, contract.CauseOOMKilled, oom},
		{"launcher killed", "", false, nil, "", 137, 9, "", "the job's first process was killed"},
		{"timeout", contract.CauseDeadlineExceeded, false, &handover.Exit{Code: 143, Signal: 15}, "", 143, 15,
			contract.CauseDeadlineExceeded,
			"the job ran longer than its timeout of 1m0s"},
		{"cancelled", contract.CauseCancelled, false, &handover.Exit{}, oom, 0, 0, contract.CauseCancelled, ""},
		{"cancelled, launcher killed", contract.CauseCancelled, false, nil, "", 137, 9, contract.CauseCancelled,
			"the job's first process was killed"},
		{"the Pod's end", "", true, &handover.Exit{Code: 143, Signal: 15}, "", 143, 15, "", "the Pod was told to end"},
		{"the Pod's end, in a hurry", "", true, &handover.Exit{Code: 137, Signal: 9}, "", 137, 9, "", "the Pod was told to end"},
		{"the Pod's end, heard", "", true, &handover.Exit{Code: 9}, "", 9, 0, contract.CauseError, ""},
		{"the Pod's end, another signal", "", true, &handover.Exit{Code: 139, Signal: 11}, "", 139, 11, contract.CauseSignaled, ""},
		{"the Pod's end, cancelled before", contract.CauseCancelled, true, &handover.Exit{Code: 143, Signal: 15}, "", 143, 15,
			contract.CauseCancelled, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.exit != nil {
				tt.exit.Finished = finished
			}
			synctest.Test(t, func(t *testing.T) {
				s := &supervisor{agent: &agent{Config: Config{Timeout: time.Minute, InPod: true}}, stopped: tt.stopped}
				ctx, deleted := context.WithCancel(t.Context())
				defer deleted()
				if tt.podEnds {
					deleted()
				}
				r := s.record(ctx, tt.exit, tt.oom)
				if r.Code != tt.code || r.Signal != tt.signal || r.Cause != tt.cause || r.Message != tt.message || r.Started != nil {
					t.Errorf("exit record %v", r)
				}
				if tt.exit != nil && !r.Finished.AsTime().Equal(finished) {
					t.Errorf("finished at %v", r.Finished)
				}
			})
		})
	}
}

// TestPodEnds waits for word of the Pod's end only of a signal that may be its.
func TestPodEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		inPod      bool
		told, last unix.Signal
		heard      bool          // the launcher a signal
		after      time.Duration // of our own signal; 0: there is none
		want       bool
		took       time.Duration
	}{
		{"at once", true, 0, unix.SIGTERM, false, 1, true, 1},
		{"a moment later", true, 0, unix.SIGKILL, false, podEndsWait / 2, true, podEndsWait / 2},
		{"never", true, 0, unix.SIGKILL, false, 0, false, podEndsWait},
		{"another signal", true, 0, unix.SIGSEGV, false, 1, false, 0},
		{"by our order", true, unix.SIGTERM, unix.SIGTERM, false, 1, false, 0},
		{"not by our order", true, unix.SIGUSR1, unix.SIGTERM, false, 1, true, 1},
		{"by itself", true, 0, 0, false, 1, false, 0},
		{"by itself, in answer to a signal", true, 0, 0, true, podEndsWait / 2, true, podEndsWait / 2},
		{"by itself, after a signal of the job's own", true, 0, 0, true, 0, false, podEndsWait},
		{"no Pod", false, 0, unix.SIGTERM, true, 1, false, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &supervisor{agent: &agent{Config: Config{InPod: test.inPod}}, told: test.told}
				ctx, deleted := context.WithCancel(t.Context())
				defer deleted()
				if test.after > 0 {
					time.AfterFunc(test.after, deleted)
				}
				began := time.Now()
				if got := s.podEnds(ctx, &handover.Exit{Signal: int(test.last), Told: test.heard}); got != test.want ||
					time.Since(began) != test.took {
					t.Errorf("%t after %s, want %t after %s", got, time.Since(began), test.want, test.took)
				}
			})
		})
	}
}
