// Package cli is the command tree of hodei: one file a command, each going from
// flags to options to a run that reads no flag, environment or global. [Main]
// is the way in. The work itself is done by the packages below it.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	_ "k8s.io/client-go/plugin/pkg/client/auth" // the clouds' ways to log in
	"k8s.io/klog/v2"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Exit codes of every command but run.
const (
	exitFailed = 1
	exitUsage  = 2
)

// app is what the commands share: streams, the kube flags, the name we were
// called by.
type app struct {
	genericiooptions.IOStreams
	// name is "hodei" or "kubectl hodei", for hints and usage; args is what was typed
	// behind it.
	name string
	args []string
	kube *genericclioptions.ConfigFlags
	// cmd is the command that runs; nil outside of one.
	cmd *cobra.Command
	// providerFlag is --provider.
	providerFlag string
	// quiet keeps chatter off stderr: -q, and completions.
	quiet bool
	// asked is what the command line says of the cluster, and target the cluster that was found
	// for it; nil until then. otherNamespace is the namespace of -n, if another would count
	// without it.
	asked          *place.Asked
	target         *place.Target
	otherNamespace string
	// getenv is os.Getenv, and something else in tests.
	getenv func(string) string
	// lookupEnv is os.LookupEnv, for variables that are another's and may be set and empty.
	lookupEnv func(string) (string, bool)
	// after is done when all is said, before the exit code.
	after []func()
	// signals is how all commands hear what they are sent.
	signals *signals.Set
	// at is what hodei has on this machine; see home.
	at *place.Home
	// shown are the streams that output is shown on, and what is said beside it; see streams.
	shown *output.Streams
}

// streams returns the streams that all of a's output is shown on. It is called before any other
// goroutine runs.
func (a *app) streams() *output.Streams {
	if a.shown == nil {
		a.shown = &output.Streams{
			Out: a.Out, OutTerminal: ui.Detect(a.stdout(), a.getenv),
			Err: a.ErrOut, ErrTerminal: ui.Detect(a.ErrOut, a.getenv),
			Shared: output.SameFile(a.stdout(), a.ErrOut),
		}
	}
	return a.shown
}

func newScreen(a *app, quiet bool) *output.Screen {
	return output.NewScreen(a.streams(), quiet, a.typeable)
}

// home returns what hodei has on this machine. It is called before any other goroutine runs.
func (a *app) home() *place.Home {
	if a.at == nil {
		a.at = &place.Home{Getenv: a.getenv}
	}
	return a.at
}

// afterwards has f done once everything is shown, which does not wait for it; the exit
// code does, so f takes 2 s at most.
func (a *app) afterwards(f func()) { a.after = append(a.after, f) }

// Main runs hodei with args (args[0] is the program's own name) and returns its
// exit code. It is called once a process: client-go's logger is global.
func Main(args []string, in io.Reader, out, errOut io.Writer) int {
	// client-go logs what its callers get as errors anyway.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	stdout := &checkedWriter{w: out}
	a := &app{
		IOStreams: genericiooptions.IOStreams{In: in, Out: stdout, ErrOut: errOut},
		name:      programName(args[0]),
		args:      args[1:],
		kube:      genericclioptions.NewConfigFlags(true),
		getenv:    os.Getenv,
		signals:   signals.New(),
		lookupEnv: os.LookupEnv,
	}
	root := a.newRoot()
	root.SetArgs(args[1:])
	return a.signals.UnlessSignaled(func() int {
		err := root.ExecuteContext(context.Background())
		if err == nil && stdout.err != nil {
			err = &job.Hinted{Err: fmt.Errorf("write stdout: %w", stdout.err), Hint: "check where the output goes"}
		}
		return a.end(err)
	})
}

// end shows err, does what is left for afterwards, and returns the exit code.
func (a *app) end(err error) int {
	code := a.report(err)
	for _, f := range a.after {
		f()
	}
	return code
}

// checkedWriter remembers its first error: printers drop them, and a list that
// was cut short is no success.
type checkedWriter struct {
	w   io.Writer
	err error
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if c.err == nil {
		c.err = err
	}
	return n, err
}

// stdout is what a's Out writes to in the end.
func (a *app) stdout() io.Writer {
	if c, ok := a.Out.(*checkedWriter); ok {
		return c.w
	}
	return a.Out
}

// programName is how a person types us: a kubectl plugin is called by kubectl.
func programName(arg0 string) string {
	base := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if plugin, ok := strings.CutPrefix(base, "kubectl-"); ok {
		return "kubectl " + plugin
	}
	return "hodei"
}

