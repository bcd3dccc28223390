package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Exit codes of every command but run.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// Prepare gives root, the command that holds all others, what every command has: a's streams and
// flags.
func (a *Env) Prepare(root *cobra.Command) {
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: a.Name}
	root.SilenceErrors, root.SilenceUsage = true, true // execute says them
	root.PersistentPreRunE = a.begin
	root.SetArgs(a.Args)
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.ErrOut)
	flags := root.PersistentFlags()
	a.Kube.AddFlags(flags)
	flags.Lookup("user").Usage = "The name of the kubeconfig user to use. " +
		"In 'hodei run' and 'hodei provider', --user is the UID of the command instead."
	a.AddProviderFlag(root, flags, "Where to go")
}

// Execute runs root, shows the error that it ends with, and returns the exit code.
func (a *Env) Execute(root *cobra.Command) int {
	return a.Signals.UnlessSignaled(func() int {
		err := root.ExecuteContext(context.Background())
		if out, ok := a.Out.(*checkedWriter); ok && err == nil && out.err != nil {
			err = &job.Hinted{Err: fmt.Errorf("write stdout: %w", out.err), Hint: "check where the output goes"}
		}
		return a.end(err)
	})
}

// begin notes what is to be known of the command that runs, and refuses --provider where it means
// nothing.
func (a *Env) begin(cmd *cobra.Command, _ []string) error {
	a.cmd = cmd
	quiet := cmd.Flags().Lookup("quiet")
	a.quiet = quiet != nil && quiet.Changed && quiet.Value.String() == "true" || strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd)
	named := cmd.HasParent() && cmd.Parent().Name() == "provider" // by an argument, if at all
	none := slices.Contains([]string{"server", "completion", "options"}, cmd.Name())
	if cmd.Flags().Changed("provider") && (named || none) {
		return Usagef(cmd, "--provider has no effect here")
	}
	return nil
}

// afterwards has f done once everything is shown, which does not wait for it; the exit
// code does, so f takes 2 s at most.
func (a *Env) afterwards(f func()) { a.after = append(a.after, f) }

// end shows err, does what is left for afterwards, and returns the exit code.
func (a *Env) end(err error) int {
	code := a.report(err)
	for _, f := range a.after {
		f()
	}
	return code
}

// report shows err as an error: and a hint: line and returns the exit code.
func (a *Env) report(err error) int {
	if err == nil {
		return 0
	}
	code := ExitFailed
	var exit *job.ExitError
	if errors.As(err, &exit) {
		code = exit.Code
		if exit.Err == nil {
			return code
		}
	}
	hint := job.HintOf(err)
	if usage, ok := errors.AsType[*UsageError](err); ok {
		code = ExitUsage
		hint = cmp.Or(hint, usage.Hint, usage.Cmd.CommandPath()+" --help")
	}
	a.Streams().BeginLine()
	fmt.Fprintln(a.ErrOut, "error:", ui.Printable(err.Error()))
	if hint = a.Named(hint); hint != "" {
		fmt.Fprintln(a.ErrOut, "hint:", hint)
	}
	return code
}

// checkedWriter remembers its first error: printers drop them, and a list that
// was cut short is no success.
type checkedWriter struct {
	w   io.Writer
	err error
}

// Write writes p to w.
func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.err == nil {
		c.err = err
	}
	return n, err
}
