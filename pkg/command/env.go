package command

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

// Env is what the commands of one process share: how hodei was called, its streams, the flags that
// every command has, and what was found out with them. It is for one goroutine, unless a method says
// otherwise.
type Env struct {
	genericiooptions.IOStreams
	// Name is "hodei" or "kubectl hodei", for hints and usage; args is what was typed behind it.
	Name string
	Args []string
	// Version is hodei's own.
	Version string
	// cmd is the command that runs; nil outside of one.
	cmd *cobra.Command
	// quiet keeps chatter off stderr: -q, and completions.
	quiet bool

	// Getenv is os.Getenv, and something else in tests; lookupEnv is os.LookupEnv, for variables
	// that are another's and may be set and empty.
	Getenv    func(string) string
	LookupEnv func(string) (string, bool)
	// Signals is how all commands hear what they are sent.
	Signals *signals.Set

	// Kube are kubectl's flags, which chooseProvider points at the cluster that it has chosen, and
	// providerFlag is --provider.
	Kube         *genericclioptions.ConfigFlags
	ProviderFlag string
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

// New returns what the commands of this process share. args[0] is the program's own name.
func New(args []string, in io.Reader, out, errOut io.Writer) *Env {
	return &Env{
		IOStreams: genericiooptions.IOStreams{In: in, Out: &checkedWriter{w: out}, ErrOut: errOut},
		Name:      programName(args[0]),
		Args:      args[1:],
		Kube:      genericclioptions.NewConfigFlags(true),
		Getenv:    os.Getenv,
		LookupEnv: os.LookupEnv,
		Signals:   signals.New(),
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

// Home returns what hodei has on this machine. It is called before any other goroutine runs.
func (a *Env) Home() *place.Home {
	if a.at == nil {
		a.at = &place.Home{Getenv: a.Getenv}
	}
	return a.at
}

// Streams returns the streams that all of a's output is shown on. It is called before any other
// goroutine runs.
func (a *Env) Streams() *output.Streams {
	if a.shown == nil {
		a.shown = &output.Streams{
			Out: a.Out, OutTerminal: ui.Detect(a.Stdout(), a.Getenv),
			Err: a.ErrOut, ErrTerminal: ui.Detect(a.ErrOut, a.Getenv),
			Shared: output.SameFile(a.Stdout(), a.ErrOut),
		}
	}
	return a.shown
}

// Stdout is what a's Out writes to in the end: os.Stdout, of which can be asked whether it is a
// terminal.
func (a *Env) Stdout() io.Writer {
	if c, ok := a.Out.(*checkedWriter); ok {
		return c.w
	}
	return a.Out
}

// NewScreen returns what a person sees of a command on a's streams; a quiet one shows nothing.
func NewScreen(a *Env, quiet bool) *output.Screen {
	return output.NewScreen(a.Streams(), quiet, a.typeable)
}
