package attach

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// typed are the flags of attach, as they were typed.
type typed struct {
	quiet, timestamps, prefix bool
	stdin, tty                bool
	detachKeys                string
	output                    string
	usageInterval             time.Duration
	metricsAddr               string
}

// register gives cmd the flags.
func (f *typed) register(env *command.Env, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	flags.BoolVarP(&f.stdin, "stdin", "i", false,
		"Send this terminal's or pipe's input to the command, if it waits for one. Default: whoever ran the job sends it.")
	flags.BoolVarP(&f.tty, "tty", "t", false,
		"Show the command's terminal in this one, from now on. Needs -i, and a job that was made with -t.")
	command.DetachKeysFlag(flags, &f.detachKeys)
	env.AddProviderFlag(cmd, flags, "Where the job runs")
	command.DecorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: write events to stdout.")
	command.UsageIntervalFlag(cmd, &f.usageInterval)
	command.MetricsFlag(cmd, &f.metricsAddr)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// options turns flags into options. The caller closes their store.
func (f *typed) options(env *command.Env, cmd *cobra.Command, name string) (*Options, error) {
	switch {
	case f.output != "" && f.output != "json" && f.output != "yaml":
		return nil, command.Usagef(cmd, "-o %q: want json or yaml", f.output)
	case f.output != "" && (f.timestamps || f.prefix):
		return nil, command.Usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	if f.tty && (f.output != "" || f.timestamps || f.prefix) {
		return nil, command.Usagef(cmd, "-t shows the command's terminal as it is: leave -o, --timestamps and --prefix out")
	}
	detachKeys, err := env.Terminal(cmd, f.stdin, f.tty, f.detachKeys)
	if err != nil {
		return nil, err
	}
	if err := command.CheckUsageInterval(cmd, f.usageInterval, f.output != ""); err != nil {
		return nil, err
	}
	metricsAddr, err := command.MetricsAddress(cmd, f.metricsAddr)
	if err != nil {
		return nil, err
	}
	o := &Options{
		JobName: name, Named: env.Named, UsageInterval: f.usageInterval, MetricsAddr: metricsAddr,
		Signals: env.Signals, Afterwards: env.Afterwards,
	}
	if f.stdin {
		o.In = env.In
	}
	if f.tty {
		o.TerminalOut, o.DetachKeys = env.Stdout(), detachKeys
	}
	shown := output.Options{Timestamps: f.timestamps, Prefix: f.prefix}
	if f.output != "" {
		o.Events = &output.Events{Out: env.Out, YAML: f.output == "yaml"}
		shown = output.Options{Events: o.Events}
	}
	o.Screen = command.NewScreen(env, f.quiet || o.Events != nil)
	o.Sinks = env.Streams().Sinks(shown)
	if o.Finder, o.Store, err = env.Finder(true, o.Screen.Note); err != nil {
		return nil, err
	}
	o.Finder.Patient = true
	o.Viewer = joblog.New(o.Finder, o.Sinks)
	o.Viewer.EndSaid, o.Viewer.StoreDir = true, o.Store.Dir
	o.Viewer.Tame = f.output == "" && terminal.Is(env.Stdout())
	return o, nil
}
