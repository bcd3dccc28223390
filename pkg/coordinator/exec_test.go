package coordinator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// execAgent is an agent that was asked for a command, written by hand.
type execAgent struct {
	t      *testing.T
	stream hodeipb.Coordinator_ExecClient
}

// execute serves a command with the input given, nil for none, to an agent that has said its hello.
func execute(t *testing.T, input *Input) (*Execution, *execAgent, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer // of one goroutine until the command has ended
	x := NewExecution(&hodeipb.ExecStart{Command: [][]byte{[]byte("cat")}}, input, &out, &out)
	w := newWorld(t, func(s *Server) { s.Follower, s.Exec = nil, x })
	a := &execAgent{t, w.execStream(t)}
	a.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	return x, a, &out
}

func (w *world) execStream(t *testing.T) hodeipb.Coordinator_ExecClient {
	t.Helper()
	a := w.dial(t, credentials.NewTLS(clientTLS(t, w.job)))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	stream, err := hodeipb.NewCoordinatorClient(a.client).Exec(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// send sends a message given as a value of the oneof. An error is the receiver's to see.
func (a *execAgent) send(m any) {
	from := &hodeipb.ExecFromAgent{}
	switch m := m.(type) {
	case *hodeipb.ExecFromAgent_Hello:
		from.Message = m
	case *hodeipb.ExecStarted:
		from.Message = &hodeipb.ExecFromAgent_Started{Started: m}
	case *hodeipb.ExecOutput:
		from.Message = &hodeipb.ExecFromAgent_Output{Output: m}
	case *hodeipb.InputAck:
		from.Message = &hodeipb.ExecFromAgent_InputAck{InputAck: m}
	case *hodeipb.ExecExit:
		from.Message = &hodeipb.ExecFromAgent_Exit{Exit: m}
	}
	_ = a.stream.Send(from)
}

func (a *execAgent) recv() *hodeipb.ExecToAgent {
	a.t.Helper()
	m, err := a.stream.Recv()
	if err != nil {
		a.t.Fatal(err)
	}
	return m
}

func ended(t *testing.T, x *Execution) (*hodeipb.ExecExit, error) {
	t.Helper()
	select {
	case <-x.Ended():
	case <-time.After(patience):
		t.Fatal("the command does not end")
	}
	<-x.Started()
	return x.End()
}

func printed(data string) *hodeipb.ExecOutput {
	return &hodeipb.ExecOutput{Stream: hodeipb.Stream_STDOUT, Data: []byte(data)}
}

func TestExecution(t *testing.T) {
	input := NewInput(strings.NewReader("hello"), nil)
	defer input.Close()
	x, a, out := execute(t, input)
	if start := a.recv().GetStart(); !start.GetStdin() || string(start.Command[0]) != "cat" {
		t.Fatalf("start %v", start)
	}
	a.send(&hodeipb.ExecStarted{})
	<-x.Started()
	x.Signal(10)
	if got := a.recv().GetSignal(); got != 10 {
		t.Errorf("signal %d", got)
	}
	a.send(&hodeipb.InputAck{})
	if m := a.recv().GetInput(); string(m.GetData()) != "hello" || !m.GetComplete() && !a.recv().GetInput().GetComplete() {
		t.Errorf("input %v", m)
	}
	a.send(&hodeipb.InputAck{Offset: 5, Done: true})
	a.send(printed("hel"))
	a.send(printed("lo"))
	a.send(&hodeipb.ExecExit{Code: 3})
	if end, err := ended(t, x); err != nil || end.Code != 3 || out.String() != "hello" {
		t.Errorf("end %v, %v, output %q", end, err, out)
	}
}

// TestExecutionFaults: an agent's message that makes no sense ends the stream, and the command is lost.
func TestExecutionFaults(t *testing.T) {
	for name, test := range map[string]struct {
		messages []any
		message  string
	}{
		"no message":           {[]any{nil}, "unexpected message <nil>"},
		"another hello":        {[]any{&hodeipb.ExecFromAgent_Hello{Hello: hello(0)}}, "unexpected message *hodeipb.ExecFromAgent_Hello"},
		"no stream":            {[]any{&hodeipb.ExecOutput{Data: []byte("x")}}, "output of 1 bytes on stream 0"},
		"an ack without input": {[]any{&hodeipb.InputAck{}}, "an ack of input that was not sent"},
		"a code":               {[]any{&hodeipb.ExecExit{Code: 256}}, "an end with code 256 and signal 0"},
		"a signal":             {[]any{&hodeipb.ExecExit{Code: 1, Signal: 65}}, "an end with code 1 and signal 65"},
		"not started, code 0":  {[]any{&hodeipb.ExecExit{NotStarted: true}}, "an end with code 0 and signal 0"},
		"killed, code 0":       {[]any{&hodeipb.ExecExit{Signal: 9}}, "an end with code 0 and signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			x, a, _ := execute(t, nil)
			a.recv()
			for _, m := range test.messages {
				a.send(m)
			}
			_, err := a.stream.Recv()
			if s := status.Convert(err); s.Code() != codes.InvalidArgument || s.Message() != test.message {
				t.Errorf("ended with %v, want %s", err, test.message)
			}
			if end, err := ended(t, x); err == nil {
				t.Errorf("end %v", end)
			}
		})
	}
	t.Run("too much at once", func(t *testing.T) {
		x, a, out := execute(t, nil)
		a.recv()
		a.send(printed(strings.Repeat("x", hodeipb.MaxExecOutputBytes+2<<10)))
		if end, err := ended(t, x); err == nil || out.Len() > 0 {
			t.Errorf("end %v, %d bytes", end, out.Len())
		}
	})
	t.Run("an end without an end", func(t *testing.T) {
		x, a, _ := execute(t, nil)
		a.recv()
		if err := a.stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if end, err := ended(t, x); err == nil {
			t.Errorf("end %v", end)
		}
	})
}

// TestExecutionOnce: a command is given to one agent, once, and whoever only wants to attach is turned away.
func TestExecutionOnce(t *testing.T) {
	x := NewExecution(&hodeipb.ExecStart{Command: [][]byte{[]byte("true")}}, nil, io.Discard, io.Discard)
	w := newWorld(t, func(s *Server) { s.Follower, s.Exec = nil, x })
	w.attach(t, 0).failsWith(codes.Unimplemented, "here a command is run beside the job's, and nobody follows the job")
	for name, other := range map[string]func(*hodeipb.Hello){
		"another job":      func(h *hodeipb.Hello) { h.Job = "other" },
		"another protocol": func(h *hodeipb.Hello) { h.Protocol = 99 },
	} {
		stranger := &execAgent{t, w.execStream(t)}
		h := hello(0)
		other(h)
		stranger.send(&hodeipb.ExecFromAgent_Hello{Hello: h})
		if _, err := stranger.stream.Recv(); err == nil {
			t.Errorf("%s: it is given the command", name)
		}
	}
	mute := &execAgent{t, w.execStream(t)}
	mute.send(&hodeipb.ExecStarted{})
	if _, err := mute.stream.Recv(); status.Convert(err).Message() != "the first message is not a hello" {
		t.Errorf("error %v", err)
	}
	first := &execAgent{t, w.execStream(t)}
	first.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	first.recv()
	second := &execAgent{t, w.execStream(t)}
	second.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	if _, err := second.stream.Recv(); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("error %v", err)
	}
	first.send(&hodeipb.ExecExit{})
	if end, err := ended(t, x); err != nil || end.Code != 0 {
		t.Errorf("end %v, %v", end, err)
	}
}

