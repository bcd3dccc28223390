package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// waitEvery is how often the launcher is asked for patience while output is being
// copied: twice in its DoneWait.
const waitEvery = handover.DoneWait / 2

// stuckLog is how long the container's log may take nothing before its container
// no longer waits for it: the runtime writes to a local disk. slowLog is how long
// it waits in all, which is less than a Job's deadline leaves for such things.
const stuckLog, slowLog = 10 * time.Second, 2 * time.Minute

// keptLog is the size up to which a container's log is still there, whole, when its container
// has ended. The kubelet looks every 10 s, begins another file at 10 MiB, and gives out only
// the current one. A cluster may set less: whoever reads the log compares it with the exit
// record.
const keptLog = 8 << 20

// lineBytes is more than a runtime writes in front of a line: a time, a stream and a tag
// are 40 bytes in the format of CRI, and Docker's JSON around them takes 75. A line that is
// longer than pieceBytes takes as much again for each piece.
const lineBytes, pieceBytes = 80, 16 << 10

// settle is how long the container lives on once its log's pipes are empty. If the container
// ends earlier, the runtime drops what it has read and not yet written to the file.
const settle = 200 * time.Millisecond

// drainEvery is the time between two looks at whether the pipes are empty.
const drainEvery = 10 * time.Millisecond

// containerLog copies the output to the launcher's own stdout and stderr, so that
// the runtime puts it into the log of the job's container. It reads the spool like
// an attachment, at the pace of the log, and never holds up the job.
type containerLog struct {
	*agent
	out, err *os.File

	mu     sync.Mutex
	copied uint64 // offset up to which the log has the output
	size   uint64 // of the log, about
	holed  bool   // it lacks what the spool has dropped
	grown  chan struct{}
	broken error
}

// copyToContainer starts the copy, if that was asked for. It ends with ctx, and
// with the spool.
func (a *agent) copyToContainer(ctx context.Context, files handover.Files) *containerLog {
	if !a.ContainerLogs {
		return nil
	}
	c := &containerLog{agent: a, out: files[handover.FDContainerOut], err: files[handover.FDContainerErr], grown: make(chan struct{})}
	if c.out == nil || c.err == nil {
		a.Log.Warn("no copy for the container's log: the launcher passed no streams of its own")
		return nil
	}
	// Nobody can wait for it: a write to a log that is stuck ends with the process.
	go func() {
		err := c.copy(ctx)
		if ctx.Err() == nil && !errors.Is(err, io.EOF) {
			a.Log.Warn("copy to the container's log ended", "error", err)
		}
		c.update(func() { c.broken = err })
	}()
	return c
}

func (c *containerLog) update(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
	close(c.grown)
	c.grown = make(chan struct{})
}

func (c *containerLog) copy(ctx context.Context) error {
	r := c.spool.Reader(0)
	for {
		batch, data, err := r.Next(ctx, spool.BatchBytes, flushAfter)
		if err != nil {
			return err // io.EOF too: there is nothing more to wait for
		}
		size, holed := logSize(batch, data)
		err = c.write(batch, data)
		data.Free()
		if err != nil {
			return err
		}
		c.update(func() {
			c.copied = r.Offset()
			c.size += size
			c.holed = c.holed || holed
		})
	}
}

// logSize returns roughly what a batch adds to the size of a log, and whether the batch lacks
// some of the output.
func logSize(batch *hodeipb.Batch, data mem.BufferSlice) (size uint64, holed bool) {
	for _, r := range batch.Records {
		size += lineBytes // a record may end in a line
		holed = holed || r.Lost > 0
	}
	for _, part := range data {
		b := part.ReadOnlyData()
		size += uint64(len(b)) + lineBytes*uint64(bytes.Count(b, []byte{'\n'})+len(b)/pieceBytes)
	}
	return size, holed
}

func (c *containerLog) write(batch *hodeipb.Batch, data mem.BufferSlice) error {
	from := data.Reader()
	defer from.Close()
	offset := batch.Offset
	for _, r := range batch.Records {
		to := c.out
		if r.Stream == hodeipb.Stream_STDERR {
			to = c.err
		}
		var err error
		if r.Lost > 0 {
			_, err = fmt.Fprintf(c.err, "\nhodei: %d bytes of output are lost from offset %d on\n", r.Lost, offset)
		} else {
			_, err = io.CopyN(to, from, int64(r.Length))
		}
		if err != nil {
			return err
		}
		offset += r.Lost + uint64(r.Length)
	}
	return nil
}

// finish waits until the log has all output, or takes no more of it, or somebody
// waits for the Pod to be gone. It tells whether the log will have all of it for as long
// as there is a Pod.
func (c *containerLog) finish(ctx context.Context) (complete bool) {
	if c == nil {
		return false
	}
	_, end := c.spool.Extent()
	why := c.awaitCopied(ctx, end)
	if why == "" {
		why = c.drain(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if why != "" {
		c.Log.Warn("the container's log lacks the end of the output", "because", why, "copied", c.copied, "of", end)
	}
	return why == "" && !c.holed && c.size <= keptLog
}

// awaitCopied waits until all output up to end is written to the log's pipes. It returns why
// that can't be; empty: it is written.
func (c *containerLog) awaitCopied(ctx context.Context, end uint64) (why string) {
	stuck, slow := time.NewTimer(stuckLog), time.NewTimer(slowLog)
	defer stuck.Stop()
	defer slow.Stop()
	for {
		c.mu.Lock()
		copied, broken, grown := c.copied, c.broken, c.grown
		c.mu.Unlock()
		switch {
		case copied >= end:
			return ""
		case broken != nil:
			return broken.Error()
		}
		select {
		case <-grown:
			stuck.Reset(stuckLog)
		case <-stuck.C:
			return "it takes nothing"
		case <-slow.C:
			return "it is too slow"
		case <-ctx.Done():
			return "the Pod is being deleted"
		}
	}
}

// drain waits until the runtime has read what was written, and then for settle. It returns why
// the runtime has not; empty: it has.
func (c *containerLog) drain(ctx context.Context) (why string) {
	tick, stuck := time.NewTicker(drainEvery), time.NewTimer(stuckLog)
	defer tick.Stop()
	defer stuck.Stop()
	for unread(c.out)+unread(c.err) > 0 {
		select {
		case <-tick.C:
		case <-stuck.C:
			return "it takes nothing"
		case <-ctx.Done():
			return "the Pod is being deleted"
		}
	}
	select {
	case <-time.After(settle):
	case <-ctx.Done():
	}
	return ""
}

// unread returns how many bytes in a pipe nobody has read; 0 also for a file that is no pipe.
func unread(f *os.File) (n int) {
	raw, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) }); e != nil || err != nil {
		return 0
	}
	return n
}
