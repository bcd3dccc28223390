package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// atTerminal starts hodei, with its files in home, in a terminal of 30 rows and 90 columns.
func atTerminal(t *testing.T, home string, args ...string) *uitest.Typist {
	t.Helper()
	bin := buildWorker(t)
	hodei := exec.Command("hodei", args...)
	hodei.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+filepath.Join(home, "state"),
		"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"), "TERM=vt220", "PS1=ready> ", "ENV=")
	return uitest.Sit(t, hodei)
}

// TestInteractiveShell: a shell under hodei run -it is as a shell here.
func TestInteractiveShell(t *testing.T) {
	p := atTerminal(t, t.TempDir(), "run", "-it", "--provider", "local", "--", "sh", "-i")
	p.Sees("running")
	p.Sees("ready> ")
	p.Types("stty size; echo $TERM\r")
	p.Sees("\r\n30 90\r\nvt220\r\n")
	p.Sees("ready> ")
	if err := uitest.SetSize(p.Master, 60, 20); err != nil {
		t.Fatal(err)
	}
	p.Types("until stty size | grep 60; do :; done\r") // the change is on its way
	p.Sees("\r\n20 60\r\n")
	p.Sees("ready> ")
	p.Types("echo wait''ing; sleep 100\r")
	p.Sees("waiting")
	p.Types("\x03") // Ctrl-C
	p.Sees("ready> ")
	p.Types("echo $?\r")
	p.Sees("130")
	p.Sees("ready> ")
	p.Types("echo wait''ing; sleep 100\r")
	p.Sees("waiting")
	p.Types("\x1a") // Ctrl-Z
	p.Sees("ready> ")
	p.Types("fg; echo back $?\r")
	p.Sees("fg; echo")
	p.Sees("sleep 100")
	p.Types("\x03")
	p.Sees("ready> ")
	p.Types("exit 7\r")
	p.Sees("exit 7 in ")
	p.Ends(7)
}

// TestInteractiveLogs: what a program has asked its terminal is not asked again by hodei logs, except for bytes.
func TestInteractiveLogs(t *testing.T) {
	home := t.TempDir()
	p := atTerminal(t, home, "run", "-q", "-it", "--provider", "local", "--name", "seen", "--", "printf", `a \033[6n\033]0;title\007b\n`)
	p.Sees("a \x1b[6n\x1b]0;title\x07b\r\n")
	p.Ends(0)
	p = atTerminal(t, home, "logs", "--provider", "local", "seen")
	p.Sees("a b")
	p.Ends(0)
	p = atTerminal(t, home, "logs", "--provider", "local", "-o", "raw", "seen")
	p.Sees("a \x1b[6n\x1b]0;title\x07b")
	p.Ends(0)
}

// TestInteractiveEnds: however hodei run -it ends, the terminal is as it was.
func TestInteractiveEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		act  func(p *uitest.Typist)
		code int
	}{
		{"SIGTERM", func(p *uitest.Typist) { _ = p.Cmd.Process.Signal(unix.SIGTERM) }, 130},
		{"two signals", func(p *uitest.Typist) {
			_ = p.Cmd.Process.Signal(unix.SIGTERM)
			_ = p.Cmd.Process.Signal(unix.SIGINT)
		}, 130},
		{"the end of input", func(p *uitest.Typist) { p.Types("\x04") }, 0},
		{"the agent's death", func(p *uitest.Typist) {
			out, err := exec.Command("pgrep", "-P", strconv.Itoa(p.Cmd.Process.Pid), "-f", "hodei-worker agent").Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := exec.Command("kill", "-9", strings.TrimSpace(string(out))).Run(); err != nil {
				t.Fatal(err)
			}
		}, 125},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := atTerminal(t, t.TempDir(), "run", "-it", "--provider", "local", "--", "sh", "-i")
			p.Sees("ready> ")
			if !p.Raw() {
				t.Error("the keys are not the command's")
			}
			test.act(p)
			p.Ends(test.code)
		})
	}
}
