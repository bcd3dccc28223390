package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// maxExecStreams bounds the coordinators of commands: those that wait for a start, and those that are still reading
	// what a command has printed, besides handover.MaxExecs that run.
	maxExecStreams = 2 * handover.MaxExecs
	// execGrace is how long a command whose coordinator has gone is given to end by itself.
	execGrace = 5 * time.Second
)

// execs are the commands that run beside the job's: the launcher has them as children, and a coordinator each has
// their streams.
type execs struct {
	samples *meter.Sampler

	mu      sync.Mutex
	conn    *net.UnixConn // to the launcher; nil: the job's command does not run
	over    bool          // nor will it
	begun   uint64
	running map[uint64]*execution
	// started counts those that came to run, and oomKills the processes among theirs that the OOM killer has chosen.
	started  uint32
	oomKills uint64
}

// execution is one of the commands. Each channel gets one value at most.
type execution struct {
	id      uint64
	started chan handover.Files
	exit    chan *handover.ExecExit
	// kills is how many processes the OOM killer had killed when it began, without those of execs.oomKills.
	kills uint64
	// killed: we have sent it SIGKILL, so its end says nothing of the OOM killer. Of execs.mu.
	killed bool
}

// open lets commands start, while the job's runs.
func (e *execs) open(conn *net.UnixConn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conn = conn
}

// close ends all that run: the launcher has killed them.
func (e *execs) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.conn, e.over = nil, true
	for id, x := range e.running {
		delete(e.running, id)
		code := 128 + int(unix.SIGKILL)
		x.exit <- &handover.ExecExit{ID: id, Exit: handover.Exit{Code: code, Signal: int(unix.SIGKILL), Error: "the job has ended"}}
	}
}

// begin has the launcher start a command.
func (e *execs) begin(start *hodeipb.ExecStart) (*execution, error) {
	size := len(start.Directory)
	for _, word := range slices.Concat(start.Command, start.Environment) {
		size += len(word)
	}
	if size > hodeipb.MaxExecBytes {
		return nil, fmt.Errorf("the command has %d bytes, more than %d", size, hodeipb.MaxExecBytes)
	}
	command := &handover.ExecCommand{Command: start.Command, Environment: start.Environment, Directory: start.Directory}
	file, err := command.File()
	if err != nil {
		return nil, err
	}
	defer file.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.full(); err != nil {
		return nil, err
	}
	e.mu.Unlock()
	usage := e.samples.Refresh()
	e.mu.Lock()
	if err := e.full(); err != nil {
		return nil, err
	}
	e.begun++
	x := &execution{
		id: e.begun, started: make(chan handover.Files, 1), exit: make(chan *handover.ExecExit, 1),
		kills: max(usage.GetOomKills(), e.oomKills) - e.oomKills, // another one's end may have come meanwhile
	}
	order := &handover.Exec{
		ID: x.id, Stdin: start.Stdin && !start.Tty, TTY: start.Tty,
		Rows: uint16(start.TerminalSize.GetRows()), Columns: uint16(start.TerminalSize.GetColumns()), // resize has checked them
	}
	if err := handover.Send(e.conn, handover.FromAgent{Exec: order}, int(file.Fd())); err != nil {
		return nil, fmt.Errorf("the launcher is not reached: %w", err)
	}
	e.running[x.id] = x
	return x, nil
}

// full says why no command can start now. e.mu is held.
func (e *execs) full() error {
	switch {
	case e.over:
		return errors.New("the job has ended")
	case e.conn == nil:
		return errors.New("the job's command has not started")
	case len(e.running) >= handover.MaxExecs:
		return fmt.Errorf("%d commands run beside the job's already", handover.MaxExecs)
	}
	return nil
}

// order sends the launcher an order about a command, if that runs.
func (e *execs) order(o *handover.ExecOrder) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.send(o)
}

