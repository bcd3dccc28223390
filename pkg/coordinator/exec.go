package coordinator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Execution is one command that is run beside a job's. Give one to [Server.Exec], and make it with [NewExecution].
type Execution struct {
	spec    *hodeipb.ExecStart
	input   *Input
	outputs map[hodeipb.Stream]io.Writer
	signals chan int32
	started chan struct{}
	begin   func()        // closes started
	ended   chan struct{} // closed once end and err are set

	mu    sync.Mutex
	taken bool // an agent has it
	end   *hodeipb.ExecExit
	err   error
}

// NewExecution returns an Execution of the command that spec describes; its fields Stdin and TerminalSize are left out.
// input is what the command reads, which may be nil; it is the Execution's from now on. What it prints is written to
// stdout and stderr, each byte once; at a terminal all is stdout's. The command waits while a write does.
func NewExecution(spec *hodeipb.ExecStart, input *Input, stdout, stderr io.Writer) *Execution {
	if spec.Stdin = input != nil; spec.Stdin {
		input.window = hodeipb.ExecInputWindow
		if spec.Tty {
			spec.TerminalSize = input.firstSize()
		}
	}
	started := make(chan struct{})
	return &Execution{
		spec: spec, input: input, outputs: map[hodeipb.Stream]io.Writer{hodeipb.Stream_STDOUT: stdout, hodeipb.Stream_STDERR: stderr},
		signals: make(chan int32, 4), started: started, begin: sync.OnceFunc(func() { close(started) }), ended: make(chan struct{}),
	}
}

// Started is closed when the command runs, or can't be run.
func (x *Execution) Started() <-chan struct{} { return x.started }

// Ended is closed when the command has ended, or can't be run.
func (x *Execution) Ended() <-chan struct{} { return x.ended }

// End returns how the command ended, once Ended is closed. An error is that its agent was lost, which ends the command,
// or that its output can't be written.
func (x *Execution) End() (*hodeipb.ExecExit, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.end, x.err
}

// Signal sends a signal to the command, by its number on Linux. It is dropped before the command runs, and if others
// wait to be sent.
func (x *Execution) Signal(number int32) {
	select {
	case x.signals <- number:
	default:
	}
}

// errTaken is of an agent that comes again, after its connection broke.
var errTaken = status.Error(codes.FailedPrecondition, "the command was given to an agent before")

// Exec serves one command that runs beside a job's.
func (s *service) Exec(stream hodeipb.Coordinator_ExecServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	x := s.policy.settings().exec
	if x == nil {
		return status.Error(codes.Unimplemented, "no command is run here beside the job's")
	}
	err := s.execHello(ctx, stream, cancel)
	if err != nil {
		s.refuse(ctx, err)
		return err
	}
	x.mu.Lock()
	taken := x.taken
	x.taken = true
	x.mu.Unlock()
	if taken {
		return errTaken
	}
	end, err := (*hodeipb.ExecExit)(nil), errors.New("a fault in hodei")
	defer func() { // also of a panic, which is told elsewhere
		x.mu.Lock()
		x.end, x.err = end, err
		x.mu.Unlock()
		close(x.ended)
		x.begin()
	}()
	if end, err = x.serve(ctx, stream, s); status.Code(err) == codes.InvalidArgument {
		s.refuse(ctx, err)
	}
	return err
}

// execHello takes the agent's first message, as awaitHello does. cancel ends a stream that says nothing.
func (s *service) execHello(ctx context.Context, stream hodeipb.Coordinator_ExecServer, cancel func()) error {
	late := time.AfterFunc(helloWait, cancel)
	defer late.Stop()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message is not a hello")
	}
	if err := checkHello(hello); err != nil {
		return err
	}
	return s.authorize(ctx, hello)
}

// serve has the agent run the command, and returns how it ended.
func (x *Execution) serve(ctx context.Context, stream hodeipb.Coordinator_ExecServer, s *service) (*hodeipb.ExecExit, error) {
	out := &execOutbox{stream: stream}
	if err := out.send(&hodeipb.ExecToAgent{Message: &hodeipb.ExecToAgent_Start{Start: x.spec}}); err != nil {
		return nil, err
	}
	if x.input != nil {
		x.input.begin("exec")
	}
	s.streams.Go(func() {
		for {
			select {
			case number := <-x.signals:
				if out.send(&hodeipb.ExecToAgent{Message: &hodeipb.ExecToAgent_Signal{Signal: number}}) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	turn := 0
	for {
		m, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = status.Error(codes.InvalidArgument, "the agent ended the stream and not the command")
			}
			return nil, err
		}
		switch m := m.Message.(type) {
		case *hodeipb.ExecFromAgent_Started:
			x.begin()
		case *hodeipb.ExecFromAgent_Output:
			if err := x.write(ctx, m.Output); err != nil {
				return nil, err
			}
		case *hodeipb.ExecFromAgent_InputAck:
			if x.input == nil {
				return nil, status.Error(codes.InvalidArgument, "an ack of input that was not sent")
			}
			first := turn == 0
			if turn, err = x.input.acked(m.InputAck, turn); err != nil {
				return nil, err
			}
			if begun := turn; first && begun > 0 {
				s.streams.Go(func() { x.input.send(ctx, begun, out.sendInput) })
			}
		case *hodeipb.ExecFromAgent_Exit:
			return checkExecExit(m.Exit)
		default:
			return nil, status.Errorf(codes.InvalidArgument, "unexpected message %T", m)
		}
	}
}

// ErrUnwritten means that a command's output can't be written here; the error that is it says why.
var ErrUnwritten = errors.New("its output can't be written")

// write writes a piece of output. It does not wait longer than until ctx ends: nothing else ends a Write that nobody reads,
// and its goroutine ends when somebody does, or with the process.
func (x *Execution) write(ctx context.Context, m *hodeipb.ExecOutput) error {
	to := x.outputs[m.Stream]
	if to == nil || len(m.Data) > hodeipb.MaxExecOutputBytes {
		return status.Errorf(codes.InvalidArgument, "output of %d bytes on stream %d", len(m.Data), m.Stream)
	}
	written := make(chan error, 1)
	go func() {
		_, err := to.Write(m.Data)
		written <- err
	}()
	select {
	case err := <-written:
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnwritten, err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkExecExit checks an agent's word of an end, and cuts its text.
func checkExecExit(e *hodeipb.ExecExit) (*hodeipb.ExecExit, error) {
	if e.Code < 0 || e.Code > 255 || e.Signal < 0 || e.Signal > 64 || e.NotStarted && e.Code == 0 || e.Signal != 0 && e.Code == 0 {
		return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("an end with code %d and signal %d", e.Code, e.Signal))
	}
	e.Error = wire.CutText(e.Error)
	return e, nil
}

// execOutbox lets several goroutines send on one stream, which takes one at a time.
type execOutbox struct {
	mu     sync.Mutex
	stream hodeipb.Coordinator_ExecServer
}

func (o *execOutbox) send(m *hodeipb.ExecToAgent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream.Send(m)
}

// sendInput sends what an Input has for an agent.
func (o *execOutbox) sendInput(m *hodeipb.ToAgent) error {
	switch m := m.Message.(type) {
	case *hodeipb.ToAgent_Input:
		return o.send(&hodeipb.ExecToAgent{Message: &hodeipb.ExecToAgent_Input{Input: m.Input}})
	case *hodeipb.ToAgent_TerminalSize:
		return o.send(&hodeipb.ExecToAgent{Message: &hodeipb.ExecToAgent_TerminalSize{TerminalSize: m.TerminalSize}})
	}
	return fmt.Errorf("input sends no %T", m.Message)
}
