package cli

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usageError is a command line that makes no sense: exit code 2.
type usageError struct {
	cmd  *cobra.Command
	err  error
	hint string // empty: the command's help
}

// Error is err's; the hint stands on a line of its own.
func (e *usageError) Error() string { return e.err.Error() }

// Unwrap returns err.
func (e *usageError) Unwrap() error { return e.err }

// usagef is a usageError for a command's own checks of its flags.
func usagef(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{cmd: cmd, err: fmt.Errorf(format, args...)}
}

// refuseUnread refuses flags that nothing reads beside another.
func refuseUnread(cmd *cobra.Command, beside string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usagef(cmd, "--%s has no effect with --%s: leave it out", name, beside)
		}
	}
	return nil
}

// explainUsage makes the errors of root and of its commands about their flags and arguments usage
// errors, with a hint where what was meant is known. It is called once all commands are there.
func (a *app) explainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return a.unknownFlag(cmd, unknown)
		}
		return &usageError{cmd: cmd, err: err}
	})
	a.explainArgs(root)
}

// explainArgs is explainUsage for the arguments of cmd and of the commands below it.
func (a *app) explainArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return a.argsError(cmd, args, check(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		a.explainArgs(c)
	}
}

// argsError makes a usage error of err, which cmd has found in its arguments; nil: it takes them.
func (a *app) argsError(cmd *cobra.Command, args []string, err error) error {
	_, usage := errors.AsType[*usageError](err)
	switch {
	case usage:
		return err
	case err == nil:
		if len(args) > 0 && strings.Contains(args[0], "/") {
			if hint := a.kindHint(cmd, args); hint != "" {
				return &usageError{cmd: cmd, err: fmt.Errorf("%q is no name of a job", args[0]), hint: hint}
			}
		}
		return nil
	case cmd.HasSubCommands():
		return a.unknownCommand(cmd, args[0])
	case len(args) > 0:
		return &usageError{cmd: cmd, err: err, hint: cmp.Or(a.valueApart(cmd, args), a.kindHint(cmd, args))}
	}
	return &usageError{cmd: cmd, err: err}
}
