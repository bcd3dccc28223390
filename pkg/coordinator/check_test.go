package coordinator

import (
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

func TestCheckMessage(t *testing.T) {
	saying := func(change func(*hodeipb.Hello)) *hodeipb.FromAgent {
		h := hello(3)
		change(h)
		return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Hello{Hello: h}}
	}
	exit := func(r *hodeipb.ExitRecord) *hodeipb.FromAgent {
		return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_Exit{Exit: r}}
	}
	state := func(s *hodeipb.State) *hodeipb.FromAgent {
		return &hodeipb.FromAgent{Message: &hodeipb.FromAgent_State{State: s}}
	}
	late := timestamppb.New(time.Date(9999, 12, 31, 23, 0, 0, 0, time.UTC))
	for _, tt := range []struct {
		name    string
		message *hodeipb.FromAgent
		want    string // part of the error; empty: it is taken
	}{
		{"a hello", saying(func(*hodeipb.Hello) {}), ""},
		{"nothing", &hodeipb.FromAgent{}, ""}, // whose turn it is, others say
		{"no attempt", saying(func(h *hodeipb.Hello) { h.Attempt = "" }), `attempt is "", which is no name`},
		{"a long attempt", saying(func(h *hodeipb.Hello) { h.Attempt = strings.Repeat("x", 254) }), "which is no name"},
		{"a directory", saying(func(h *hodeipb.Hello) { h.Attempt = "../x" }), "which is no name"},
		{"a UID with a control character", saying(func(h *hodeipb.Hello) { h.AttemptUid = "a\x1b[2J" }),
			`attempt_uid is "a\x1b[2J", which is no UID`},
		{"a UID with a line", saying(func(h *hodeipb.Hello) { h.AttemptUid = "a\n" }), "which is no UID"},
		{"a long UID", saying(func(h *hodeipb.Hello) { h.AttemptUid = strings.Repeat("x", 129) }), "which is no UID"},
		{"a long job", saying(func(h *hodeipb.Hello) { h.Job = strings.Repeat("x", 254) }),
			"the hello's job has a name of more than 253 bytes"},
		{"an extent without an end", saying(func(h *hodeipb.Hello) { h.Extent.End = math.MaxUint64 }), "which no output reaches"},
		{"too many marks", saying(func(h *hodeipb.Hello) { h.Extent.Marks = make([]*hodeipb.Mark, 257) }), "257 marks, more than 256"},
		{"a state before all clocks", state(&hodeipb.State{CommandStarted: &timestamppb.Timestamp{Seconds: -1}}), "an impossible time"},
		{"a state after all clocks", state(&hodeipb.State{AgentStarted: late}), "an impossible time"},
		{"too many probes", state(&hodeipb.State{Probes: make([]*hodeipb.Probe, 17)}), "17 probes, more than 16"},
		{"an exit record", exit(&hodeipb.ExitRecord{Started: timestamppb.Now(), Finished: timestamppb.Now()}), ""},
		{"an end after all clocks", exit(&hodeipb.ExitRecord{Finished: late}), "an impossible time"},
		{"no year", exit(&hodeipb.ExitRecord{Started: &timestamppb.Timestamp{Seconds: math.MaxInt64}}), "an impossible time"},
		{"more lost than can be", exit(&hodeipb.ExitRecord{Lost: math.MaxUint64}), "that no output reaches"},
		{"too many waits", exit(&hodeipb.ExitRecord{Usage: &hodeipb.Usage{RunQueueWaits: make([]uint64, 66)}}), "66 waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkMessage(tt.message)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestStates: a new phase is told at once, of all else the latest every 100 ms.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &follower{}
		a := &attempt{follower: f, states: newStates(&hodeipb.State{Phase: hodeipb.Phase_WAITING})}
		say := func(phase hodeipb.Phase, blocked bool) {
			if a.states.take(&hodeipb.State{Phase: phase, BlockedOnOutput: blocked}) {
				a.tellState("x")
			}
		}
		say(hodeipb.Phase_RUNNING, false)
		for i := range 1000 {
			say(hodeipb.Phase_RUNNING, i%2 == 0)
			say(hodeipb.Phase_WAITING, true)
		}
		say(hodeipb.Phase_RUNNING, true)
		if len(f.states) != 1 || f.states[0].Phase != hodeipb.Phase_RUNNING {
			t.Fatalf("told of %v", f.states)
		}
		began := time.Now()
		<-a.states.due
		if took := time.Since(began); took != stateEvery {
			t.Errorf("after %s", took)
		}
		a.tellState("x")
		for i := range 1000 {
			say(hodeipb.Phase(5+i), false)
		}
		a.tellState("x")
		if len(f.states) != 4 || !f.states[1].BlockedOnOutput || f.states[3].Phase != 1004 {
			t.Errorf("told of %v", f.states)
		}
	})
}

