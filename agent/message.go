package agent

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// messageFile is where the kubelet takes a container's message from. It lies on
// the node's own disk, everybody in the container may write to it, and no limit
// counts it: a job of 50Mi --ephemeral-storage wrote 512 MB there, and stayed.
const messageFile = "/dev/termination-log"

const (
	// messageBytes is all that the kubelet reads of it.
	messageBytes = 4096
	// messageEvery is how often it is looked at: a disk of 2 GB/s loses 2 GB in
	// between. The kubelet looks at what it counts every 10 s.
	messageEvery = time.Second
	// allocatedBytes may be allocated beyond the end, which file systems do by
	// themselves for files that grow; fallocate(2) can do it without end.
	allocatedBytes = 1 << 20
)

// message is the file of this container.
type message struct{ file *os.File }

// openMessage is called before any code of the job's runs. There is no such file
// outside a cluster.
func openMessage(path string) (*message, error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	return &message{f}, nil
}

// keepShort cuts the file whenever it has grown, for as long as this process lives.
func (m *message) keepShort() {
	for range time.Tick(messageEvery) {
		_ = m.cut() // the next one may do better
	}
}

// cut frees what the kubelet would not read.
func (m *message) cut() error {
	var s unix.Stat_t
	if err := unix.Fstat(int(m.file.Fd()), &s); err != nil {
		return err
	}
	if s.Size <= messageBytes && s.Blocks*512 <= s.Size+allocatedBytes {
		return nil
	}
	return m.file.Truncate(min(s.Size, messageBytes))
}
