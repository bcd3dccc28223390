// Package command is what the commands of hodei share: how the program was called, its streams and flags, which
// cluster they lead to, usage errors and hints, and printing with kubectl's printers. Start with [Env]: [New] makes
// one, [Env.Prepare] gives the root command its flags, and [Env.Execute] runs the commands and returns the exit code.
//
// Env is for the New of a command: it turns flags into options, and takes from Env the few things that these need,
// such as the func [Env.Named] in place of all of Env. Put into this package what two commands need from the command
// line. Not here belong what one command needs alone, which stays in its package; what can do without flags and the
// terminal, such as asking a cluster or following a job, which is a package below this one; and what a command does
// once its options are there.
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
// otherwise. [New] makes one; a test may fill in only the fields that the tested methods read.
type Env struct {
	// IOStreams are stdin, stdout and stderr.
	genericiooptions.IOStreams
	// Name is what a person types to call hodei, "hodei" or "kubectl hodei", for hints and usage.
	Name string
	// Args are the arguments that were typed behind Name.
	Args []string
	// Version is hodei's own version.
	Version string
	cmd     *cobra.Command // the command that runs; nil: none does
	quiet   bool           // keep chatter off stderr: -q, and completions

	// Getenv is os.Getenv, and something else in tests.
	Getenv func(string) string
	// LookupEnv is os.LookupEnv, and something else in tests. It is for the variables of a job,
	// which may be set and empty.
	LookupEnv func(string) (string, bool)
	// Signals is how all commands hear signals; nil ignores none.
	Signals *signals.Set

	// Kube are kubectl's flags. [Env.ChooseProvider] points them at the cluster that it has chosen.
	Kube *genericclioptions.ConfigFlags
	// ProviderFlag is the value of --provider.
	ProviderFlag string

	asked          *place.Asked  // what the command line says of the cluster; see wanted
	target         *place.Target // the cluster that was chosen; nil: none was yet
	otherNamespace string        // the one of -n, if another would count without it

	at    *place.Home     // see Home
	shown *output.Streams // see Streams
	after []func()        // see afterwards
}

// New returns the Env of this process, with its own variables and signals. args[0] is the program's
// own name. It is called before any other part of the program asks for a signal.
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

// programName returns what a person types to call arg0: a kubectl plugin is called through kubectl.
func programName(arg0 string) string {
	base := strings.TrimSuffix(filepath.Base(arg0), ".exe")
	if plugin, ok := strings.CutPrefix(base, "kubectl-"); ok {
		return "kubectl " + plugin
	}
	return "hodei"
}

// Home returns where hodei's files on this machine are, always the same. The first call is made before any other
// goroutine runs.
func (a *Env) Home() *place.Home {
	if a.at == nil {
		a.at = &place.Home{Getenv: a.Getenv}
	}
	return a.at
}

// Streams returns the streams that all of a's output is shown on, always the same. The first call is made before any
// other goroutine runs.
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

// Stdout returns what a's Out writes to in the end, os.Stdout except in tests. Unlike Out it can be asked whether it
// is a terminal.
func (a *Env) Stdout() io.Writer {
	if c, ok := a.Out.(*checkedWriter); ok {
		return c.w
	}
	return a.Out
}

// NewScreen returns what a person sees of a command on a's streams, status and notes. A quiet one shows nothing. The
// caller stops it.
func NewScreen(a *Env, quiet bool) *output.Screen {
	return output.NewScreen(a.Streams(), quiet, a.typeable)
}
