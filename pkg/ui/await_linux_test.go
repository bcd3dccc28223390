package ui

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAwaitInput: a program that has many connections gives a pipe a descriptor beyond the 1024 that
// select has places for.
func TestAwaitInput(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur <= 1100 {
		t.Skipf("at most %d descriptors here: %v", limit.Cur, err)
	}
	var ends [2][2]*os.File
	for i := range ends {
		var err error
		if ends[i][0], ends[i][1], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		defer ends[i][0].Close()
		defer ends[i][1].Close()
	}
	in, wake := high(t, ends[0][0]), high(t, ends[1][0])
	if _, err := ends[0][1].Write([]byte("q")); err != nil {
		t.Fatal(err)
	}
	if woken, err := awaitInput(in, wake); woken || err != nil {
		t.Errorf("with a key: woken is %t, %v", woken, err)
	}
	if _, err := ends[1][1].Write([]byte{0}); err != nil {
		t.Fatal(err)
	}
	if woken, err := awaitInput(in, wake); !woken || err != nil {
		t.Errorf("woken: woken is %t, %v", woken, err)
	}
}

// high gives f a second descriptor of 1024 or more.
func high(t *testing.T, f *os.File) int {
	t.Helper()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 1024)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
