package launcher

import (
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// messageFile is where the kubelet takes a container's message from. It lies on
// the node's own disk, everybody in the container may write to it, and no limit
// counts it: a job of 50Mi --ephemeral-storage wrote 512 MB there, and stayed.
const messageFile = "/dev/termination-log"

const (
	// messageEvery is how often it is looked at: a disk of 2 GB/s loses 2 GB in
	// between. The kubelet looks at what it counts every 10 s.
	messageEvery = time.Second
	// allocatedBytes may be allocated beyond the end, which file systems do by
	// themselves for files that grow; fallocate(2) can do it without end.
	allocatedBytes = 1 << 20
)

// keepShort cuts the file whenever it has grown, until stop, and once more then. It
// is called before any code of the job's runs, which could put another file there.
func keepShort(path string) (stop func(), err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	over := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(messageEvery)
		defer tick.Stop()
		for open := true; open; {
			select {
			case <-tick.C:
			case <-over:
				open = false
			}
			_ = cut(f) // the next one may do better
		}
	})
	return func() {
		close(over)
		work.Wait()
		f.Close()
	}, nil
}

// cut frees what the kubelet would not read.
func cut(f *os.File) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return err
	}
	if s.Size <= contract.MessageBytes && s.Blocks*512 <= s.Size+allocatedBytes {
		return nil
	}
	return f.Truncate(min(s.Size, contract.MessageBytes))
}
