package agent

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// pipe reads one of the command's pipes. Somebody else owns the descriptor.
//
// It is not in Go's own poller. While a pipe is in an epoll set, each write to it wakes whoever
// waits for the set. Somebody always waits for Go's, so a program that writes every line by
// itself takes more than twice its time. This pipe has an epoll set of its own, which reports
// once each time it is armed (EPOLLONESHOT): a write wakes somebody only while the pipe is
// waited for.
type pipe struct {
	stream hodeipb.Stream
	fd     int
	// ready is the epoll set. Go's poller has it, so that a read deadline works.
	ready *os.File
	raw   syscall.RawConn
}

func openPipe(f *os.File, stream hodeipb.Stream) (*pipe, error) {
	p := &pipe{stream: stream, fd: int(f.Fd())}
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create", err)
	}
	if err := unix.SetNonblock(set, true); err != nil { // so that os.NewFile gives it to the poller
		unix.Close(set)
		return nil, fmt.Errorf("make epoll set non-blocking: %w", err)
	}
	p.ready = os.NewFile(uintptr(set), "pipe")
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, p.fd, &unix.EpollEvent{Events: unix.EPOLLONESHOT}); err != nil {
		p.ready.Close()
		return nil, os.NewSyscallError("epoll_ctl", err)
	}
	if p.raw, err = p.ready.SyscallConn(); err != nil {
		p.ready.Close()
		return nil, err
	}
	return p, nil
}

// size is what it holds, in bytes, at this moment: the command can change that.
func (p *pipe) size() int {
	size, err := unix.FcntlInt(uintptr(p.fd), unix.F_GETPIPE_SZ, 0)
	if err != nil { // it is a terminal
		return handover.PipeBytes
	}
	return size
}

// expired is os.ErrDeadlineExceeded when the read deadline of ready has passed.
func (p *pipe) expired() error {
	return p.raw.Read(func(uintptr) bool { return true })
}

// await waits until there is something to read, the pipe's end included, or the read
// deadline of ready: os.ErrDeadlineExceeded.
func (p *pipe) await() error {
	var failed error
	armed := false
	err := p.raw.Read(func(set uintptr) bool {
		if !armed {
			armed = true
			failed = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(set), unix.EPOLL_CTL_MOD, p.fd,
				&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT}))
		}
		var events [1]unix.EpollEvent
		n, err := unix.EpollWait(int(set), events[:], 0)
		if failed == nil && err != unix.EINTR {
			failed = os.NewSyscallError("epoll_wait", err)
		}
		return n > 0 || failed != nil
	})
	if err != nil {
		return err
	}
	return failed
}
