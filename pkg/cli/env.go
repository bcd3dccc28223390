package cli

import (
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
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
