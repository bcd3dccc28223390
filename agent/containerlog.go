package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// waitEvery is how often the launcher is asked for patience while output is being
// copied: twice in its doneWait.
const waitEvery = doneWait / 2

// stuckLog is how long the container's log may take nothing before its container
// no longer waits for it: the runtime writes to a local disk. slowLog is how long
// it waits in all, which is less than a Job's deadline leaves for such things.
const stuckLog, slowLog = 10 * time.Second, 2 * time.Minute

// containerLog copies the output to the launcher's own stdout and stderr, so that
// the runtime puts it into the log of the job's container. It reads the spool like
// an attachment, at the pace of the log, and never holds up the job.
type containerLog struct {
	*agent
	out, err *os.File

	mu     sync.Mutex
	copied uint64 // offset up to which the log has the output
	grown  chan struct{}
	broken error
}

// copyToContainer starts the copy, if that was asked for. It ends with ctx, and
// with the spool.
func (a *agent) copyToContainer(ctx context.Context, files handedOver) *containerLog {
	if !a.ContainerLogs {
		return nil
	}
	c := &containerLog{agent: a, out: files[fdContainerOut], err: files[fdContainerErr], grown: make(chan struct{})}
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
	r := c.spool.reader(0)
	for {
		batch, data, err := r.next(ctx, batchBytes, flushAfter)
		if err != nil {
			return err // io.EOF too: there is nothing more to wait for
		}
		err = c.write(batch, data)
		data.Free()
		if err != nil {
			return err
		}
		c.update(func() { c.copied = r.offset })
	}
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
// waits for the Pod to be gone.
func (c *containerLog) finish() {
	if c == nil {
		return
	}
	_, end := c.spool.extent()
	stuck, slow := time.NewTimer(stuckLog), time.NewTimer(slowLog)
	defer stuck.Stop()
	defer slow.Stop()
	for {
		c.mu.Lock()
		copied, broken, grown := c.copied, c.broken, c.grown
		c.mu.Unlock()
		if copied >= end || broken != nil {
			return
		}
		var why string
		select {
		case <-grown:
			stuck.Reset(stuckLog)
			continue
		case <-stuck.C:
			why = "it takes nothing"
		case <-slow.C:
			why = "it is too slow"
		case <-c.term:
			why = "the Pod is being deleted"
		}
		c.Log.Warn("the container's log lacks the end of the output", "because", why, "copied", copied, "of", end)
		return
	}
}
