package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// peerLookup asks the kernel by NETLINK_SOCK_DIAG for sockets of our network
// namespace; sock_diag(7), linux/inet_diag.h. It needs no privilege, and finds a
// socket by its addresses in a hash table: /proc/net/tcp lists them all. One
// goroutine may use it.
type peerLookup struct {
	fd       int
	protocol uint8
	seq      uint32
	buf      [256]byte // an answer has 88 bytes, or 36 for an error
}

// errPeerGone tells of a socket that is closed, or being closed: nobody is there.
var errPeerGone = errors.New("the other end is closed")

// openPeerLookup opens a lookup and asks it for a socket that is there, a listener:
// a kernel that can't tell of a protocol's sockets answers that there is none.
func openPeerLookup(protocol uint8, listener netip.AddrPort) (*peerLookup, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open NETLINK_SOCK_DIAG: %w", err)
	}
	p := &peerLookup{fd: fd, protocol: protocol}
	anybody := netip.IPv4Unspecified()
	if listener.Addr().Is6() {
		anybody = netip.IPv6Unspecified()
	}
	if _, _, err := p.ask(listener, netip.AddrPortFrom(anybody, 0)); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("own listener not found: %w", err)
	}
	return p, nil
}

// user is the owner of the socket at peer that is connected to own, both on this
// machine, as our user namespace numbers it. errPeerGone: there is none.
func (p *peerLookup) user(peer, own netip.AddrPort) (uint32, error) {
	state, uid, err := p.ask(peer, own)
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, errPeerGone
	case err != nil:
		return 0, err
	case state != tcpEstablished: // who has closed it is root by the kernel's word
		return 0, errPeerGone
	}
	return uid, nil
}

// ask returns state and owner of the socket at local that is connected to remote,
// or listens.
func (p *peerLookup) ask(local, remote netip.AddrPort) (state byte, uid uint32, err error) {
	p.seq++
	question := peerQuestion(p.protocol, p.seq, local, remote)
	if err := unix.Sendto(p.fd, question[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, 0, err
	}
	for {
		// The kernel has answered when it has taken the question.
		n, _, err := unix.Recvfrom(p.fd, p.buf[:], unix.MSG_DONTWAIT)
		if err != nil {
			return 0, 0, err
		}
		seq, state, uid, err := parsePeer(p.buf[:n])
		if seq == p.seq {
			return state, uid, err
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
func peerQuestion(protocol uint8, seq uint32, local, remote netip.AddrPort) (b [sizeNlmsghdr + sizeInetDiagReq]byte) {
	host, network := binary.NativeEndian, binary.BigEndian
	host.PutUint32(b[0:], uint32(len(b)))
	host.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	host.PutUint16(b[6:], unix.NLM_F_REQUEST)
	host.PutUint32(b[8:], seq)

	request := b[sizeNlmsghdr:]
	request[0], request[1] = unix.AF_INET, protocol
	host.PutUint32(request[4:], ^uint32(0)) // in any state
	id := request[8:]                       // struct inet_diag_sockid
	network.PutUint16(id[0:], local.Port())
	network.PutUint16(id[2:], remote.Port())
	if local.Addr().Is4() {
		copy(id[4:], local.Addr().AsSlice())
		copy(id[20:], remote.Addr().AsSlice())
	} else {
		request[0] = unix.AF_INET6
		copy(id[4:20], local.Addr().AsSlice())
		copy(id[20:36], remote.Addr().AsSlice())
	}
	host.PutUint64(id[40:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	return b
}

// parsePeer reads the answer: to which question, and the socket's state and owner.
func parsePeer(b []byte) (seq uint32, state byte, uid uint32, err error) {
	host := binary.NativeEndian
	if len(b) < sizeNlmsghdr {
		return 0, 0, 0, fmt.Errorf("netlink message of %d bytes", len(b))
	}
	length, kind := host.Uint32(b[0:]), host.Uint16(b[4:])
	seq = host.Uint32(b[8:])
	if length < sizeNlmsghdr || uint64(length) > uint64(len(b)) {
		return seq, 0, 0, fmt.Errorf("netlink message of %d bytes says that it has %d", len(b), length)
	}
	body := b[sizeNlmsghdr:length]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		return seq, 0, 0, fmt.Errorf("sock_diag: %w", syscall.Errno(-int32(host.Uint32(body))))
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < sizeInetDiagMsg:
		return seq, 0, 0, fmt.Errorf("netlink message of type %d and %d bytes", kind, length)
	}
	return seq, body[offsetState], host.Uint32(body[offsetUID:]), nil
}
