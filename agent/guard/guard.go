// Package guard keeps a job from the port on which its agent waits for coordinators: [Listen] makes a
// listener that refuses the connections of one user, whom [ForeignUser] finds. It does not check who the others are:
// they prove that later, with certificates.
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

// Listener is a listener on loopback that refuses the job. The job shares the Pod's network, and its connections could
// otherwise take all places of connections that have not shown a certificate yet. The kernel tells which user the other
// end of a connection belongs to; a port-forward belongs to root. If the kernel does not tell, everybody is let in.
type Listener struct {
	socket  *os.File // a *net.TCPListener gives out nothing that accept4 can wait with
	raw     syscall.RawConn
	address net.Addr
	// job is the user to refuse; NoUser: nobody.
	job    *atomic.Int64
	lookup *peerLookup // nil: the kernel does not tell
	log    *slog.Logger
	warned sync.Once
}

// NoUser stands for no uid: nobody is refused.
const NoUser = -1

// ForeignUser returns the user of a launcher in another container, which is the user of its job. It returns NoUser if
// we can see the launcher's process: then it is in our container, which only tests do, and a coordinator may belong to
// the same user. It returns NoUser for root too, because port-forwards come from root, and for the overflow user if
// root looks like that user here.
func ForeignUser(launcher *net.UnixConn) int64 {
	p := handover.PeerOf(launcher)
	if p.Seen && p.PID == 0 && p.UID != 0 && (p.UID != overflowUser || knowsAllUsers()) {
		return int64(p.UID)
	}
	return NoUser
}

// overflowUser stands for all users that have no number in our user namespace.
const overflowUser = 65534

// knowsAllUsers reports whether our user namespace is the node's. See hostUsers of a Pod.
func knowsAllUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}

// Listen listens on a loopback address. job is NoUser at first; once it is set, connections of that user are refused.
// The goroutine that calls Accept calls Release afterwards. If the kernel can't tell whose a connection is, log is told
// once.
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

// warn logs once that the job is let in, and why.
func (g *Listener) warn(err error) {
	g.warned.Do(func() { g.log.Warn("a flood of the job's can keep coordinators out", "error", err) })
}

// Release frees what Accept uses. No Accept may run or follow.
func (g *Listener) Release() {
	if g.lookup != nil {
		_ = unix.Close(g.lookup.fd)
	}
}

// Addr returns the address on which l listens.
func (g *Listener) Addr() net.Addr { return g.address }

// Close ends a waiting Accept.
func (g *Listener) Close() error { return g.socket.Close() }

// refusalsAtOnce bounds how many connections one Accept refuses before it lets Close in. In a flood of connections
// there is always another one.
const refusalsAtOnce = 64

// Accept waits for a connection that is not the job's. It does not use net's Accept, because refusing a connection
// should cost us less than making it costs the job.
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
				// Closed with a reset, it leaves no state here or in the kernel that a flood could add to.
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

// admits reports whether a connection may be a coordinator's. A connection that the other side has closed already
// belongs to nobody, and is not admitted.
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
