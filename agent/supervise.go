package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/cgroup"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// Causes that an agent can tell, as they stand in an exit record.
const (
	causeCompleted = "Completed"
	causeError     = "Error"
	causeSignaled  = "Signaled"
	causeOOMKilled = "OOMKilled"
	causeDeadline  = "DeadlineExceeded"
	causeCancelled = "Cancelled"
)

// pipeHold is how long output is awaited after the command's end from processes
// that it left behind. It is less than the launcher's doneWait, because the
// container ends with the launcher.
const pipeHold = doneWait - 100*time.Millisecond

// readBytes is one read from a pipe: all that a pipe holds by default.
const readBytes = 64 << 10

// supervise runs the job from the launcher's hello to the exit record.
func (a *agent) supervise(conn *net.UnixConn, files handedOver) *hodeipb.ExitRecord {
	defer files.close()
	var group *cgroup.Job
	if dir := files[fdCgroup]; dir != nil {
		var err error
		if group, err = cgroup.Open(dir); err != nil {
			a.Log.Warn("no evidence from the cgroup", "error", err)
		}
	}
	defer group.Close()

	oomBefore, _ := group.OOMKills() // none in a new container
	out := a.readOutput(files)
	s := &supervisor{agent: a, conn: conn, group: group}
	if err := send(conn, agentMsg{Start: true}); err != nil {
		a.Log.Warn("launcher not answered", "error", err)
	}
	exit := s.untilExit()
	s.sample() // the last one
	oomKills, known := s.oomKills-min(oomBefore, s.oomKills), s.known
	held := out.finish(exit == nil || exit.Code != 0)
	// The launcher takes its container with it when it hears this.
	if err := send(conn, agentMsg{Done: true}); err != nil && exit != nil {
		a.Log.Warn("launcher not answered", "error", err)
	}

	record := s.record(exit, oomKills)
	if known {
		record.Usage = &hodeipb.Usage{OomKills: &oomKills}
	}
	record.PipesHeld = held
	_, record.End = a.spool.extent()
	record.StdoutEnd, record.StderrEnd = a.spool.streamEnds()
	record.Lost = out.lostBytes
	if lost := out.lost(); lost != nil {
		record.Message = strings.TrimPrefix(record.Message+"; "+lost.Error(), "; ")
	}
	return record
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

	group *cgroup.Job
	// oomKills is the last count that could be read: the files go with the container.
	oomKills uint64
	known    bool
}

func (s *supervisor) sample() {
	if n, ok := s.group.OOMKills(); ok {
		s.oomKills, s.known = n, true
	}
}

// untilExit returns the launcher's exit message, nil if it went without one.
func (s *supervisor) untilExit() *exitMsg {
	messages := make(chan launcherMsg)
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(messages)
		for {
			var m launcherMsg
			if fds, err := receive(s.conn, &m); err != nil {
				return
			} else {
				closeAll(fds)
			}
			select {
			case messages <- m:
			case <-done:
				return
			}
		}
	}()
	var timeout <-chan time.Time
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.sample()
		case m, ok := <-messages:
			switch {
			case !ok:
				return nil
			case m.Started != nil && s.started.IsZero():
				s.started = m.Started.Time
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
			s.stop(causeDeadline, s.Grace)
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
		if o.Signal > 0 && o.Signal < 65 {
			s.signal(unix.Signal(o.Signal))
		}
	case *hodeipb.Control_Cancel:
		grace := s.Grace
		if o.Cancel.Grace != nil {
			grace = o.Cancel.Grace.AsDuration()
		}
		s.stop(causeCancelled, grace)
	default:
		s.Log.Warn("unknown order", "order", order.String())
	}
}

// stop asks the command to end, and makes it after the grace.
func (s *supervisor) stop(cause string, grace time.Duration) {
	if s.stopped == "" {
		s.stopped = cause
		s.setState(func(st *hodeipb.State) { st.Phase = hodeipb.Phase_STOPPING })
		s.signal(unix.SIGTERM)
	}
	// Who asks again may be in more of a hurry.
	if at := time.Now().Add(grace); s.kill == nil || at.Before(s.killAt) {
		s.kill, s.killAt = time.After(grace), at
	}
}

func (s *supervisor) signal(sig unix.Signal) {
	if err := send(s.conn, agentMsg{Signal: int(sig)}); err != nil {
		s.Log.Warn("signal not passed on", "signal", sig, "error", err)
	}
}

