package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// guard is a listener on loopback that lets in whom the job is not: the job
// shares the Pod's network, and could keep the places of strangers taken. The
// kernel says whose the other end of a connection is; a port-forward's is root's.
// Where it does not say, everybody is let in.
type guard struct {
	socket  *os.File // a *net.TCPListener gives out nothing that accept4 can wait with
	raw     syscall.RawConn
	address net.Addr
	// job is the user to be refused; noUser: nobody.
	job    *atomic.Int64
	lookup *peerLookup // nil: the kernel has none
}

// noUser stands for no uid.
const noUser = -1

// foreignUser is the user of a launcher in another container, and so of its job.
// One whose process we can see is in ours: nothing but tests does that, and there
// a coordinator may be of the same user. Root is not refused either, for who
// forwards a port to us is root, and neither is nobody where root looks like that.
func foreignUser(launcher *net.UnixConn) int64 {
	raw, err := launcher.SyscallConn()
	if err != nil {
		return noUser
	}
	user := int64(noUser)
	_ = raw.Control(func(fd uintptr) {
		peer, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err == nil && peer.Pid == 0 && peer.Uid != 0 && (peer.Uid != overflowUser || knowsAllUsers()) {
			user = int64(peer.Uid)
		}
	})
	return user
}

// overflowUser stands for users that our user namespace has no number for.
const overflowUser = 65534

// knowsAllUsers tells that ours is the node's user namespace: see hostUsers of a Pod.
func knowsAllUsers() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && slices.Equal(strings.Fields(string(text)), []string{"0", "0", "4294967295"})
}

// listenGuarded listens on a loopback address. Connections of job are refused from
// the moment that it is set. Who calls Accept calls release after it.
func listenGuarded(address string, job *atomic.Int64, log *slog.Logger) (*guard, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	defer l.Close() // the socket stays, by its other descriptor
	g := &guard{address: l.Addr(), job: job}
	if g.socket, err = l.(*net.TCPListener).File(); err != nil {
		return nil, err
	}
	if g.raw, err = g.socket.SyscallConn(); err != nil {
		g.socket.Close()
		return nil, err
	}
	if g.lookup, err = openPeerLookup(); err != nil {
		log.Warn("a flood of the job's can keep coordinators out", "error", err)
	}
	return g, nil
}

// release frees what Accept has used.
func (g *guard) release() {
	if g.lookup != nil {
		_ = unix.Close(g.lookup.fd)
	}
}

// Addr is where it listens.
func (g *guard) Addr() net.Addr { return g.address }

// Close ends an Accept that waits.
func (g *guard) Close() error { return g.socket.Close() }

// Accept waits for a connection that is not the job's. It does without net's
// Accept: a connection that is refused should cost us less than the job.
func (g *guard) Accept() (net.Conn, error) {
	accepted, failure := -1, error(nil)
	err := g.raw.Read(func(fd uintptr) (done bool) {
		for {
			var peer unix.Sockaddr
			accepted, peer, failure = unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			switch {
			case errors.Is(failure, unix.EAGAIN):
				return false
			case errors.Is(failure, unix.EINTR), errors.Is(failure, unix.ECONNABORTED):
				continue
			case failure != nil || g.admits(accepted, peer):
				return true
			}
			// With a reset: no state is left, here or in the kernel, that a flood adds to.
			_ = unix.SetsockoptLinger(accepted, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			_ = unix.Close(accepted)
		}
	})
	switch {
	case err != nil: // there are no deadlines: it is closed
		return nil, net.ErrClosed
	case failure != nil:
		return nil, os.NewSyscallError("accept4", failure)
	}
	f := os.NewFile(uintptr(accepted), "coordinator")
	defer f.Close() // FileConn has one of its own
	return net.FileConn(f)
}

// admits says whether a connection may be a coordinator's. One that its maker has
// closed already is nobody's.
func (g *guard) admits(fd int, peer unix.Sockaddr) bool {
	if g.lookup == nil {
		return true
	}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return true
	}
	uid, err := g.lookup.user(addrPort(peer), addrPort(own))
	if errors.Is(err, errPeerGone) {
		return false
	}
	return err != nil || int64(uid) != g.job.Load()
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

// peerLookup asks the kernel by NETLINK_SOCK_DIAG for sockets of our network
// namespace; sock_diag(7), linux/inet_diag.h. It needs no privilege, and finds a
// socket by its addresses in a hash table: /proc/net/tcp lists them all. One
// goroutine may use it.
type peerLookup struct {
	fd  int
	seq uint32
	buf [256]byte // an answer has 88 bytes, or 36 for an error
}

// errPeerGone tells of a socket that is closed, or being closed: nobody is there.
var errPeerGone = errors.New("the other end is closed")

func openPeerLookup() (*peerLookup, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open NETLINK_SOCK_DIAG: %w", err)
	}
	return &peerLookup{fd: fd}, nil
}

