package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// pipeHold is how long output is awaited after the command's end from processes
// that it left behind. It is less than the launcher's DoneWait, because the
// container ends with the launcher.
const pipeHold = handover.DoneWait - 100*time.Millisecond

// readBytes is one read from a pipe: half of what it holds.
const readBytes = 256 << 10

// output reads the command's pipes into the spool.
type output struct {
	*agent
	pipes  []*pipe
	work   sync.WaitGroup
	giveUp context.CancelCauseFunc // ends the waiting for room in the spool

	mu        sync.Mutex
	held      bool
	lostBytes uint64
	lostErr   error
}

// readOutput starts to read the command's pipes. That goes on when ctx has ended, until finish.
func (a *agent) readOutput(ctx context.Context, files handover.Files) (*output, error) {
	o := &output{agent: a}
	ctx, o.giveUp = context.WithCancelCause(context.WithoutCancel(ctx))
	for _, f := range []struct {
		name   string
		stream hodeipb.Stream
	}{
		{handover.FDStdout, hodeipb.Stream_STDOUT}, {handover.FDStderr, hodeipb.Stream_STDERR},
		{handover.FDTerminal, hodeipb.Stream_STDOUT},
	} {
		if files[f.name] == nil {
			continue
		}
		p, err := openPipe(files[f.name], f.stream)
		if err != nil {
			o.close()
			return nil, err
		}
		o.pipes = append(o.pipes, p)
	}
	for _, p := range o.pipes {
		o.work.Go(func() { o.read(ctx, p) })
	}
	return o, nil
}

// finish waits for the ends of the pipes, at most pipeHold, and says whether
// one was still held open. Where the spool is full it also waits for room, as
// long as an ended job waits for coordinators.
func (o *output) finish(ctx context.Context, failed bool) bool {
	defer o.close()
	for _, p := range o.pipes {
		if err := p.ready.SetReadDeadline(time.Now().Add(pipeHold)); err != nil {
			o.Log.Warn("pipe without deadline", "error", err)
		}
	}
	ended := false
	var telling sync.WaitGroup
	telling.Go(func() {
		o.work.Wait()
		o.update(func() { ended = true })
	})
	if !o.awaitCoordinators(ctx, failed, func() bool { return ended }) {
		o.giveUp(errors.New("nobody has made room for it"))
	}
	telling.Wait()
	return o.held
}

// close is called once nothing is left to read.
func (o *output) close() {
	o.giveUp(nil)
	for _, p := range o.pipes {
		p.ready.Close()
	}
}

// lost says how much output could not be kept, and why; nil: all was.
func (o *output) lost() error {
	if o.lostErr == nil {
		return nil
	}
	return fmt.Errorf("%d bytes of output lost: %w", o.lostBytes, o.lostErr)
}

// read moves what comes from a pipe into the spool until its end.
func (o *output) read(ctx context.Context, p *pipe) {
	pace := newPace(p.size())
	for {
		n, err := 0, p.expired()
		if err == nil {
			n, err = o.move(ctx, p.stream, p.fd)
		}
		if errors.Is(err, unix.EAGAIN) {
			began := time.Now()
			err = p.await()
			pace.waited(time.Since(began))
		}
		switch {
		case err == nil:
			time.Sleep(pace.rest(n, time.Now()))
		case errors.Is(err, io.EOF):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !o.drain(ctx, p) {
				o.mu.Lock()
				o.held = true
				o.mu.Unlock()
			}
			return
		default:
			o.lose(0, err)
			return
		}
	}
}

// drain takes what the pipe holds at this moment, and says whether that was all
// there will ever be: the deadline may have passed while the spool was full. A
// process that goes on writing can't prolong it beyond two pipes' size.
func (o *output) drain(ctx context.Context, p *pipe) (ended bool) {
	for taken, size := 0, p.size(); taken <= size; {
		n, err := o.move(ctx, p.stream, p.fd)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		taken += n
	}
	return false
}

// move moves what is in the pipe, up to readBytes, into the spool, and never waits
// for more: the error is then EAGAIN. While the spool is full the output stays
// where it is, and the command waits. From the first byte that the disk refuses
// on, everything is only counted: what is there stays a prefix, and the job goes on.
func (o *output) move(ctx context.Context, stream hodeipb.Stream, fd int) (int, error) {
	read := func(space []byte) (n int, err error) {
		for {
			if n, err = unix.Read(fd, space); err != unix.EINTR {
				break
			}
		}
		if n == 0 && err == nil || errors.Is(err, unix.EIO) { // a terminal that no process has open any more
			err = io.EOF
		}
		return max(n, 0), err
	}
	ready, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0, os.NewSyscallError("ioctl TIOCINQ", err)
	}
	if ready == 0 { // the end, or nothing yet: that must not wait for room
		var first [1]byte
		n, err := read(first[:])
		if n == 0 {
			return 0, err
		}
		o.keep(ctx, stream, first[:n])
		return n, nil
	}
	if !o.broken() {
		n, readErr, err := o.spool.Fill(ctx, stream, min(ready, readBytes), read)
		if err != nil {
			o.lose(n, err)
			return n, nil
		}
		return n, readErr
	}
	n, err := read(make([]byte, min(ready, readBytes)))
	o.lose(n, nil)
	return n, err
}

// keep puts a byte that was read already into the spool.
func (o *output) keep(ctx context.Context, stream hodeipb.Stream, data []byte) {
	if o.broken() {
		o.lose(len(data), nil)
	} else if err := o.spool.Append(ctx, stream, time.Now(), data); err != nil {
		o.lose(len(data), err)
	}
}

func (o *output) broken() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lostErr != nil
}

// lose counts output that is not kept; err is why, the first time.
func (o *output) lose(n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lostErr == nil {
		o.Log.Error("output lost", "error", err)
		o.lostErr = err
	}
	o.lostBytes += uint64(n)
}
