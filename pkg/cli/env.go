package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// app is what the commands of one process share: how hodei was called, its streams, the flags that
// every command has, and what was found out with them. It is for one goroutine, unless a method says
// otherwise.
type app struct {
	genericiooptions.IOStreams
	// name is "hodei" or "kubectl hodei", for hints and usage; args is what was typed behind it.
	name string
	args []string
	// cmd is the command that runs; nil outside of one.
	cmd *cobra.Command
	// quiet keeps chatter off stderr: -q, and completions.
	quiet bool

	// getenv is os.Getenv, and something else in tests; lookupEnv is os.LookupEnv, for variables
	// that are another's and may be set and empty.
	getenv    func(string) string
	lookupEnv func(string) (string, bool)
	// signals is how all commands hear what they are sent.
	signals *signals.Set

	// kube are kubectl's flags, which chooseProvider points at the cluster that it has chosen, and
	// providerFlag is --provider.
	kube         *genericclioptions.ConfigFlags
	providerFlag string
	// asked is what the command line says of the cluster, and target the cluster that was found
	// for it; nil until then. otherNamespace is the namespace of -n, if another would count
	// without it.
	asked          *place.Asked
	target         *place.Target
	otherNamespace string

	at    *place.Home     // see home
	shown *output.Streams // see streams
	after []func()        // see afterwards
}

// newApp returns what the commands of this process share. args[0] is the program's own name.
func newApp(args []string, in io.Reader, out, errOut io.Writer) *app {
	return &app{
		IOStreams: genericiooptions.IOStreams{In: in, Out: &checkedWriter{w: out}, ErrOut: errOut},
		name:      programName(args[0]),
		args:      args[1:],
		kube:      genericclioptions.NewConfigFlags(true),
		getenv:    os.Getenv,
		lookupEnv: os.LookupEnv,
		signals:   signals.New(),
	}
}

// programName is how a person types us: a kubectl plugin is called by kubectl.
func programName(arg0 string) string {
	base := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if plugin, ok := strings.CutPrefix(base, "kubectl-"); ok {
		return "kubectl " + plugin
	}
	return "hodei"
}

// home returns what hodei has on this machine. It is called before any other goroutine runs.
func (a *app) home() *place.Home {
	if a.at == nil {
		a.at = &place.Home{Getenv: a.getenv}
	}
	return a.at
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

// stdout is what a's Out writes to in the end: os.Stdout, of which can be asked whether it is a
// terminal.
func (a *app) stdout() io.Writer {
	if c, ok := a.Out.(*checkedWriter); ok {
		return c.w
	}
	return a.Out
}

// newScreen returns what a person sees of a command on a's streams; a quiet one shows nothing.
func newScreen(a *app, quiet bool) *output.Screen {
	return output.NewScreen(a.streams(), quiet, a.typeable)
}
