package ui

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// screenOf collects what a terminal is sent, until what is asked for has come.
type screenOf struct {
	*uitest.Screen // what a person sees of it; nil: nobody looks
	t              *testing.T
	came           chan []byte
	text           string
}

func newScreenOf(t *testing.T, master *os.File) *screenOf {
	s := &screenOf{t: t, came: make(chan []byte, 100)}
	go func() {
		defer close(s.came)
		for {
			buf := make([]byte, 4096)
			n, err := master.Read(buf)
			if n > 0 {
				s.came <- buf[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *screenOf) await(text string) {
	s.t.Helper()
	timeout := time.After(10 * time.Second)
	for !strings.Contains(s.text, text) {
		select {
		case b := <-s.came:
			s.take(b)
		case <-timeout:
			s.t.Fatalf("got %q, want %q in it", s.text, text)
		}
	}
}

func (s *screenOf) take(b []byte) {
	s.text += string(b)
	if s.Screen != nil {
		s.Write(b)
	}
}

func TestLive(t *testing.T) {
	for _, test := range []struct{ name, key string }{
		{"q", "q"}, {"Ctrl-C", "\x03"}, {"Escape", "\x1b"}, {"among others", "abQ"},
	} {
		t.Run(test.name, func(t *testing.T) {
			master, terminal := openTerminal(t) // 24 lines of 40 columns
			screen := newScreenOf(t, master)
			before, err := term.GetState(int(terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			l, err := OpenLive(terminal, terminal)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			screen.await(enterLive)
			for _, end := range l.wake {
				if flags, err := unix.FcntlInt(end.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("who is started gets the pipe: flags %#x, %v", flags, err)
				}
			}
			if w, h := l.Size(); w != 40 || h != 24 {
				t.Errorf("%d columns, %d lines", w, h)
			}
			if err := l.Draw(append([]string{"one", "two"}, make([]string, 100)...)); err != nil {
				t.Fatal(err)
			}
			screen.await("one\r\n" + eraseLine + "two")
			screen.await(eraseBelow)
			if n := strings.Count(screen.text, eraseLine); n != 24 {
				t.Errorf("%d lines", n)
			}
			if _, err := master.WriteString("x\x1b[A" + "y"); err != nil { // an arrow is no Escape
				t.Fatal(err)
			}
			select {
			case <-l.Quit():
				t.Fatal("left by a key of no meaning")
			default:
			}
			if _, err := master.WriteString(test.key); err != nil {
				t.Fatal(err)
			}
			select {
			case <-l.Quit():
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			l.Close()
			l.Close()
			screen.await(leaveLive)
			after, err := term.GetState(int(terminal.Fd()))
			if err != nil || *after != *before {
				t.Errorf("the terminal is not as it was: %v", err)
			}
		})
	}
}

// A line that is wider than it was said to be takes the place of no other.
func TestLiveWideLines(t *testing.T) {
	for _, columns := range []int{40, 60, 80, 100} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			master, terminal := uitest.Open(t, columns, 10)
			screen := newScreenOf(t, master)
			screen.Screen = uitest.NewScreen(columns, 10)
			io.WriteString(terminal, "before\n")
			l, err := OpenLive(nil, terminal)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			for range 3 {
				for _, text := range waits {
					rows := []Row{{Cells: []string{"a", text}}, {Cells: []string{"b"}, Text: text}}
					lines := append(Table([]Column{{Title: "NAME"}, {Title: "WAITS"}}, rows, columns), text, "last")
					if err := l.Draw(lines); err != nil {
						t.Fatal(err)
					}
				}
			}
			io.WriteString(terminal, "!")
			screen.await("!")
			got := screen.Lines()
			if len(got) != 5 || !strings.HasPrefix(got[0], "NAME") || !strings.HasPrefix(got[2], "b") || got[4] != "last!" {
				t.Errorf("not understood %q:\n%s", screen.Unknown, strings.Join(got, "\n"))
			}
			l.Close()
			screen.await(leaveLive)
			if got := screen.Lines(); len(got) != 1 || got[0] != "before" {
				t.Errorf("afterwards:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// Keys are not always there, and the end does not wait for one.
func TestLiveWithoutKeys(t *testing.T) {
	master, terminal := openTerminal(t)
	screen := newScreenOf(t, master)
	for _, in := range []io.Reader{terminal, &bytes.Buffer{}} {
		l, err := OpenLive(in, terminal)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	screen.await(leaveLive)
	if _, err := OpenLive(terminal, &bytes.Buffer{}); err == nil {
		t.Error("a buffer is no terminal")
	}
}
