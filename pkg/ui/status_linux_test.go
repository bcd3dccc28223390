package ui

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// openTerminal returns both ends of a new pseudo terminal, of 24 lines of 40 columns.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	return uitest.Open(t, 40, 24)
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
	s.Summary(Good, "the end")

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

// waits are what a start may wait for, in the words of a cluster.
var waits = []string{
	"waiting for a node: 0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, 2 " +
		"Insufficient cpu.",
	"waiting for a node: “0/1 nodes” … naïve · señal — ✓ " + strings.Repeat("é", 100),
	"等待节点：没有可用的节点，请检查集群的资源配额和节点选择器的设置是否正确，然后再试一次，谢谢。" + strings.Repeat("節点", 30),
	strings.Repeat("e\u0301", 120),
	strings.Repeat("👩‍👩‍👧 🇪🇸 ❤️ ", 30), // terminals differ on how wide these are
}

// frames lets a spinner turn until it has drawn its line n times more, and fails the
// test if there is no end to it.
func frames(t *testing.T, screen *screenOf, n int) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for want := strings.Count(screen.text, wrap) + n; strings.Count(screen.text, wrap) < want; {
		select {
		case b := <-screen.came:
			screen.take(b)
		case <-timeout:
			t.Fatal("the spinner does not turn")
		}
	}
}

// atStdin makes file the standard input of this process, where the spinner's library looks
// for the width of a terminal.
func atStdin(t *testing.T, file *os.File) {
	t.Helper()
	before, err := unix.Dup(0)
	if err == nil {
		err = unix.Dup3(int(file.Fd()), 0, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = unix.Dup3(before, 0, 0)
		_ = unix.Close(before)
	})
}

// Nothing above the line that turns moves, however wide it is and whatever is on it.
func TestSpinnerStaysOnItsLine(t *testing.T) {
	var before []string
	for i := range 12 {
		before = append(before, fmt.Sprint(i+1))
	}
	for _, columns := range []int{5, 40, 60, 80, 100} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			master, terminal := uitest.Open(t, columns, 24)
			atStdin(t, terminal)
			screen := newScreenOf(t, master)
			screen.Screen = uitest.NewScreen(columns, 24)
			io.WriteString(terminal, strings.Join(before, "\n")+"\n")
			s := NewStatus(terminal, Terminal{TTY: true, Color: true})
			defer s.Stop()
			for _, text := range waits {
				s.Wait(text)
				frames(t, screen, 2)
				got := screen.Lines()
				if len(got) != 13 || !slices.Equal(got[:12], before) || len(screen.Unknown) > 0 {
					t.Fatalf("with %q, not understood %q:\n%s", text, screen.Unknown, strings.Join(got, "\n"))
				}
			}
			s.Stop()
			io.WriteString(terminal, "after")
			screen.await("after")
			if got := screen.Lines(); !slices.Equal(got, append(before, "after")) {
				t.Errorf("after it:\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// A terminal that is made narrower, and wider again, is asked for its width.
func TestSpinnerAfterResize(t *testing.T) {
	master, terminal := uitest.Open(t, 100, 24)
	screen := newScreenOf(t, master)
	screen.Screen = uitest.NewScreen(100, 24)
	io.WriteString(terminal, "above\n")
	s := NewStatus(terminal, Terminal{TTY: true})
	defer s.Stop()
	for _, columns := range []int{100, 40, 80} {
		if err := uitest.SetSize(master, columns, 24); err != nil {
			t.Fatal(err)
		}
		screen.Resize(columns)
		s.Wait(waits[0])
		frames(t, screen, 2)
		got := screen.Lines()
		if len(got) != 2 || got[0] != "above" || Columns(got[1]) != columns-1 {
			t.Errorf("%d columns:\n%s", columns, strings.Join(got, "\n"))
		}
	}
}