// send is order with e.mu held.
func (e *execs) send(o *handover.ExecOrder) error {
	x := e.running[o.ID]
	if x == nil {
		return nil
	}
	x.killed = x.killed || o.HangUp || o.Signal == int(unix.SIGKILL)
	return handover.Send(e.conn, handover.FromAgent{ExecOrder: o})
}

// take takes what the launcher says of a command, with the descriptors that came with it, and reports whether m was about
// a command beside the job's.
func (e *execs) take(m *handover.FromLauncher, fds []int) bool {
	if m.ExecStarted == nil && m.ExecExit == nil {
		return false
	}
	usage := (*hodeipb.Usage)(nil)
	if x := m.ExecExit; x != nil && (x.Signal == int(unix.SIGKILL) || x.Code == 128+int(unix.SIGKILL)) {
		usage = e.samples.Refresh()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case m.ExecStarted != nil:
		files, err := handover.ExecFiles(m.ExecStarted, fds)
		x := e.running[m.ExecStarted.ID]
		if err != nil || x == nil || len(x.started) > 0 { // its end is told
			files.Close()
			_ = e.send(&handover.ExecOrder{ID: m.ExecStarted.ID, Signal: int(unix.SIGKILL)})
			return true
		}
		e.started++
		x.started <- files
	default:
		handover.CloseAll(fds)
		x := e.running[m.ExecExit.ID]
		if x == nil {
			return true
		}
		if n := usage.GetOomKills(); !x.killed && n > e.oomKills+x.kills {
			e.oomKills = n - x.kills
		}
		delete(e.running, x.id)
		x.exit <- m.ExecExit
	}
	return true
}

// counts returns how many commands were started, and how many of their processes the OOM killer has killed.
func (e *execs) counts() (started uint32, oomKills uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.started, e.oomKills
}

// forget gives the place of a command to others. Nothing of it is passed on any more.
func (e *execs) forget(x *execution) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, x.id)
}

// stop ends a command whose coordinator has gone, and waits for that.
func (a *agent) stop(x *execution) {
	ended := func(order *handover.ExecOrder, patience time.Duration) bool {
		if err := a.execs.order(order); err != nil {
			a.Log.Warn("launcher not reached", "error", err)
		}
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case <-x.exit:
			return true
		case <-late.C:
			return false
		}
	}
	if !ended(&handover.ExecOrder{ID: x.id, HangUp: true}, execGrace) &&
		!ended(&handover.ExecOrder{ID: x.id, Signal: int(unix.SIGKILL)}, closeWait) {
		a.Log.Warn("a command beside the job's can't be killed, or the launcher does not know it")
		a.execs.forget(x)
	}
	select {
	case files := <-x.started:
		files.Close()
	default:
	}
}

// execStream is one coordinator's command.
type execStream struct {
	*agent
	stream hodeipb.Coordinator_ExecClient
	mu     sync.Mutex // of sending
	input  *input
	id     atomic.Uint64 // of the execution; 0: it has not begun
}

// mayExec waits for the handshake with a coordinator, and reports whether its certificate is one for exec.
func (a *agent) mayExec(ctx context.Context, client *grpc.ClientConn, shaken *handshake) bool {
	if !a.Exec {
		return false
	}
	client.Connect()
	select {
	case <-shaken.over:
		return shaken.peer == contract.JobExecURI(a.Namespace, a.Job)
	case <-ctx.Done():
		return false
	}
}

