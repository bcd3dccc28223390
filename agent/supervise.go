package agent

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// stoppedCode is what the launcher of a job that was told to stop exits with, whatever the
// command answered: timeout(1)'s, and that of a Ctrl-C.
var stoppedCode = map[string]int{
	contract.CauseDeadlineExceeded: contract.ExitTimeout,
	contract.CauseCancelled:        contract.ExitCancelled,
	contract.CauseInputLost:        contract.ExitAgentGone,
}

// supervise runs the job from the launcher's hello to the exit record, which is
// known to coordinators before the container's log has everything.
func (a *agent) supervise(ctx context.Context, launcher *handover.Launcher, m *meter.Meter) (*hodeipb.ExitRecord, error) {
	conn, files := launcher.Conn, launcher.Files
	defer m.Close()
	stdin, err := a.stdin(files)
	if err != nil {
		return nil, err
	}
	out, err := a.readOutput(ctx, files)
	if err != nil {
		stdin.Close()
		return nil, err
	}
	finish := a.samples.Start(m.Measure)
	copying, stopCopying := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCopying()
	log := a.copyToContainer(copying, files)
	s := &supervisor{agent: a, conn: conn}
	if terminal := files[handover.FDTerminal]; terminal != nil && a.TTY {
		a.input.show(terminal)
		defer a.input.show(nil)
	}
	if err := handover.Send(conn, handover.FromAgent{Start: true}); err != nil {
		a.Log.Warn("launcher not answered", "error", err)
	}
	stopFeeding := s.startFeeding(stdin)
	exit := s.untilExit()
	a.execs.close()
	stopFeeding()
	first, last := finish(func() { m.End(exit) })
	copied := make(chan struct{})
	var waiting sync.WaitGroup
	if log != nil {
		waiting.Go(func() { s.askForPatience(copied) })
	}
	held := out.finish(ctx, exit == nil || exit.Code != 0)

	execs, execKills := a.execs.counts()
	record := s.record(ctx, exit, meter.OutOfMemory(first, last, execKills))
	record.Execs = execs
	record.Usage, record.Probes = last, m.Probes()
	record.PipesHeld = held
	_, record.End = a.spool.Extent()
	record.StdoutEnd, record.StderrEnd = a.spool.StreamEnds()
	record.Lost = out.lostBytes
	if lost := out.lost(); lost != nil {
		note(record, lost.Error())
	}
	if execKills > 0 {
		note(record, fmt.Sprintf("the kernel killed %d processes for their memory that ran beside the command", execKills))
	}
	a.ended(record)

	complete := log.finish(ctx)
	close(copied)
	waiting.Wait()
	a.update(func() { a.copied = complete })
	// The launcher takes its container with it when it hears this.
	if err := handover.Send(conn, handover.FromAgent{Done: true, Code: stoppedCode[s.stopped]}); err != nil && exit != nil {
		a.Log.Warn("launcher not answered", "error", err)
	}
	return record, nil
}

// note adds to what a person should know besides.
func note(record *hodeipb.ExitRecord, text string) {
	record.Message = strings.TrimPrefix(record.Message+"; "+text, "; ")
}

// ended makes it known how the job ended.
func (a *agent) ended(record *hodeipb.ExitRecord) {
	a.setExit(record)
	if text, err := recordText(record, contract.MessageBytes); err != nil {
		a.Log.Warn("exit record not left as the container's message", "error", err)
	} else {
		a.writeTermination(text)
	}
	a.Log.Info("job ended", "code", record.Code, "signal", record.Signal, "cause", record.Cause, "bytes", record.End,
		"usage", record.Usage.GetSource(), "samples", a.samples.Count())
}

// askForPatience keeps the launcher, whose container's log is still being written,
// from ending before its Done, until done.
func (s *supervisor) askForPatience(done <-chan struct{}) {
	tick := time.NewTicker(waitEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if handover.Send(s.conn, handover.FromAgent{Wait: true}) != nil {
				return // it has gone; what is left of the log is lost with it
			}
		case <-done:
			return
		}
	}
}

