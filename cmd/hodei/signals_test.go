package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestGroupInterrupt: a terminal's Ctrl-C goes to all of `hodei run -- CMD | tee x`. The
// reader ends at once, and what hodei writes then fails; it was the Ctrl-C all the same.
func TestGroupInterrupt(t *testing.T) {
	bin, home := buildWorker(t), t.TempDir()
	for _, test := range []struct{ name, command string }{
		{"that prints all the time", "echo ready; while :; do echo more; done"},
		{"that prints when it is told to end", "trap 'echo bye; exit 1' TERM; echo ready; while :; do sleep 0.01; done"},
		{"that prints nothing more", "echo ready; exec sleep 60"},
	} {
		for _, flags := range [][]string{{"-q"}, {"-o", "json"}} {
			t.Run(test.name+" "+strings.Join(flags, " "), func(t *testing.T) {
				out, in, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				args := append([]string{"run", "--provider", "local"}, flags...)
				hodei := exec.Command("hodei", append(args, "--", "sh", "-c", test.command)...)
				hodei.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "XDG_STATE_HOME="+filepath.Join(home, "state"),
					"PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH"))
				var stderr bytes.Buffer
				hodei.Stdout, hodei.Stderr = in, &stderr
				hodei.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				if err := hodei.Start(); err != nil {
					t.Fatal(err)
				}
				in.Close()
				tee := exec.Command("tee", filepath.Join(t.TempDir(), "x"))
				tee.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pgid: hodei.Process.Pid}
				tee.Stdin = out
				shown, err := tee.StdoutPipe()
				if err != nil {
					t.Fatal(err)
				}
				if err := tee.Start(); err != nil {
					t.Fatal(err)
				}
				out.Close()
				lines := bufio.NewScanner(shown)
				for lines.Scan() && !strings.Contains(lines.Text(), "ready") {
				}
				if err := syscall.Kill(-hodei.Process.Pid, syscall.SIGINT); err != nil {
					t.Fatal(err)
				}
				for lines.Scan() { // to the end, so that it is the signal that ends tee
				}
				_, _ = tee.Wait(), hodei.Wait() // their codes tell
				if code := hodei.ProcessState.ExitCode(); code != 130 || strings.Contains(stderr.String(), "error:") {
					t.Errorf("exit code %d, stderr:\n%s", code, &stderr)
				}
			})
		}
	}
}