// serveExec runs the command of a coordinator that may have one run, and says whether there was one.
func (a *agent) serveExec(ctx context.Context, client *grpc.ClientConn) (welcome bool, err error) {
	full := false
	a.update(func() {
		if full = a.executing == maxExecStreams; !full {
			a.executing++
		}
	})
	if full {
		return false, fmt.Errorf("%d coordinators of commands beside the job's are there already", maxExecStreams)
	}
	defer a.update(func() { a.executing-- })
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	welcomed := time.AfterFunc(welcomeWait, cancel)
	defer welcomed.Stop()
	t := &execStream{agent: a, input: newInput(hodeipb.ExecInputWindow)}
	if t.stream, err = hodeipb.NewCoordinatorClient(client).Exec(ctx); err != nil {
		return false, err
	}
	hello := &hodeipb.ExecFromAgent{Message: &hodeipb.ExecFromAgent_Hello{Hello: a.hello()}}
	if err := t.stream.Send(hello); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	first, err := t.stream.Recv()
	if err != nil {
		return false, err
	}
	start := first.GetStart()
	if start == nil {
		return false, errors.New("the first message is not a start")
	}
	welcomed.Stop()
	t.input.tty = start.Tty
	if start.TerminalSize != nil {
		if err := t.input.resize(start.TerminalSize); err != nil {
			return true, err
		}
	}
	received := make(chan error, 1)
	go func() {
		err := t.receive(start)
		cancel() // also what is being sent: nobody takes it any more
		received <- err
	}()
	if exit := t.conduct(ctx, start); exit != nil {
		err = t.send(&hodeipb.ExecFromAgent{Message: &hodeipb.ExecFromAgent_Exit{Exit: exit}})
		err = errors.Join(err, t.stream.CloseSend())
	}
	if err != nil {
		cancel()
	}
	// Until it has read all: whoever reads its output may take his time. A coordinator that is dead ends the connection.
	return true, errors.Join(err, <-received)
}

// send sends one message.
func (t *execStream) send(m *hodeipb.ExecFromAgent) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stream.Send(m)
}

// conduct runs the command, and returns how it ended; nil: its coordinator has gone before.
func (t *execStream) conduct(ctx context.Context, start *hodeipb.ExecStart) *hodeipb.ExecExit {
	x, err := t.execs.begin(start)
	if err != nil {
		return &hodeipb.ExecExit{Code: contract.ExitAgentGone, Error: err.Error(), NotStarted: true}
	}
	t.id.Store(x.id)
	var files handover.Files
	select {
	case files = <-x.started:
	case exit := <-x.exit:
		if len(x.started) == 0 {
			return execExit(exit, true)
		}
		files = <-x.started
		x.exit <- exit
	case <-ctx.Done():
		t.stop(x)
		return nil
	}
	defer files.Close()
	return t.pass(ctx, x, files, start)
}

// pass passes on what a command that runs reads and writes, and returns how it ended; nil: its coordinator has gone
// before.
func (t *execStream) pass(ctx context.Context, x *execution, files handover.Files, start *hodeipb.ExecStart) *hodeipb.ExecExit {
	if t.send(&hodeipb.ExecFromAgent{Message: &hodeipb.ExecFromAgent_Started{Started: &hodeipb.ExecStarted{}}}) != nil {
		t.stop(x)
		return nil
	}
	terminal := files[handover.FDTerminal]
	if terminal != nil {
		t.input.show(terminal)
	}
	var feeding, copying sync.WaitGroup
	wanted, stopFeeding := context.WithCancel(ctx)
	defer stopFeeding()
	if start.Stdin {
		feeding.Go(func() { t.feed(wanted, x, cmp.Or(terminal, files[handover.FDStdin])) })
		feeding.Go(func() {
			_ = t.input.sendAcks(ctx, func(ack *hodeipb.InputAck) error { // one that can't be sent ends the stream
				return t.send(&hodeipb.ExecFromAgent{Message: &hodeipb.ExecFromAgent_InputAck{InputAck: ack}})
			})
		})
	}
	for _, out := range []struct {
		file   *os.File
		stream hodeipb.Stream
	}{
		{files[handover.FDStdout], hodeipb.Stream_STDOUT}, {files[handover.FDStderr], hodeipb.Stream_STDERR},
		{terminal, hodeipb.Stream_STDOUT},
	} {
		if out.file != nil {
			copying.Go(func() { t.copyOut(out.file, out.stream) })
		}
	}
	var exit *hodeipb.ExecExit
	select {
	case ended := <-x.exit:
		exit = execExit(ended, false)
		for _, f := range files { // what it has left running may hold them open
			_ = f.SetReadDeadline(time.Now().Add(pipeHold))
		}
		copying.Wait()
	case <-ctx.Done():
		t.stop(x)
	}
	t.input.show(nil) // a change of its size must not meet another file
	files.Close()
	stopFeeding()
	t.input.finish()
	copying.Wait()
	feeding.Wait()
	return exit
}

