package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/handover"
)

// peerAnswer is what the kernel says of a socket.
func peerAnswer(kind uint16, seq uint32, body []byte) []byte {
	b := make([]byte, sizeNlmsghdr, sizeNlmsghdr+len(body))
	binary.NativeEndian.PutUint32(b[0:], uint32(sizeNlmsghdr+len(body)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, body...)
}

func TestParsePeer(t *testing.T) {
	socket := func(state byte, uid uint32) []byte {
		b := make([]byte, sizeInetDiagMsg+8) // an attribute may follow
		b[offsetState] = state
		binary.NativeEndian.PutUint32(b[offsetUID:], uid)
		return b
	}
	errno := func(e syscall.Errno) []byte {
		return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e)))
	}
	whole := peerAnswer(unix.SOCK_DIAG_BY_FAMILY, 7, socket(tcpEstablished, 1234))
	longer := append([]byte(nil), whole...)
	binary.NativeEndian.PutUint32(longer, uint32(len(longer)+1))
	shorter := append([]byte(nil), whole...)
	binary.NativeEndian.PutUint32(shorter, sizeNlmsghdr-1)
	for _, test := range []struct {
		name   string
		answer []byte
		state  byte
		uid    uint32
		err    string
	}{
		{"connected", whole, tcpEstablished, 1234, ""},
		{"padded", append(whole[:len(whole):len(whole)], 0, 0, 0), tcpEstablished, 1234, ""},
		{"being closed, which the kernel calls root's", peerAnswer(unix.SOCK_DIAG_BY_FAMILY, 7, socket(5, 0)), 5, 0, ""},
		{"not there", peerAnswer(unix.NLMSG_ERROR, 7, errno(unix.ENOENT)), 0, 0, "sock_diag: no such file or directory"},
		{"not known", peerAnswer(unix.NLMSG_ERROR, 7, errno(unix.EPERM)), 0, 0, "sock_diag: operation not permitted"},
		{"no error in the error", peerAnswer(unix.NLMSG_ERROR, 7, nil), 0, 0, "netlink message of type 2 and 16 bytes"},
		{"cut", peerAnswer(unix.SOCK_DIAG_BY_FAMILY, 7, socket(tcpEstablished, 1)[:sizeInetDiagMsg-1]), 0, 0, "netlink message of type 20"},
		{"another type", peerAnswer(unix.NLMSG_DONE, 7, socket(tcpEstablished, 1)), 0, 0, "netlink message of type 3"},
		{"longer than it is", longer, 0, 0, "says that it has 97"},
		{"shorter than its header", shorter, 0, 0, "says that it has 15"},
		{"no header", whole[:15], 0, 0, "netlink message of 15 bytes"},
		{"empty", nil, 0, 0, "netlink message of 0 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, state, uid, err := parsePeer(test.answer)
			if state != test.state || uid != test.uid || (err == nil) != (test.err == "") ||
				err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("got %d, %d, %v; want %d, %d, %q", state, uid, err, test.state, test.uid, test.err)
			}
		})
	}
}

func FuzzParsePeer(f *testing.F) {
	f.Add(peerAnswer(unix.SOCK_DIAG_BY_FAMILY, 7, make([]byte, sizeInetDiagMsg)))
	f.Add(peerAnswer(unix.NLMSG_ERROR, 7, []byte{0xfe, 0xff, 0xff, 0xff}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, answer []byte) {
		if _, state, uid, err := parsePeer(answer); err != nil && (state != 0 || uid != 0) {
			t.Errorf("state %d, uid %d and %v", state, uid, err)
		}
	})
}

func TestPeerLookup(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // no IPv6
			continue
		}
		defer l.Close()
		at := func(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }
		lookup, err := openPeerLookup(unix.IPPROTO_TCP, at(l.Addr()))
		if err != nil {
			t.Fatal(err) // Linux without CONFIG_INET_DIAG is not what this is tested on
		}
		defer unix.Close(lookup.fd)
		peer, own := connect(t, l)
		uid, err := lookup.user(at(peer.LocalAddr()), at(own.LocalAddr()))
		if err != nil || int(uid) != os.Getuid() {
			t.Errorf("%s: got %d, %v; want %d", address, uid, err, os.Getuid())
		}
		peer.Close()
		if _, err := own.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if uid, err := lookup.user(at(own.RemoteAddr()), at(own.LocalAddr())); !errors.Is(err, errPeerGone) {
			t.Errorf("%s: closed: got %d, %v", address, uid, err)
		}
		if uid, err := lookup.user(at(l.Addr()), at(own.RemoteAddr())); !errors.Is(err, errPeerGone) {
			t.Errorf("%s: a listener in its place: got %d, %v", address, uid, err)
		}
		nobody := netip.AddrPortFrom(at(own.LocalAddr()).Addr(), 1)
		if uid, err := lookup.user(nobody, at(own.LocalAddr())); !errors.Is(err, errPeerGone) {
			t.Errorf("%s: nobody: got %d, %v", address, uid, err)
		}
	}
}

// TestPeerLookupOfNothing is of a kernel that knows no sockets of a protocol, and so
// answers every question alike: such a lookup would refuse everybody.
func TestPeerLookupOfNothing(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const experimental = 253 // RFC 3692; no kernel lists its sockets
	lookup, err := openPeerLookup(experimental, l.Addr().(*net.TCPAddr).AddrPort())
	if !errors.Is(err, unix.ENOENT) || lookup != nil {
		t.Errorf("got %v, %v", lookup, err)
	}
}

