package cli

import (
	"bufio"
	"errors"
	"os"
	"path"
	"regexp"
	"slices"
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

// hint is what helps.
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
	case missing && forShell(first):
		return "a shell can: " + n.again + " -- sh -c " + shell.Quote(shellText(n.command))
	case strings.Contains(n.message, noInterpreter):
		return "a shell may run it: " + n.again + " -- sh " + shell.Line(n.command)
	case n.here == nil:
		return "check the command, and PATH"
	case strings.Contains(n.message, syscall.ENOEXEC.Error()):
		return "name an image that is built for the node: --image IMAGE"
	}
	if line, err := n.here(first); err == nil && missing {
		if text := scriptLine(line, first, rest); text != "" {
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

// operators are words that a shell acts on.
var operators = []string{"&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1", "&>", "<<<"}

// builtins are the commands that a shell has, and images have no program for.
var builtins = []string{".", "source", "cd", "export", "unset", "set", "alias", "eval", "exec", "exit", "return", "shift", "ulimit", "umask", "trap", "wait", "read", "type", "command",
	"if", "for", "while", "until", "case", "function", "{", "(", "!", "[[", "declare", "local", "pushd", "popd", "shopt", "let"}

// forShell tells that a word names no program and makes sense to a shell.
func forShell(word string) bool {
	if slices.Contains(builtins, word) || slices.Contains(operators, word) {
		return true
	}
	if strings.ContainsAny(word, "|&;<>()$`*?~\n") {
		return true
	}
	return strings.ContainsAny(word, " \t") && !strings.HasPrefix(word, "/") // a path may have spaces
}

// shellText is a command as a shell would have been given it.
func shellText(command []string) string {
	if len(command) == 1 {
		return command[0]
	}
	words := []string{command[0]}
	for _, word := range command[1:] {
		if !slices.Contains(operators, word) {
			word = shell.Quote(word)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// interpreters are those that take a program as an argument, and by which flag.
var interpreters = map[string]string{
	"sh": "-c", "bash": "-c", "dash": "-c", "ash": "-c", "zsh": "-c", "ksh": "-c", "python": "-c", "python3": "-c", "perl": "-e", "ruby": "-e", "node": "-e",
}

// scriptLine is the command, as one types it, that hands on the text of a script of this
// machine, which begins with line; empty: its interpreter takes none.
func scriptLine(line, name string, args []string) string {
	line, ok := strings.CutPrefix(line, "#!")
	fields := strings.Fields(line)
	if !ok || len(fields) == 0 {
		return ""
	}
	program := path.Base(fields[0])
	if program == "env" && len(fields) > 1 {
		program = path.Base(fields[len(fields)-1])
	}
	flag := interpreters[program]
	if flag == "" {
		return ""
	}
	text := program + " " + flag + ` "$(cat ` + shell.Quote(name) + `)"`
	if flag == "-c" && strings.HasSuffix(program, "sh") {
		text += " " + shell.Quote(name) // its $0
	}
	if len(args) > 0 {
		text += " " + shell.Line(args)
	}
	return text
}

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
