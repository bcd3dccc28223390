package ui

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a new pseudo terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo terminal here:", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 40}); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

func TestDetectTerminal(t *testing.T) {
	_, terminal := openTerminal(t)
	for _, test := range []struct {
		name string
		env  map[string]string
		want Terminal
	}{
		{"color", map[string]string{"TERM": "xterm"}, Terminal{TTY: true, Color: true}},
		{"no color", map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, Terminal{TTY: true}},
		{"empty NO_COLOR", map[string]string{"TERM": "xterm", "NO_COLOR": ""}, Terminal{TTY: true, Color: true}},
		{"dumb", map[string]string{"TERM": "dumb"}, Terminal{}},
		{"no name", nil, Terminal{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Detect(terminal, func(name string) string { return test.env[name] }); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSpinner(t *testing.T) {
	master, terminal := openTerminal(t)
	shown := make(chan string, 1)
	turned := make(chan struct{})
	go func() {
		var all []byte
		buf := make([]byte, 4096)
		signal := turned
		for {
			n, err := master.Read(buf)
			all = append(all, buf[:n]...)
			if signal != nil && strings.Contains(string(all), "pulling") && strings.Count(string(all), "\x1b[K") >= 3 {
				close(signal)
				signal = nil
			}
			if err == io.EOF || err != nil || strings.Contains(string(all), "the end") {
				shown <- string(all)
				return
			}
		}
	}()

	s := NewStatus(terminal, Terminal{TTY: true})
	s.Wait("scheduling")
	s.Wait("pulling " + strings.Repeat("x", 80)) // must not wrap on 40 columns
	select {
	case <-turned:
	case <-time.After(10 * time.Second):
		t.Fatal("the spinner does not turn")
	}
	s.Stop()
	s.Stop()
	io.WriteString(terminal, "the job's output\n")
	s.Wait("again")
	s.Done("image", "pulled", time.Second)
	s.Summary(true, "the end")

	got := <-shown
	if strings.Contains(got, strings.Repeat("x", 40)) {
		t.Errorf("the spinner's line is longer than the terminal's: %q", got)
	}
	if !strings.Contains(got, "\r\x1b[Kthe job's output\r\n") {
		t.Errorf("the line was not erased before the output: %q", got)
	}
	if !strings.Contains(got, "✓ image") || strings.Contains(got, "\x1b[3") {
		t.Errorf("want a plain line with a check mark: %q", got)
	}
}