func connect(t *testing.T, l net.Listener) (peer, own net.Conn) {
	t.Helper()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	if own, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	return peer, own
}

func newGuard(t testing.TB) (*Listener, *atomic.Int64, *agenttest.Buffer) {
	t.Helper()
	user, log := &atomic.Int64{}, &agenttest.Buffer{}
	user.Store(NoUser)
	g, err := Listen("127.0.0.1:0", user, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.Close()
		g.Release()
	})
	return g, user, log
}

// TestGuard refuses one user's connections, and no other's. It counts the files of
// this process, and so runs alone.
func TestGuard(t *testing.T) {
	g, user, log := newGuard(t)
	before, own := connect(t, g)
	if _, err := own.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if tcp, ok := own.(*net.TCPConn); !ok || tcp.RemoteAddr().String() != before.LocalAddr().String() {
		t.Errorf("accepted %T from %s, want %s", own, own.RemoteAddr(), before.LocalAddr())
	}
	user.Store(int64(os.Getuid()) + 1)
	connect(t, g)

	user.Store(int64(os.Getuid()))
	accepted := make(chan net.Conn, 1)
	ended := make(chan error, 1)
	go func() {
		for {
			conn, err := g.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	files := agenttest.OpenFiles(t)
	refused := func() {
		t.Helper()
		conn, err := net.Dial("tcp", g.Addr().String())
		if err != nil {
			if !errors.Is(err, unix.ECONNRESET) { // sooner than we looked
				t.Fatal(err)
			}
			return
		}
		defer conn.Close()
		_ = conn.SetReadDeadline(time.Now().Add(agenttest.Patience))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
			t.Fatalf("our own connection: %v, want a reset", err)
		}
	}
	for range 100 {
		refused()
	}
	if now := agenttest.OpenFiles(t); now > files {
		t.Errorf("%d files are open after 100 refusals, %d were before", now, files)
	}
	// Who closes at once is not taken for root, whom the kernel names then.
	for range 100 {
		conn, err := net.Dial("tcp", g.Addr().String())
		if err == nil {
			conn.Close()
		}
	}
	refused() // in its turn: all before it have been seen
	user.Store(NoUser)
	last, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close()
	if conn := <-accepted; conn.RemoteAddr().String() != last.LocalAddr().String() {
		t.Errorf("accepted %s, want %s alone", conn.RemoteAddr(), last.LocalAddr())
	} else {
		conn.Close()
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept ended with %v", err)
	}
	if log.String() != "" {
		t.Errorf("logged: %s", log)
	}
}

// TestGuardWithoutLookup lets everybody in, as on a kernel without sock_diag, and
// says once that a lookup fails.
func TestGuardWithoutLookup(t *testing.T) {
	t.Parallel()
	g, user, log := newGuard(t)
	g.Release()
	lookup := g.lookup
	g.lookup = nil
	user.Store(int64(os.Getuid()))
	connect(t, g)
	lookup.fd = -1 // one that fails
	g.lookup = lookup
	connect(t, g)
	connect(t, g)
	g.lookup = nil
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "bad file descriptor") {
		t.Errorf("logged: %s", said)
	}
}

// openDir makes a directory that everybody reaches.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "h") //nolint:usetesting // nobody must reach it, and its path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// reachable copies this test binary to where nobody may execute it. A process that is forked
// meanwhile would keep the copy open and busy.
func reachable(t *testing.T) string {
	t.Helper()
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(openDir(t), "test")
	if err := os.WriteFile(program, own, 0o755); err != nil {
		t.Fatal(err)
	}
	return program
}

// TestForeignUser knows a launcher in another container, whose process it can't see.
func TestForeignUser(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users in two process namespaces")
	}
	program := reachable(t)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	for _, test := range []struct {
		name     string
		agent    *syscall.SysProcAttr
		launcher *syscall.SysProcAttr
		want     int
	}{
		{"another container's", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, &syscall.SysProcAttr{Credential: nobody}, 65534},
		{"another container's root", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}, nil, NoUser},
		{"our own", nil, &syscall.SysProcAttr{Credential: nobody}, NoUser},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			socket := filepath.Join(dir, "s")
			agent := exec.CommandContext(t.Context(), program, "test-foreign", socket)
			agent.SysProcAttr = test.agent
			agent.Stderr = os.Stderr
			said, err := agent.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := agent.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(said, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			launcher := exec.CommandContext(t.Context(), program, "test-knock", socket)
			launcher.SysProcAttr = test.launcher
			launcher.Stderr = os.Stderr
			if err := launcher.Run(); err != nil {
				t.Error(err)
			}
			rest, err := io.ReadAll(said)
			if err := errors.Join(err, agent.Wait()); err != nil {
				t.Fatal(err)
			}
			if want := fmt.Sprintln(test.want); string(rest) != want {
				t.Errorf("got %q, want %q", rest, want)
			}
		})
	}
}

// runForeign says whose the first launcher at a socket is.
func runForeign(args []string) int {
	l, err := handover.Listen(args[0])
	if err != nil {
		return fail(err)
	}
	fmt.Println("ready")
	conn, err := l.AcceptUnix()
	if err != nil {
		return fail(err)
	}
	fmt.Println(ForeignUser(conn))
	return 0
}

// runKnock connects to a socket and waits for its end.
func runKnock(args []string) int {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: args[0], Net: "unixpacket"})
	if err != nil {
		return fail(err)
	}
	_, _ = conn.Read(make([]byte, 1))
	return 0
}

// fail is the end of a role that could not do its part.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 99
}
