// Package guard keeps a job from the port on which its agent waits for coordinators: [Listen] makes a
// listener that refuses the connections of one user, whom [ForeignUser] finds. It says nothing of who
// is let in; that is proved by certificates, above.
package guard

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/handover"
)

// Listener is a listener on loopback that lets in whom the job is not: the job
// shares the Pod's network, and could keep the places of strangers taken. The
// kernel says whose the other end of a connection is; a port-forward's is root's.
// Where it does not say, everybody is let in.
type Listener struct {
	socket  *os.File // a *net.TCPListener gives out nothing that accept4 can wait with
	raw     syscall.RawConn
	address net.Addr
	// job is the user to be refused; NoUser: nobody.
	job    *atomic.Int64
	lookup *peerLookup // nil: the kernel has none
	log    *slog.Logger
	warned sync.Once
}

// NoUser stands for no uid: nobody is refused.
const NoUser = -1

// ForeignUser returns the user of a launcher in another container, and so of its job.
// One whose process we can see is in ours: nothing but tests does that, and there
// a coordinator may be of the same user. Root is not refused either, for who
// forwards a port to us is root, and neither is nobody where root looks like that.
func ForeignUser(launcher *net.UnixConn) int64 {
	p := handover.PeerOf(launcher)
	if p.Seen && p.PID == 0 && p.UID != 0 && (p.UID != overflowUser || knowsAllUsers()) {
		return int64(p.UID)
	}
	return NoUser
}

// overflowUser stands for users that our user namespace has no number for.
const overflowUser = 65534

// knowsAllUsers tells that ours is the node's user namespace: see hostUsers of a Pod.
func knowsAllUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}

// Listen listens on a loopback address. Connections of the user job, NoUser at first, are refused
// from the moment that it is set. Who calls Accept calls Release after it. log is told, once, that
// the kernel can't say whose a connection is.
func Listen(address string, job *atomic.Int64, log *slog.Logger) (*Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	defer l.Close() // the socket stays, by its other descriptor
	g := &Listener{address: l.Addr(), job: job, log: log}
	if g.socket, err = l.(*net.TCPListener).File(); err != nil {
		return nil, err
	}
	if g.raw, err = g.socket.SyscallConn(); err != nil {
		g.socket.Close()
		return nil, err
	}
	if g.lookup, err = openPeerLookup(unix.IPPROTO_TCP, l.Addr().(*net.TCPAddr).AddrPort()); err != nil {
		g.warn(err)
	}
	return g, nil
}

// warn says once that the job is let in, and why.
func (g *Listener) warn(err error) {
	g.warned.Do(func() { g.log.Warn("a flood of the job's can keep coordinators out", "error", err) })
}

// Release frees what Accept has used.
func (g *Listener) Release() {
	if g.lookup != nil {
		_ = unix.Close(g.lookup.fd)
	}
}

// Addr is where it listens.
func (g *Listener) Addr() net.Addr { return g.address }

// Close ends an Accept that waits.
func (g *Listener) Close() error { return g.socket.Close() }

// refusalsAtOnce bounds what a Close waits for: it has to wait for an Accept that
// refuses, and a flood need not let its queue run empty.
const refusalsAtOnce = 64

// Accept waits for a connection that is not the job's. It does without net's
// Accept: a connection that is refused should cost us less than the job.
func (g *Listener) Accept() (net.Conn, error) {
	for {
		accepted, failure := -1, error(nil)
		err := g.raw.Read(func(fd uintptr) (done bool) {
			for range refusalsAtOnce {
				var peer unix.Sockaddr
				accepted, peer, failure = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				switch {
				case errors.Is(failure, unix.EAGAIN):
					return false
				case errors.Is(failure, unix.EINTR), errors.Is(failure, unix.ECONNABORTED):
					failure = nil
					continue
				case failure != nil || g.admits(accepted, peer):
					return true
				}
				// With a reset: no state is left, here or in the kernel, that a flood adds to.
				_ = unix.SetsockoptLinger(accepted, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
				_ = unix.Close(accepted)
				accepted = -1
			}
			return true
		})
		switch {
		case err != nil: // there are no deadlines: it is closed
			return nil, net.ErrClosed
		case failure != nil:
			return nil, os.NewSyscallError("accept4", failure)
		case accepted >= 0:
			f := os.NewFile(uintptr(accepted), "coordinator")
			defer f.Close() // FileConn has one of its own
			return net.FileConn(f)
		}
	}
}

// admits says whether a connection may be a coordinator's. One that its maker has
// closed already is nobody's.
func (g *Listener) admits(fd int, peer unix.Sockaddr) bool {
	if g.lookup == nil {
		return true
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		g.warn(err)
		return true
	}
	uid, err := g.lookup.user(addrPort(peer), addrPort(own))
	switch {
	case errors.Is(err, errPeerGone):
		return false
	case err != nil:
		g.warn(err)
		return true
	}
	return int64(uid) != g.job.Load()
}

func addrPort(a unix.Sockaddr) netip.AddrPort {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	}
	return netip.AddrPort{}
}
