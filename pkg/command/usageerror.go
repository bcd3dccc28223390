package command

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// UsageError is a command line that makes no sense: exit code 2.
type UsageError struct {
	Cmd  *cobra.Command
	Err  error
	Hint string // empty: the command's help
}

// Error is err's; the hint stands on a line of its own.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns err.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef is a usageError for a command's own checks of its flags.
func Usagef(cmd *cobra.Command, format string, args ...any) error {
	return &UsageError{Cmd: cmd, Err: fmt.Errorf(format, args...)}
}

// RefuseUnread refuses flags that nothing reads beside another.
func RefuseUnread(cmd *cobra.Command, beside string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return Usagef(cmd, "--%s has no effect with --%s: leave it out", name, beside)
		}
	}
	return nil
}

// ExplainUsage makes the errors of root and of its commands about their flags and arguments usage
// errors, with a hint where what was meant is known. It is called once all commands are there.
func (a *Env) ExplainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return a.unknownFlag(cmd, unknown)
		}
		return &UsageError{Cmd: cmd, Err: err}
	})
	a.explainArgs(root)
}

// explainArgs is explainUsage for the arguments of cmd and of the commands below it.
func (a *Env) explainArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return a.argsError(cmd, args, check(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		a.explainArgs(c)
	}
}

// argsError makes a usage error of err, which cmd has found in its arguments; nil: it takes them.
func (a *Env) argsError(cmd *cobra.Command, args []string, err error) error {
	_, usage := errors.AsType[*UsageError](err)
	switch {
	case usage:
		return err
	case err == nil:
		if len(args) > 0 && strings.Contains(args[0], "/") {
			if hint := a.kindHint(cmd, args); hint != "" {
				return &UsageError{Cmd: cmd, Err: fmt.Errorf("%q is no name of a job", args[0]), Hint: hint}
			}
		}
		return nil
	case cmd.HasSubCommands():
		return a.unknownCommand(cmd, args[0])
	case len(args) > 0:
		return &UsageError{Cmd: cmd, Err: err, Hint: cmp.Or(a.ValueApart(cmd, args), a.kindHint(cmd, args))}
	}
	return &UsageError{Cmd: cmd, Err: err}
}

// AsRun gives an error of a command that ends as run does run's exit code.
func AsRun(err error) error {
	_, usage := errors.AsType[*UsageError](err)
	_, exit := errors.AsType[*job.ExitError](err)
	if err == nil || usage || exit {
		return err
	}
	return &job.ExitError{Code: job.ExitFailed, Err: err}
}