// TestPanic: a handler that panics ends its stream, which is told with the place once,
// and another attempt goes on.
func TestPanic(t *testing.T) {
	turned := make(chan error, 10)
	w := newWorld(t, func(s *Server) { s.TurnedAway = func(_ net.Addr, err error) { turned <- err } })
	w.follower.output = func(b *hodeipb.Batch) error {
		if string(b.Data) == "boom" {
			panic("out of cheese")
		}
		return nil
	}
	other := w.attachAs(t, "other", 3)
	other.welcome()
	for i := range 2 {
		a := w.attachAs(t, "uid", 4)
		a.welcome()
		a.send(text(0, "boom"))
		a.failsWith(codes.Aborted, "a fault in hodei: out of cheese")
		fault, ok := errors.AsType[*Fault](<-turned)
		if !ok || fault.Message != "a fault in hodei: out of cheese" || strings.Contains(fault.Stack, "check_test.go") != (i == 0) {
			t.Errorf("told %+v", fault)
		}
	}
	other.send(text(0, "abc"))
	other.ack(3, false)
}

// TestFault: who says nonsense after its hello is told of.
func TestFault(t *testing.T) {
	turned := make(chan error, 10)
	w := newWorld(t, func(s *Server) { s.TurnedAway = func(_ net.Addr, err error) { turned <- err } })
	for _, tt := range []struct {
		exit *hodeipb.ExitRecord
		want string
	}{
		{&hodeipb.ExitRecord{Finished: &timestamppb.Timestamp{Seconds: math.MaxInt64}}, "an exit record with an impossible time"},
		{&hodeipb.ExitRecord{Message: strings.Repeat("x", 1<<20)}, "a message of more than 65536 bytes besides output"},
	} {
		a := w.attach(t, 0)
		a.welcome()
		a.send(tt.exit)
		if s := a.fails(); !strings.HasSuffix(s.Message(), tt.want) {
			t.Errorf("ended with %s: %s", s.Code(), s.Message())
		}
		if fault, ok := errors.AsType[*Fault](<-turned); !ok || fault.Message != tt.want || fault.Stack != "" {
			t.Errorf("told %v", fault)
		}
	}
}

// TestTooLarge: a message that gRPC itself refuses is told of too, once, before the hello
// and after it.
func TestTooLarge(t *testing.T) {
	for _, welcome := range []bool{false, true} {
		turned := make(chan error, 10)
		w := newWorld(t, func(s *Server) { s.TurnedAway = func(_ net.Addr, err error) { turned <- err } })
		a := w.dial(t, credentials.NewTLS(clientTLS(t, w.job)))
		if welcome {
			a.send(&hodeipb.FromAgent_Hello{Hello: hello(0)})
			a.welcome()
		}
		a.send(&hodeipb.ExitRecord{Message: strings.Repeat("x", 2*maxMessageBytes)})
		if s := a.fails(); s.Code() != codes.ResourceExhausted {
			t.Errorf("ended with %s: %s", s.Code(), s.Message())
		}
		w.server.Close() // waits for the handler
		if fault, ok := errors.AsType[*Fault](<-turned); !ok || fault.Message != "a message of more than 1090560 bytes" || len(turned) > 0 {
			t.Errorf("told %v, and %d times besides", fault, len(turned))
		}
	}
}

// pod is a connection that was dialled to an attempt.
type pod struct {
	net.Conn
	uid string
}

func (p pod) Attempt() (string, string) { return "pod-1", p.uid }

// TestDialled: who was dialled as one attempt can't say it is another.
func TestDialled(t *testing.T) {
	for _, tt := range []struct{ name, uid, says, saysUID, want string }{
		{"itself", "uid-1", "pod-1", "uid-1", ""},
		{"a UID that nobody knows", "", "pod-1", "uid-1", ""},
		{"another UID", "uid-1", "pod-1", "uid-2", "attempt pod-1 was dialled, but its agent says it is pod-1, uid-2"},
		{"another name", "uid-1", "pod-2", "uid-1", "attempt pod-1 was dialled, but its agent says it is pod-2, uid-1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, nil)
			tunnel := tunnel.New()
			served := make(chan error, 1)
			go func() { served <- w.server.Serve(tunnel) }()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			theirs, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			ours, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			delivered := make(chan struct{})
			go func() { tunnel.Deliver(context.Background(), pod{ours, tt.uid}); close(delivered) }()
			a := w.dialOver(t, theirs, credentials.NewTLS(clientTLS(t, w.job)))
			h := hello(0)
			h.Attempt, h.AttemptUid = tt.says, tt.saysUID
			a.send(&hodeipb.FromAgent_Hello{Hello: h})
			if tt.want == "" {
				a.welcome()
			} else {
				a.failsWith(codes.InvalidArgument, tt.want)
			}
			a.close()
			w.server.Close()
			<-delivered
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}
