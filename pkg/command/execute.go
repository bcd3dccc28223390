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
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Exit codes of every command. Those that run or follow a job end with [job.ExitFailed] in place of ExitFailed; see
// [AsRun].
const (
	ExitFailed = 1 // it could not do what it was asked
	ExitUsage  = 2 // what was typed makes no sense
)

// Prepare gives root, the command that holds all others, a's arguments, its streams and the flags that every command
// takes.
func (a *Env) Prepare(root *cobra.Command) {
	root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: a.Name}
	root.SilenceErrors, root.SilenceUsage = true, true // Execute shows errors, with a hint in place of usage
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

// Execute runs root with what Prepare gave it, shows the error that it ends with, and returns the exit code. It is
// called once. Output that could not be written to stdout is an error too.
func (a *Env) Execute(root *cobra.Command) int {
	return a.Signals.UnlessSignaled(func() int {
		err := root.ExecuteContext(context.Background())
		if out, ok := a.Out.(*checkedWriter); ok && err == nil && out.err != nil {
			err = &job.Hinted{Err: fmt.Errorf("write stdout: %w", out.err), Hint: "check where the output goes"}
		}
		return a.end(err)
	})
}

// begin notes which command runs and whether it is quiet, and refuses --provider where nothing reads it.
func (a *Env) begin(cmd *cobra.Command, _ []string) error {
	a.cmd = cmd
	quiet := cmd.Flags().Lookup("quiet")
	a.quiet = quiet != nil && quiet.Changed && quiet.Value.String() == "true" || strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd)
	named := cmd.HasParent() && cmd.Parent().Name() == "provider" // NAME is an argument there
	none := slices.Contains([]string{"server", "completion", "options"}, cmd.Name())
	if cmd.Flags().Changed("provider") && (named || none) {
		return Usagef(cmd, "--provider has no effect here")
	}
	return nil
}

// afterwards has f called once everything is shown. The exit code waits for f, so it takes 2 s at most.
func (a *Env) afterwards(f func()) { a.after = append(a.after, f) }

// end shows err, calls what afterwards was given, and returns the exit code.
func (a *Env) end(err error) int {
	code := a.report(err)
	for _, f := range a.after {
		f()
	}
	return code
}

// UntilSignal runs f with a context that ends with the first signal that asks hodei to end; then says what the next
// one does. Every command that asks a cluster runs like this. The exceptions are run and attach, whose sessions act on
// signals by themselves.
//
// If no signal came, or f returned nil, UntilSignal returns what f returned. Otherwise the command ends with the
// signal's exit code and shows nothing, because the error of f says only that its context ended. An f that has more to
// say, such as what it left behind, returns it as a [job.ExitError], which UntilSignal passes on.
func (a *Env) UntilSignal(ctx context.Context, then signals.Second, f func(context.Context) error) error {
	ctx, stop := a.Signals.UntilSignal(ctx, then)
	defer stop()
	err := f(ctx)
	_, said := errors.AsType[*job.ExitError](err)
	if _, signaled := errors.AsType[signals.Signaled](context.Cause(ctx)); err == nil || said || !signaled {
		return err
	}
	return signals.InterruptedBy(ctx, nil)
}

// report shows err and its hint, a line each, and returns the exit code.
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
	a.show(err, hint)
	return code
}

// show shows err and hint, a line each; without a hint only err.
func (a *Env) show(err error, hint string) {
	a.Streams().BeginLine()
	fmt.Fprintln(a.ErrOut, "error:", ui.Printable(err.Error()))
	if hint = a.Named(hint); hint != "" {
		fmt.Fprintln(a.ErrOut, "hint:", hint)
	}
}

// checkedWriter remembers the first error of w, because printers drop errors and a list that was cut short is no
// success.
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