// supervisor is the conversation with the launcher while the command runs.
type supervisor struct {
	*agent
	conn    *net.UnixConn
	started time.Time
	// stopped is the cause with which the job was told to stop; empty: it was not.
	stopped string
	kill    <-chan time.Time
	killAt  time.Time
	// told is the last signal that was passed on by order; 0: none.
	told unix.Signal
	// inputLost gets why the rest of the input will not come; nil: there is none, or it has come.
	inputLost <-chan string
	lostWhy   string
}

// stdin returns the file by which the command gets its input, nil if it gets none. Whoever feeds the
// command closes it.
func (a *agent) stdin(files handover.Files) (*os.File, error) {
	terminal := files[handover.FDTerminal]
	if !a.TTY || terminal == nil {
		return files[handover.FDStdin], nil
	}
	// By a descriptor of its own, which Go's poller has: see openPipe.
	fd, err := unix.FcntlInt(terminal.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
	}
	return os.NewFile(uintptr(fd), handover.FDStdin), nil
}

// startFeeding has the input written to the command's stdin, which is nil if it is empty, until stop,
// which waits for the end of that.
func (s *supervisor) startFeeding(stdin *os.File) (stop func()) {
	switch {
	case s.input == nil:
		return func() {}
	case stdin == nil: // the launcher was not told to bring it
		s.input.finish()
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	lost := make(chan string, 1)
	s.inputLost = lost
	var work sync.WaitGroup
	work.Go(func() {
		complete := func() error { return handover.Send(s.conn, handover.FromAgent{InputComplete: true}) }
		if err := s.input.feed(ctx, stdin, complete); err != nil {
			s.Log.Warn("input not written, or the launcher not told that it is complete", "error", err)
		}
	})
	work.Go(func() {
		if why := s.input.awaitLoss(ctx, s.StartTimeout); why != "" {
			lost <- why
		}
	})
	return func() {
		cancel()
		stdin.Close() // it may be being written
		work.Wait()
	}
}

// untilExit returns the launcher's exit message, nil if it went without one.
func (s *supervisor) untilExit() *handover.Exit {
	messages := make(chan *handover.FromLauncher)
	done := make(chan struct{})
	var work sync.WaitGroup
	defer work.Wait()
	defer func() {
		close(done)
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // nobody reads from now on
	}()
	work.Go(func() {
		defer close(messages)
		for {
			m := &handover.FromLauncher{}
			fds, err := handover.Receive(s.conn, m)
			if err != nil {
				return
			}
			if s.execs.take(m, fds) {
				continue
			}
			handover.CloseAll(fds)
			select {
			case messages <- m:
			case <-done:
				return
			}
		}
	})
	var timeout <-chan time.Time
	for {
		select {
		case m, ok := <-messages:
			switch {
			case !ok:
				return nil
			case m.Started != nil && s.started.IsZero():
				s.started = m.Started.Time
				s.execs.open(s.conn)
				if s.Timeout > 0 {
					timeout = time.After(s.Timeout)
				}
				s.setState(func(st *hodeipb.State) {
					st.Phase = max(st.Phase, hodeipb.Phase_RUNNING) // it may have been told to stop already
					st.CommandStarted = timestamppb.New(s.started)
				})
			case m.Exit != nil:
				return m.Exit
			}
		case <-timeout:
			s.stop(contract.CauseDeadlineExceeded, s.Grace)
		case s.lostWhy = <-s.inputLost:
			s.stop(contract.CauseInputLost, s.Grace)
		case order := <-s.orders:
			s.obey(order)
		case <-s.kill:
			s.signal(unix.SIGKILL)
		}
	}
}

func (s *supervisor) obey(order *hodeipb.Control) {
	switch o := order.Order.(type) {
	case *hodeipb.Control_Signal:
		switch {
		case s.started.IsZero(): // it would end the command before it can have a handler
			s.Log.Info("signal not passed on: the command has not started", "signal", o.Signal)
		case o.Signal > 0 && o.Signal < 65:
			s.signal(unix.Signal(o.Signal))
			s.setState(func(st *hodeipb.State) { st.Signals = new(st.GetSignals() + 1) })
		}
	case *hodeipb.Control_Cancel:
		grace := s.Grace
		if o.Cancel.Grace != nil {
			grace = o.Cancel.Grace.AsDuration()
		}
		s.stop(contract.CauseCancelled, grace)
	case *hodeipb.Control_JobEnded: // our launcher's socket tells the same, and how
	default:
		s.Log.Warn("unknown order", "order", order.String())
	}
}

// stop asks the command to end, and makes it after the grace.
func (s *supervisor) stop(cause string, grace time.Duration) {
	if s.stopped == "" {
		s.stopped = cause
		s.setState(func(st *hodeipb.State) { st.Phase = hodeipb.Phase_STOPPING })
		s.terminate()
	}
	// Who asks again may be in more of a hurry.
	if at := time.Now().Add(grace); s.kill == nil || at.Before(s.killAt) {
		s.kill, s.killAt = time.After(grace), at
	}
}

// terminate asks the command to end. At a terminal that is hanging up.
func (s *supervisor) terminate() {
	if !s.TTY {
		s.signal(unix.SIGTERM)
		return
	}
	s.told = unix.SIGTERM
	if err := handover.Send(s.conn, handover.FromAgent{HangUp: true}); err != nil {
		s.Log.Warn("terminal not hung up", "error", err)
	}
}

func (s *supervisor) signal(sig unix.Signal) {
	s.told = sig
	if err := handover.Send(s.conn, handover.FromAgent{Signal: int(sig)}); err != nil {
		s.Log.Warn("signal not passed on", "signal", sig, "error", err)
	}
}

// record turns the launcher's word and the kernel's into the exit record. oom is what
// the OOM killer has done to the job; empty: nothing.
func (s *supervisor) record(ctx context.Context, exit *handover.Exit, oom string) *hodeipb.ExitRecord {
	r := &hodeipb.ExitRecord{Finished: timestamppb.Now()}
	if !s.started.IsZero() {
		r.Started = timestamppb.New(s.started)
	}
	switch {
	case exit == nil:
		// Only SIGKILL ends a launcher that way; by whom, the container's status
		// says, unless the kernel has.
		r.Code, r.Signal = 128+int32(unix.SIGKILL), int32(unix.SIGKILL)
		r.Message = "the job's first process was killed"
	default:
		r.Code, r.Signal, r.Message = int32(exit.Code), int32(exit.Signal), exit.Error
		r.Finished = timestamppb.New(exit.Finished)
	}
	switch {
	case s.stopped != "":
		r.Cause = s.stopped
		switch s.stopped {
		case contract.CauseDeadlineExceeded:
			r.Message = fmt.Sprintf("the job ran longer than its timeout of %s", s.Timeout)
		case contract.CauseInputLost:
			r.Message = "the rest of its input did not come: " + s.lostWhy
			if s.TTY {
				r.Message = "its terminal was hung up: " + s.lostWhy
			}
		}
	case oom != "":
		r.Cause, r.Message = contract.CauseOOMKilled, oom
	case exit == nil:
	case s.podEnds(ctx, exit): // by whom and why, the Pod's status says
		r.Message = "the Pod was told to end"
		if r.PodEnded = r.Signal == 0; r.PodEnded {
			r.Cause = ownCause(r)
		}
	default:
		r.Cause = ownCause(r)
	}
	return r
}

// ownCause is the cause of a command that ended by itself.
func ownCause(r *hodeipb.ExitRecord) string {
	switch {
	case r.Signal != 0:
		return contract.CauseSignaled
	case r.Code != 0:
		return contract.CauseError
	}
	return contract.CauseCompleted
}

// podEndsWait is how much later than the job's container ours may be told that the
// Pod ends; the kubelet stops both at once. A job ends so much later whose command was
// killed, or whose launcher was sent a signal, by neither a Pod's end nor our order.
const podEndsWait = 500 * time.Millisecond

// podEnds tells that the command ended because the Pod was told to, by a signal or in
// answer to one.
func (s *supervisor) podEnds(ctx context.Context, exit *handover.Exit) bool {
	signal := unix.Signal(exit.Signal)
	killed := signal != s.told && (signal == unix.SIGTERM || signal == unix.SIGKILL)
	if !s.InPod || !killed && !exit.Told {
		return false
	}
	late := time.NewTimer(podEndsWait)
	defer late.Stop()
	select {
	case <-ctx.Done():
		return true
	case <-late.C:
		return false
	}
}