func (a *app) newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "hodei",
		Short: "Run commands on Kubernetes as if they were local",
		Long: templates.LongDesc(`
			hodei runs a command in a cluster and gives back its output, byte for byte,
			and its exit code.`),
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: a.name},
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: a.begin,
	}
	showVersion := root.Flags().Bool("version", false, "Print the version of hodei.")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		if *showVersion {
			return a.printClientVersion()
		}
		return cmd.Help()
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.ErrOut)
	a.kube.AddFlags(root.PersistentFlags())
	a.addProviderFlag(root, root.PersistentFlags(), "Where to go")
	root.PersistentFlags().Lookup("user").Usage = "The name of the kubeconfig user to use. In 'hodei run' and 'hodei provider', --user is the UID of the command instead."

	groups := templates.CommandGroups{
		{Message: "Jobs:", Commands: []*cobra.Command{a.newRun(), a.newJobs(), newDescribe(a, (*describeOptions).run), a.newTop(),
			newLogs(a, (*logsOptions).run), a.newAttach(), newReport(a, (*reportOptions).run), newAdvise(a, (*adviseOptions).run)}},
		{Message: "Set-up:", Commands: []*cobra.Command{a.newInstall(), a.newUninstall(), a.newCerts(), a.newProvider(), a.newDoctor()}},
		{Message: "Server:", Commands: []*cobra.Command{a.newServer()}},
	}
	groups.Add(root)
	root.AddCommand(a.newVersion(), a.newCompletion())
	templates.ActsAsRootCommand(root, []string{"options"}, groups...)
	root.AddCommand(newOptions())
	// After kubectl's templates, which have one of their own.
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
			return a.unknownFlag(cmd, unknown)
		}
		return &usageError{cmd: cmd, err: err}
	})
	a.usageArgs(root)
	return root
}

// addProviderFlag adds --provider. Every command has it; those whose help shows it say
// what it means there.
func (a *app) addProviderFlag(cmd *cobra.Command, flags *pflag.FlagSet, means string) {
	flags.StringVar(&a.providerFlag, "provider", "", means+": a name of 'hodei provider list'. Default: the one of --context, else the one in use, else the current kube context.")
	_ = cmd.RegisterFlagCompletionFunc("provider", a.completeProvider)
}

// begin notes what all commands have to know of the one that runs.
func (a *app) begin(cmd *cobra.Command, _ []string) error {
	a.cmd = cmd
	quiet := cmd.Flags().Lookup("quiet")
	a.quiet = quiet != nil && quiet.Changed && quiet.Value.String() == "true" || strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd)
	named := cmd.HasParent() && cmd.Parent().Name() == "provider" // by an argument, if at all
	if cmd.Flags().Changed("provider") && (named || slices.Contains([]string{"server", "completion", "options"}, cmd.Name())) {
		return usagef(cmd, "--provider has no effect here")
	}
	return nil
}

// newOptions lists the kube flags, which every other help text leaves out.
func newOptions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "options",
		Short: "List the flags that every command takes",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { _ = cmd.Usage() },
	}
	templates.UseOptionsTemplates(cmd)
	return cmd
}

// usageArgs makes every command's argument errors usage errors, with a hint where what was
// meant is known.
func (a *app) usageArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
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
	}
	for _, c := range cmd.Commands() {
		a.usageArgs(c)
	}
}

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

// typeable makes the commands in a text ready to be typed: it adds the program's name, and the
// flags that lead them to this command's cluster.
func (a *app) typeable(text string) string {
	if !strings.Contains(text, "{hodei}") && !strings.Contains(text, "kubectl ") {
		return text
	}
	return strings.ReplaceAll(carry(text, a.toCarry()), "{hodei}", a.name)
}

// named returns a hint ready to be typed; empty if it would only repeat what was just typed.
func (a *app) named(hint string) string {
	hint = a.typeable(a.overruled(hint))
	line := hint
	if i := strings.Index(hint, a.name+" "); i > 0 && strings.HasSuffix(hint[:i], ": ") && !strings.Contains(hint[:i], "then") {
		line = hint[i:] // what stands before says why, and is nothing to do first
	}
	if slices.Equal(sortedWords(line), sortedWords(a.name+" "+shell.Line(a.args))) {
		return ""
	}
	return hint
}

// sortedWords are the words of a command line, so that the order of its flags does not
// matter.
func sortedWords(line string) []string {
	words := strings.Fields(line)
	for i, word := range words {
		switch word {
		case "-n":
			words[i] = "--namespace"
		case "-o":
			words[i] = "--output"
		}
	}
	slices.Sort(words)
	return words
}
