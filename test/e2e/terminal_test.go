package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// TestTerminal: a shell in a Pod is as a shell here, can be left and come back to, and can be joined by another one.
func TestTerminal(t *testing.T) {
	t.Parallel()
	needsImages(t)
	name := jobName(t)
	p := uitest.Sit(t, command(t.Context(), "run", "-it", "--exec", "--name", name, "--image", busybox, "-e", "PS1=ready> ", "--", "sh"))
	p.Sees("ready> ")
	p.Types("stty size\r")
	p.Sees("\r\n30 90\r\n")
	if err := uitest.SetSize(p.Master, 60, 20); err != nil {
		t.Fatal(err)
	}
	p.Types("until stty size | grep 60; do :; done\r") // the change is on its way
	p.Sees("\r\n20 60\r\n")
	p.Types("echo wait''ing; sleep 100\r")
	p.Sees("waiting")
	p.Types("\x03") // Ctrl-C
	p.Sees("ready> ")
	p.Types("echo code $?\r")
	p.Sees("code 130")
	p.Types("echo wait''ing; sleep 100\r")
	p.Sees("waiting")
	p.Types("\x1a") // Ctrl-Z
	p.Sees("ready> ")
	p.Types("fg\r")
	p.Sees("sleep 100")
	p.Types("\x03")
	p.Sees("ready> ")
	p.Types("here=there\r")
	p.Types("\x1dd") // ctrl-] d
	p.Sees("detached: ")
	p.Ends(0)

	beside := uitest.Sit(t, command(t.Context(), "exec", "-it", "-e", "PS1=beside> ", name, "--", "sh"))
	beside.Sees("beside> ")
	beside.Types("stty size\r")
	beside.Sees("30 90\r\n")
	beside.Types("exit 4\r")
	beside.Ends(4)

	p = uitest.Sit(t, command(t.Context(), "attach", "-it", name))
	p.Types("echo $here; exit 7\r")
	p.Sees("there")
	p.Ends(7)
	if r := hodei(t, "logs", name); r.code != 0 || !strings.Contains(r.stdout, "there\r\n") || strings.Contains(r.stdout, "beside>") {
		t.Errorf("logs: %+v", r)
	}
}

// TestTerminalEnds: who is at the terminal of a command beside a job's has it back when the job ends, or hodei is ended.
func TestTerminalEnds(t *testing.T) {
	t.Parallel()
	needsImages(t)
	name := jobName(t)
	if r := hodei(t, "run", "-q", "-d", "--exec", "--name", name, "--image", busybox, "--", "sleep", "600"); r.code != 0 {
		t.Fatalf("run: %+v", r)
	}
	if r := hodei(t, "wait", "--for", "running", name); r.code != 0 {
		t.Fatalf("wait: %+v", r)
	}
	at := func() *uitest.Typist {
		p := uitest.Sit(t, command(t.Context(), "exec", "-it", "-e", "PS1=ready> ", name, "--", "sh"))
		p.Sees("ready> ")
		if !p.Raw() {
			t.Error("the keys are not the command's")
		}
		return p
	}
	told := at()
	if err := told.Cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told.Ends(143)
	left := at()
	left.Types("\x1dd")
	left.Ends(129)
	last := at()
	if r := hodei(t, "cancel", name); r.code != 0 {
		t.Fatalf("cancel: %+v", r)
	}
	last.Ends(137)
}
