package cli

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Exit codes of every command but run.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a command line that makes no sense: exit code 2.
type usageError struct {
	cmd  *cobra.Command
	err  error
	hint string // empty: the command's help
}

func (e *usageError) Error() string { return e.err.Error() }

func (e *usageError) Unwrap() error { return e.err }

// usagef is a usageError for a command's own checks of its flags.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd: cmd, err: fmt.Errorf(format, args...)}
}

// report shows err as an error: and a hint: line and returns the exit code.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var exit *job.ExitError
	if errors.As(err, &exit) {
		code = exit.Code
		if exit.Err == nil {
			return code
		}
	}
	hint := job.HintOf(err)
	if usage, ok := errors.AsType[*usageError](err); ok {
		code = exitUsage
		hint = cmp.Or(hint, usage.hint, usage.cmd.CommandPath()+" --help")
	}
	a.streams().BeginLine()
	fmt.Fprintln(a.ErrOut, "error:", ui.Printable(err.Error()))
	if hint = a.named(hint); hint != "" {
		fmt.Fprintln(a.ErrOut, "hint:", hint)
	}
	return code
}
