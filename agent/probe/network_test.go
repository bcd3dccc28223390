package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The workload "transfer ADDRESS SENT RECEIVED": sends and receives so many bytes,
// and says how many it has sent again.
func init() {
	workloads["transfer"] = func(args []string) error {
		conn, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		sent, err1 := strconv.ParseInt(args[1], 10, 64)
		received, err2 := strconv.ParseInt(args[2], 10, 64)
		_, err3 := io.CopyN(conn, zeros{}, sent)
		_, err4 := io.CopyN(io.Discard, conn, received)
		again, err5 := sentAgain(conn)
		fmt.Println(again)
		return errors.Join(err1, err2, err3, err4, err5, conn.Close())
	}
}

// sentAgain is the number of bytes that were retransmitted on a connection: a slow
// receiver makes for some even on loopback, and they are counted as they should be.
func sentAgain(conn net.Conn) (n uint64, err error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var failure error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, failure = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO); failure == nil {
			n = info.Bytes_retrans
		}
	})
	return n, errors.Join(err, failure)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

type served struct {
	again uint64
	err   error
}

// serve receives and sends so many bytes on the next connection, and gives the address.
func serve(t *testing.T, at string, received, sent int64) (address string, end <-chan served) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Skipf("listen on %s: %v", at, err)
	}
	t.Cleanup(func() { l.Close() })
	done := make(chan served, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			done <- served{err: err}
			return
		}
		defer conn.Close()
		_, err1 := io.CopyN(io.Discard, conn, received)
		_, err2 := io.CopyN(conn, zeros{}, sent)
		_, err3 := io.Copy(io.Discard, conn) // until the other end has all and closes
		again, err4 := sentAgain(conn)
		done <- served{again, errors.Join(err1, err2, err3, err4)}
	}()
	return l.Addr().String(), done
}

func TestNetwork(t *testing.T) {
	const sent, received = 24 << 20, 8 << 20
	job := newGroup(t, "")
	nested := newGroup(t, job.path)
	tests := []struct {
		name, at string
		by       group
		counted  func(Traffic) (in, out Count, none []Count)
	}{
		{"IPv4", "127.0.0.1:0", job, func(t Traffic) (Count, Count, []Count) {
			return t.Receive4, t.Transmit4, []Count{t.Receive6, t.Transmit6}
		}},
		{"IPv6", "[::1]:0", job, func(t Traffic) (Count, Count, []Count) {
			return t.Receive6, t.Transmit6, []Count{t.Receive4, t.Transmit4}
		}},
		{"a cgroup below", "127.0.0.1:0", nested, func(t Traffic) (Count, Count, []Count) {
			return t.Receive4, t.Transmit4, []Count{t.Receive6, t.Transmit6}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := job.opened(t, Network)
			transfer := func(by group) (sentAgain, receivedAgain uint64) {
				address, end := serve(t, tt.at, sent, received)
				job := by.start(t, "transfer", address, fmt.Sprint(sent), fmt.Sprint(received))
				fmt.Sscan(job.line(), &sentAgain)
				job.done(t)
				job.end(t)
				other := <-end
				if other.err != nil {
					t.Fatal(other.err)
				}
				return sentAgain, other.again
			}

			transfer(group{}) // not the job's
			if traffic, ok := p.Network(); !ok || traffic != (Traffic{}) {
				t.Fatalf("Network() = %+v, %t after a process outside has sent", traffic, ok)
			}

			sentAgain, receivedAgain := transfer(tt.by)
			traffic, ok := p.Network()
			if !ok {
				t.Fatal("no traffic")
			}
			in, out, none := tt.counted(traffic)
			for _, c := range []struct {
				name       string
				got        Count
				want, back uint64
				again      uint64
			}{{"received", in, received, sent, receivedAgain}, {"transmitted", out, sent, received, sentAgain}} {
				// Headers of 72 bytes at most for each packet of its own, at least 16 KiB of them, and
				// for each that tells of one which came the other way.
				most := c.want + c.again + 72*(c.want+c.back)/16384 + 1000
				if c.got.Bytes < c.want || c.got.Bytes > most {
					t.Errorf("%s %d bytes, want %d to %d", c.name, c.got.Bytes, c.want, most)
				}
				if c.got.Packets < c.want/65536 {
					t.Errorf("%s %d packets, which is too few", c.name, c.got.Packets)
				}
				t.Logf("%s %d bytes in %d packets, of a payload of %d and %d again", c.name, c.got.Bytes, c.got.Packets, c.want, c.again)
			}
			for _, c := range none {
				if c != (Count{}) {
					t.Errorf("counted %+v of the other address family", c)
				}
			}
			if traffic.Receive() != in || traffic.Transmit() != out {
				t.Errorf("sums %+v, %+v", traffic.Receive(), traffic.Transmit())
			}
		})
	}
}
