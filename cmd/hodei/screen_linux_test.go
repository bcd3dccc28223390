package main

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hodei-jobs/hodei/pkg/ui/uitest"
)

// onScreen COLUMNS COMMAND ARG... runs a command in a terminal of COLUMNS columns, on which
// twelve lines stand. Its stdout is then what a person sees there, and "exit N" as the last
// line. A sequence that the terminal does not know fails the script.
func onScreen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: onscreen COLUMNS COMMAND ARG...")
	}
	columns, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath(args[1])
	ts.Check(err)
	const rows = 30
	master, terminal, err := uitest.OpenPTY(columns, rows)
	ts.Check(err)
	defer master.Close()
	screen := uitest.NewScreen(columns, rows)
	for i := range 12 {
		fmt.Fprintf(screen, "before %d\r\n", i+1)
	}
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	for _, name := range []string{"HOME", "PATH", "KUBECONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "HODEI_K8S_NAMESPACE"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	err = cmd.Start()
	terminal.Close()
	ts.Check(err)
	_, err = io.Copy(screen, master) // ends with EIO once nobody has the terminal open
	if !errors.Is(err, syscall.EIO) {
		ts.Check(err)
	}
	if err := cmd.Wait(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			ts.Fatalf("%v", err)
		}
	}
	if len(screen.Unknown) > 0 {
		ts.Fatalf("the terminal does not know %q", screen.Unknown)
	}
	lines := screen.Lines()
	for i := range 12 {
		if i >= len(lines) || lines[i] != fmt.Sprint("before ", i+1) {
			ts.Fatalf("what stood on the screen before has moved:\n%s", strings.Join(lines, "\n"))
		}
	}
	fmt.Fprintf(ts.Stdout(), "%s\nexit %d\n", strings.Join(lines[12:], "\n"), cmd.ProcessState.ExitCode())
}
