package remedy

import (
	"bufio"
	"errors"
	"os"
	"regexp"
	"strings"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// notRun is a command that could not be started.
type notRun struct {
	command []string
	code    int
	message string // the launcher's
	again   string // what it was run by, up to the --
	// here reads the first line of a file of this machine; nil: the command was to run here.
	here func(name string) (string, error)
}

// hint says what helps. It is empty if the command is not known.
func (n notRun) hint() string {
	if len(n.command) == 0 { // of a job that somebody else has made
		return ""
	}
	first, rest := n.command[0], n.command[1:]
	missing := n.code == job.ExitNotFound
	switch {
	case strings.HasPrefix(n.message, noWorkdir):
		return "name a directory that is there: --workdir DIR"
	case missing && len(rest) > 0 && assignment.MatchString(first):
		return n.again + " -e " + shell.Quote(first) + " -- " + shell.Line(rest)
	case missing && shell.Needs(first):
		return "a shell can: " + n.again + " -- sh -c " + shell.Quote(shell.Text(n.command))
	case strings.Contains(n.message, noInterpreter):
		return "a shell may run it: " + n.again + " -- sh " + shell.Line(n.command)
	case n.here == nil:
		return "check the command, and PATH"
	case strings.Contains(n.message, syscall.ENOEXEC.Error()):
		return "name an image that is built for the node: --image IMAGE"
	}
	if line, err := n.here(first); err == nil && missing {
		if text := shell.Inline(line, first, rest); text != "" {
			return "local files are not sent; the script's text can be: " + n.again + " -- " + text
		}
		return "local files are not sent: build an image that has it, and name it with --image"
	}
	return "check the command, or name an image that has it: --image IMAGE"
}

// noWorkdir is what the launcher says of a directory that is not in the image.
const noWorkdir = "no working directory"

// noInterpreter is what the launcher says of a script without an interpreter.
const noInterpreter = "no #! line"

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// firstLineHere reads the first line of a file of this machine.
func firstLineHere(name string) (string, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("not a regular file")
	}
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	line, _ := bufio.NewReaderSize(file, 256).ReadSlice('\n') // the kernel reads as much of it
	return string(line), nil
}