// execExit puts the launcher's word into the coordinator's.
func execExit(e *handover.ExecExit, notStarted bool) *hodeipb.ExecExit {
	return &hodeipb.ExecExit{Code: int32(e.Code), Signal: int32(e.Signal), Error: e.Error, NotStarted: notStarted}
}

// feed writes the input to a command.
func (t *execStream) feed(ctx context.Context, x *execution, f *os.File) {
	complete := func() error { return t.execs.order(&handover.ExecOrder{ID: x.id, InputComplete: true}) }
	if err := t.input.feed(ctx, f, complete); err != nil {
		t.Log.Warn("input of a command beside the job's not written", "error", err)
	}
}

// copyOut sends what a command prints, until the end of f or of the stream.
func (t *execStream) copyOut(f *os.File, stream hodeipb.Stream) {
	buffer := make([]byte, hodeipb.MaxExecOutputBytes)
	for {
		n, err := f.Read(buffer)
		if n > 0 && t.sendOutput(stream, buffer[:n]) != nil {
			return
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.drain(f, stream, buffer)
			return
		case err != nil: // EIO is the end of a terminal
			return
		}
	}
}

// sendOutput sends a piece of output, which is encoded when it returns.
func (t *execStream) sendOutput(stream hodeipb.Stream, data []byte) error {
	out := &hodeipb.ExecOutput{Stream: stream, Data: data}
	return t.send(&hodeipb.ExecFromAgent{Message: &hodeipb.ExecFromAgent_Output{Output: out}})
}

// drain sends what f holds at this moment: its read deadline may have passed while sending took its time. A process that
// goes on writing can't prolong it beyond a pipe's size.
func (t *execStream) drain(f *os.File, stream hodeipb.Stream, buffer []byte) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	for taken := 0; taken <= handover.PipeBytes; {
		n := 0
		err := raw.Control(func(fd uintptr) { // it does not block
			for {
				var failed error
				if n, failed = unix.Read(int(fd), buffer); failed != unix.EINTR {
					return
				}
			}
		})
		if err != nil || n <= 0 || t.sendOutput(stream, buffer[:n]) != nil {
			return
		}
		taken += n
	}
}

// receive takes what the coordinator sends, until the stream ends.
func (t *execStream) receive(start *hodeipb.ExecStart) error {
	for {
		m, err := t.stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch m := m.Message.(type) {
		case *hodeipb.ExecToAgent_Input:
			if !start.Stdin {
				return errors.New("input for a command that takes none")
			}
			err = t.input.take(m.Input)
		case *hodeipb.ExecToAgent_TerminalSize:
			err = t.input.resize(m.TerminalSize)
		case *hodeipb.ExecToAgent_Signal:
			if id := t.id.Load(); id > 0 && m.Signal > 0 && m.Signal < 65 { // before its start it has no handler
				err = t.execs.order(&handover.ExecOrder{ID: id, Signal: int(m.Signal)})
			}
		}
		if err != nil {
			return err
		}
	}
}

// execsWait is how long an agent whose job has ended waits until the ends of the commands beside it are told.
const execsWait = pipeHold + 2*closeWait

// awaitExecs waits for the ends of all executions to be told.
func (a *agent) awaitExecs() {
	late := time.NewTimer(execsWait)
	defer late.Stop()
	for {
		a.mu.Lock()
		executing, changed := a.executing, a.changed
		a.mu.Unlock()
		if executing == 0 {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		}
	}
}
