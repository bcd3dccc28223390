package terminal

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// TestTerminal: keys reach Read as they are typed, from Enter on and up to those that leave, and the terminal is as
// it was after Close.
func TestTerminal(t *testing.T) {
	master, slave := uitest.Open(t, 90, 30)
	modes := func() unix.Termios {
		m, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return *m
	}
	before := modes()
	keys, err := ParseKeys(DefaultDetachKeys)
	if err != nil {
		t.Fatal(err)
	}
	term, err := Open(slave, slave, keys)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if rows, columns := term.Size(); rows != 30 || columns != 90 {
		t.Errorf("size %d, %d", rows, columns)
	}
	if modes() != before {
		t.Error("the terminal was changed before Enter")
	}
	if ours, err := term.Enter(); !ours || err != nil {
		t.Fatal(ours, err)
	}
	if _, err := master.WriteString("a\x03\x1d\x1dx\x1dd more"); err != nil { // Ctrl-C, and a key that is held back
		t.Fatal(err)
	}
	want := "a\x03\x1d\x1dx"
	got := make([]byte, len(want))
	for at := 0; at < len(want); {
		n, err := term.Read(got[at:min(at+2, len(got))])
		if err != nil {
			t.Fatal(err)
		}
		at += n
	}
	if string(got) != want {
		t.Errorf("%q was typed, want %q", got, want)
	}
	select {
	case <-term.Detached():
		t.Error("detached before what was typed is taken")
	default:
	}
	ended := make(chan error, 1)
	go func() {
		_, err := term.Read(got)
		ended <- err
	}()
	<-term.Detached()
	term.Close()
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
	if modes() != before {
		t.Error("the terminal is not as it was")
	}
	if ours, err := term.Enter(); ours || err != nil || modes() != before {
		t.Errorf("Enter after Close takes the terminal: %t, %v", ours, err)
	}
}

// TestTerminalGone: a terminal that hangs up is no end of the input.
func TestTerminalGone(t *testing.T) {
	master, slave := uitest.Open(t, 90, 30)
	term, err := Open(slave, slave, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer term.Close()
	if _, err := term.Enter(); err != nil {
		t.Fatal(err)
	}
	master.Close()
	if _, err := term.Read(make([]byte, 10)); !errors.Is(err, ErrGone) {
		t.Errorf("error %v", err)
	}
}

func TestMissing(t *testing.T) {
	_, slave := uitest.Open(t, 90, 30)
	for _, test := range []struct {
		in   io.Reader
		out  io.Writer
		want string
	}{
		{slave, slave, ""},
		{os.Stdin, io.Discard, "stdin is not a terminal"},
		{slave, io.Discard, "stdout is not a terminal"},
	} {
		if test.in == os.Stdin {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			test.in = r
		}
		if got := Missing(test.in, test.out); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