// user is the owner of the socket at peer that is connected to own, both on this
// machine, as our user namespace numbers it. errPeerGone: there is none.
func (p *peerLookup) user(peer, own netip.AddrPort) (uint32, error) {
	p.seq++
	question := peerQuestion(p.seq, peer, own)
	if err := unix.Sendto(p.fd, question[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	for {
		// The kernel has answered when it has taken the question.
		n, _, err := unix.Recvfrom(p.fd, p.buf[:], unix.MSG_DONTWAIT)
		if err != nil {
			return 0, err
		}
		seq, uid, err := parsePeer(p.buf[:n])
		if seq == p.seq {
			return uid, err
		}
	}
}

// Sizes of the kernel's structures, and where fields are in them.
const (
	sizeNlmsghdr    = 16
	sizeInetDiagReq = 56 // struct inet_diag_req_v2
	sizeInetDiagMsg = 72
	offsetState     = 1
	offsetUID       = 64
	tcpEstablished  = 1 // net/tcp_states.h
)

// peerQuestion asks for one socket.
func peerQuestion(seq uint32, peer, own netip.AddrPort) (b [sizeNlmsghdr + sizeInetDiagReq]byte) {
	host, network := binary.NativeEndian, binary.BigEndian
	host.PutUint32(b[0:], uint32(len(b)))
	host.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST)
	host.PutUint32(b[8:], seq)

	request := b[sizeNlmsghdr:]
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	host.PutUint32(request[4:], ^uint32(0)) // in any state
	id := request[8:]                       // struct inet_diag_sockid
	network.PutUint16(id[0:], peer.Port())
	network.PutUint16(id[2:], own.Port())
	if peer.Addr().Is4() {
		copy(id[4:], peer.Addr().AsSlice())
		copy(id[20:], own.Addr().AsSlice())
	} else {
		request[0] = unix.AF_INET6
		copy(id[4:20], peer.Addr().AsSlice())
		copy(id[20:36], own.Addr().AsSlice())
	}
	host.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parsePeer reads the answer: to which question, and the socket's owner. A socket
// whose process has closed it belongs to root by the kernel's word.
func parsePeer(b []byte) (seq, uid uint32, err error) {
	host := binary.NativeEndian
	if len(b) < sizeNlmsghdr {
		return 0, 0, fmt.Errorf("netlink message of %d bytes", len(b))
	}
	length, kind := host.Uint32(b[0:]), host.Uint16(b[4:])
	seq = host.Uint32(b[8:])
	if length < sizeNlmsghdr || uint64(length) > uint64(len(b)) {
		return seq, 0, fmt.Errorf("netlink message of %d bytes says that it has %d", len(b), length)
	}
	body := b[sizeNlmsghdr:length]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := syscall.Errno(-int32(host.Uint32(body)))
		if errno == unix.ENOENT {
			return seq, 0, errPeerGone
		}
		return seq, 0, fmt.Errorf("sock_diag: %w", errno)
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < sizeInetDiagMsg:
		return seq, 0, fmt.Errorf("netlink message of type %d and %d bytes", kind, length)
	case body[offsetState] != tcpEstablished:
		return seq, 0, errPeerGone
	}
	return seq, host.Uint32(body[offsetUID:]), nil
}
