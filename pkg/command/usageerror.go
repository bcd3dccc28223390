package command

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// UsageError is the error of a command line that makes no sense. Its exit code is [ExitUsage].
type UsageError struct {
	// Cmd is the command that was typed.
	Cmd *cobra.Command
	// Err says what is wrong.
	Err error
	// Hint is what to type instead; empty: the command's help.
	Hint string
}

// Error returns the words of Err, without the hint.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef returns a UsageError of cmd, without a hint of its own. It formats as fmt.Errorf does.
func Usagef(cmd *cobra.Command, format string, args ...any) error {
	return &UsageError{Cmd: cmd, Err: fmt.Errorf(format, args...)}
}

// RefuseUnread returns a usage error of cmd if one of the named flags was given, because nothing reads it together with
// the flag beside.
func RefuseUnread(cmd *cobra.Command, beside string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return Usagef(cmd, "--%s has no effect with --%s: leave it out", name, beside)
		}
	}
	return nil
}

// ExplainUsage makes all errors about flags and arguments of root and its commands a [UsageError], with a hint where
// what was meant is known. It is called once root has all its commands.
func (a *Env) ExplainUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return a.unknownFlag(cmd, unknown)
		}
		return &UsageError{Cmd: cmd, Err: err}
	})
	a.explainArgs(root)
}

// explainArgs is ExplainUsage for the arguments of cmd and of the commands below it.
func (a *Env) explainArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return a.argsError(cmd, args, check(cmd, args)) }
	}
	for _, c := range cmd.Commands() {
		a.explainArgs(c)
	}
}

// argsError returns the usage error for args, in which cmd found err. Where it found none, a job named as kubectl does,
// job/NAME, is refused all the same.
func (a *Env) argsError(cmd *cobra.Command, args []string, err error) error {
	_, usage := errors.AsType[*UsageError](err)
	switch {
	case usage:
		return err
	case err == nil:
		if namesKind(cmd, args) {
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

// AsRun returns err with the exit code [job.ExitFailed], for commands that end as hodei run does. A usage error and a
// [job.ExitError] have codes of their own.
func AsRun(err error) error {
	_, usage := errors.AsType[*UsageError](err)
	_, exit := errors.AsType[*job.ExitError](err)
	if err == nil || usage || exit {
		return err
	}
	return &job.ExitError{Code: job.ExitFailed, Err: err}
}