// TestNoExecution: a coordinator that follows a job runs no command.
func TestNoExecution(t *testing.T) {
	w := newWorld(t, nil)
	a := &execAgent{t, w.execStream(t)}
	a.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	if _, err := a.stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("error %v", err)
	}
}

// TestExecutionUnread: who can't be given the output ends the command.
func TestExecutionUnread(t *testing.T) {
	x := NewExecution(&hodeipb.ExecStart{Command: [][]byte{[]byte("yes")}}, nil, full{}, full{})
	w := newWorld(t, func(s *Server) { s.Follower, s.Exec = nil, x })
	a := &execAgent{t, w.execStream(t)}
	a.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	a.recv()
	a.send(printed("y\n"))
	if end, err := ended(t, x); !errors.Is(err, ErrUnwritten) || !errors.Is(err, errDiskFull) {
		t.Errorf("end %v, %v", end, err)
	}
}

// TestExecutionStuck: a server can be closed while nobody reads the output.
func TestExecutionStuck(t *testing.T) {
	r, out := io.Pipe()
	defer r.Close()
	x := NewExecution(&hodeipb.ExecStart{Command: [][]byte{[]byte("yes")}}, nil, out, out)
	w := newWorld(t, func(s *Server) { s.Follower, s.Exec = nil, x })
	a := &execAgent{t, w.execStream(t)}
	a.send(&hodeipb.ExecFromAgent_Hello{Hello: hello(0)})
	a.recv()
	a.send(printed("y\n"))
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil { // the other byte stays
		t.Fatal(err)
	}
	w.server.Close()
	if end, err := ended(t, x); err == nil {
		t.Errorf("end %v", end)
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errDiskFull }
