package handover

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/agenttest"
)

// null is a descriptor to give away.
func null(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// sendRaw sends any bytes with n descriptors.
func sendRaw(t testing.TB, c *net.UnixConn, packet []byte, f *os.File, n int) {
	t.Helper()
	var oob []byte
	if n > 0 {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sendErr error
	if err := raw.Write(func(fd uintptr) bool {
		if len(packet) > 0 || n == 0 {
			sendErr = unix.Sendmsg(int(fd), packet, oob, nil, 0)
			return true
		}
		// unix.Sendmsg would put a byte into the empty packet.
		h := unix.Msghdr{Control: &oob[0]}
		h.SetControllen(len(oob))
		if _, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), 0); errno != 0 {
			sendErr = errno
		}
		return true
	}); err != nil || sendErr != nil {
		t.Fatal(err, sendErr)
	}
}

func TestHostileHello(t *testing.T) {
	hello := func(fds ...string) []byte {
		b, err := json.Marshal(FromLauncher{Hello: &Hello{Version: Version, FDs: fds}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	many := make([]string, 9)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	many[0] = FDStdout
	tests := []struct {
		name   string
		packet []byte
		fds    int
		want   string // of the error
	}{
		{"garbage", []byte("\x00\xff{"), 2, "invalid character"},
		{"cut", hello(FDStdout)[:20], 1, "unexpected end of JSON input"},
		{"two objects", append(hello(FDStdout), hello(FDStdout)...), 1, "invalid character '{' after top-level value"},
		{"another type", []byte(`[1]`), 1, "cannot unmarshal array"},
		{"null", []byte(`null`), 1, "the first message is not a hello"},
		{"another message", []byte(`{"exit":{"code":0}}`), 1, "the first message is not a hello"},
		{"version", []byte(`{"hello":{"version":2,"fds":["stdout"]}}`), 1, "handover version 2, want 1"},
		{"no names", hello(), 2, "2 descriptors came for 0 names"},
		{"too few", hello(FDStdout, FDStderr), 1, "1 descriptors came for 2 names"},
		{"none", hello(FDStdout), 0, "0 descriptors came for 1 names"},
		{"too many", hello(FDStdout), 8, "8 descriptors came for 1 names"},
		{"far too many", hello(many...), 9, "message of more than 4096 bytes or 8 descriptors"},
		{"as many as can be", hello(many...), 253, "message of more than 4096 bytes or 8 descriptors"},
		{"wrong names", hello("stdin", "cwd"), 2, "no stdout pipe came"},
		{"twice", hello(FDStdout, FDStdout), 2, `descriptor "stdout" came twice`},
		{"oversized", []byte(`{"hello":{"version":1,"fds":["stdout","` + strings.Repeat("x", 5000) + `"]}}`), 2,
			"message of more than 4096 bytes or 8 descriptors"},
		{"nothing but descriptors", nil, 3, "EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := null(t)
			before := agenttest.OpenFiles(t)
			launcher, agent := agenttest.SocketPair(t)
			sendRaw(t, launcher, tt.packet, f, tt.fds)
			got, err := AcceptHello(agent)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if got != nil {
				t.Errorf("got %v", got.Files)
			}
			launcher.Close()
			agent.Close()
			if after := agenttest.OpenFiles(t); after != before {
				t.Errorf("%d descriptors, %d before", after, before)
			}
		})
	}
}

// FuzzHello sends any packet with some descriptors over a real socket.
func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"hello":{"version":1,"fds":["stdout","stderr"]}}`), uint8(2))
	f.Add([]byte(`{"hello":{"version":1,"fds":["stdout"],"FDS":["a"]},"exit":{}}`), uint8(1))
	f.Add([]byte(`{"hello":null}`), uint8(0))
	f.Add([]byte{}, uint8(9))
	f.Fuzz(func(t *testing.T, packet []byte, n uint8) {
		if len(packet) > 2*MaxPacket {
			t.Skip("longer finds no more")
		}
		n %= 12
		file := null(t)
		before := agenttest.OpenFiles(t)
		launcher, agent := agenttest.SocketPair(t)
		sendRaw(t, launcher, packet, file, int(n))
		got, err := AcceptHello(agent)
		if err == nil && (len(got.Files) != int(n) || got.Files[FDStdout] == nil) {
			t.Errorf("%d descriptors accepted as %v", n, got.Files)
		}
		if err != nil && got != nil {
			t.Errorf("error %v with %v", err, got.Files)
		}
		if got != nil {
			got.Files.Close()
		}
		launcher.Close()
		agent.Close()
		if after := agenttest.OpenFiles(t); after != before {
			t.Errorf("%d descriptors, %d before", after, before)
		}
	})
}

func TestSendIsBounded(t *testing.T) {
	launcher, agent := agenttest.SocketPair(t)
	defer launcher.Close()
	defer agent.Close()
	if err := Send(launcher, FromLauncher{Exit: &Exit{Error: strings.Repeat("x", MaxPacket)}}); err == nil {
		t.Error("a message was sent that the other side refuses")
	}
}