// record turns the launcher's word and the kernel's into the exit record.
func (s *supervisor) record(exit *exitMsg, oomKills uint64) *hodeipb.ExitRecord {
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
		if s.stopped == causeDeadline {
			r.Message = fmt.Sprintf("the job ran longer than its timeout of %s", s.Timeout)
		}
	case oomKills > 0:
		r.Cause = causeOOMKilled
		r.Message = "memory reached its limit and the kernel killed a process of the job"
	case exit == nil:
	case r.Signal != 0:
		r.Cause = causeSignaled
	case r.Code != 0:
		r.Cause = causeError
	default:
		r.Cause = causeCompleted
	}
	return r
}

// output reads the command's pipes into the spool.
type output struct {
	*agent
	files []*os.File
	work  sync.WaitGroup
	// ctx ends the waiting for room in the spool.
	ctx    context.Context
	giveUp context.CancelCauseFunc

	mu        sync.Mutex
	held      bool
	lostBytes uint64
	lostErr   error
}

func (a *agent) readOutput(files handedOver) *output {
	o := &output{agent: a}
	o.ctx, o.giveUp = context.WithCancelCause(context.Background())
	for _, p := range []struct {
		name   string
		stream hodeipb.Stream
	}{{fdStdout, hodeipb.Stream_STDOUT}, {fdStderr, hodeipb.Stream_STDERR}} {
		if f := files[p.name]; f != nil {
			o.files = append(o.files, f)
			o.work.Go(func() { o.read(p.stream, f) })
		}
	}
	return o
}

// finish waits for the ends of the pipes, at most pipeHold, and says whether
// one was still held open. Where the spool is full it also waits for room, as
// long as an ended job waits for coordinators.
func (o *output) finish(failed bool) bool {
	defer o.giveUp(nil)
	for _, f := range o.files {
		if err := f.SetReadDeadline(time.Now().Add(pipeHold)); err != nil {
			o.Log.Warn("pipe without deadline", "error", err)
		}
	}
	ended := false
	go func() {
		o.work.Wait()
		o.update(func() { ended = true })
	}()
	if !o.awaitCoordinators(failed, func() bool { return ended }) {
		o.giveUp(errors.New("nobody has made room for it"))
	}
	o.work.Wait()
	return o.held
}

// lost says how much output could not be kept, and why; nil: all was.
func (o *output) lost() error {
	if o.lostErr == nil {
		return nil
	}
	return fmt.Errorf("%d bytes of output lost: %w", o.lostBytes, o.lostErr)
}

func (o *output) read(stream hodeipb.Stream, f *os.File) {
	buf := make([]byte, readBytes)
	for {
		n, err := f.Read(buf)
		o.keep(stream, buf[:n])
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !o.drain(stream, f, buf) {
				o.mu.Lock()
				o.held = true
				o.mu.Unlock()
			}
			return
		default:
			if !errors.Is(err, io.EOF) {
				o.lose(0, err)
			}
			return
		}
	}
}

// drain takes what the pipe holds at this moment, and says whether that was all
// there will ever be: the deadline may have passed while the spool was full. A
// process that goes on writing can't prolong it beyond two pipes' size.
func (o *output) drain(stream hodeipb.Stream, f *os.File, buf []byte) (ended bool) {
	_ = f.SetReadDeadline(time.Time{})
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	size := len(buf)
	_ = conn.Control(func(fd uintptr) {
		if n, err := unix.FcntlInt(fd, unix.F_GETPIPE_SZ, 0); err == nil {
			size = n
		}
	})
	for taken := 0; taken <= size; {
		var n int
		var readErr error
		err := conn.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return true // never wait
		})
		if err != nil || readErr != nil {
			return false
		}
		if n == 0 {
			return true
		}
		o.keep(stream, buf[:n])
		taken += n
	}
	return false
}

// keep puts data into the spool. From the first byte that the disk refuses on,
// everything is only counted: what is there stays a prefix, and the job goes on.
func (o *output) keep(stream hodeipb.Stream, data []byte) {
	if len(data) == 0 {
		return
	}
	o.mu.Lock()
	broken := o.lostErr != nil
	if broken {
		o.lostBytes += uint64(len(data))
	}
	o.mu.Unlock()
	if broken {
		return
	}
	before := o.end(stream)
	if err := o.spool.append(o.ctx, stream, time.Now(), data); err != nil {
		o.lose(len(data)-int(o.end(stream)-before), err) // a part of it may be there
	}
}

// end of a stream, whose only writer is the caller.
func (o *output) end(stream hodeipb.Stream) uint64 {
	stdout, stderr := o.spool.streamEnds()
	if stream == hodeipb.Stream_STDERR {
		return stderr
	}
	return stdout
}

func (o *output) lose(n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lostErr == nil {
		o.Log.Error("output lost", "error", err)
		o.lostErr = err
	}
	o.lostBytes += uint64(n)
}

// close closes all files.
func (h handedOver) close() {
	for _, f := range h {
		f.Close()
	}
}
