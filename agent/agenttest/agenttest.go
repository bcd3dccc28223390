// Package agenttest has what the tests of the agent and of the packages below it share; start with the
// function that is needed; each stands alone. It knows none of those packages.
package agenttest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Patience bounds what a test waits for; only a failing one comes near.
const Patience = 30 * time.Second

// OpenFiles counts this process's descriptors.
func OpenFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// SocketPair returns a launcher's and an agent's end of a connection, which are the caller's to close.
func SocketPair(t testing.TB) (launcher, agent *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// RandomBytes returns n bytes that no compression makes shorter.
func RandomBytes(rnd *rand.Rand, n int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], rnd.Uint64())
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(seed).Read(data) // it never fails
	return data
}

// SmallDisk returns a directory with room for 256 KiB. A test that can't have one is left out, but not
// in CI.
func SmallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small file system: %v", err)
		}
		t.Skipf("a small file system can't be mounted (needs CAP_SYS_ADMIN): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Buffer collects what several goroutines write. The zero value is empty and ready.
type Buffer struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed by the next Write; nil: nobody waits
}

// Write appends b; it never fails.
func (l *Buffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.buf.Write(b)
}

// Await waits until text was written, for no longer than Patience, and reports whether it was.
func (l *Buffer) Await(text string) bool {
	late := time.NewTimer(Patience)
	defer late.Stop()
	for {
		l.mu.Lock()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		written, changed := strings.Contains(l.buf.String(), text), l.changed
		l.mu.Unlock()
		if written {
			return true
		}
		select {
		case <-changed:
		case <-late.C:
			return false
		}
	}
}

// String returns all that was written until now.
func (l *Buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
