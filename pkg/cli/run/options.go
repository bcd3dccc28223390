package run

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
)

// options turns flags into options. What is wrong with them is a usage error.
func (f *typed) options(env *command.Env, cmd *cobra.Command, args []string) (*Options, error) {
	spec, unset, err := f.spec(cmd, args, env.LookupEnv)
	if err != nil {
		return nil, err
	}
	// Before the kubeconfig is read: what is wrong with the command line comes first.
	checked := *spec
	checked.SetDefaults()
	if err := checked.Validate(); err != nil {
		return nil, specError(cmd, &checked, err)
	}
	o := &Options{
		Teller: session.Teller{Spec: spec, Named: env.Named, Again: env.RunAgain()},
		In:     env.In, Out: env.Out, Format: f.output, Detach: f.detach,
		Unset: unset, Lingers: cmd.Flags().Changed("linger"), Follow: f.follow, UsageInterval: f.usageInterval,
		OpenStore: func() (*place.Store, error) { return env.Home().OpenStore(true) },
		Signals:   env.Signals, Afterwards: env.Afterwards,
	}
	if err := o.chooseOutput(env, cmd, f); err != nil {
		return nil, err
	}
	if err := o.chooseTerminal(env, cmd, f); err != nil {
		return nil, err
	}
	if o.Place, err = env.Place(); err != nil {
		return nil, err
	}
	switch at := o.Place.(type) {
	case place.Cluster:
		err = o.forCluster(cmd, f, at)
	case place.Machine:
		err = o.forMachine(cmd)
	}
	if err != nil {
		return nil, err
	}
	if o.Authority, o.AuthorityNotes, err = env.Home().Authority(f.certs, "--certs"); err != nil {
		return nil, err
	}
	return o, nil
}

// forCluster takes the defaults of a provider, and checks the job against it.
func (o *Options) forCluster(cmd *cobra.Command, f *typed, at place.Cluster) error {
	at.SetDefaults(o.Spec)
	if err := at.CheckSpec(o.Spec); err != nil {
		return specError(cmd, o.Spec, err)
	}
	if cmd.Flags().Changed("container-logs") {
		o.NoFallback = !f.containerLogs
	} else {
		o.Spec.ContainerLogs = at.ContainerLogs(f.detach)
		o.NoFallback = !at.ContainerLogs(true) // the provider has ruled it out
	}
	o.Spec.EndCopied = f.detach && o.Spec.ContainerLogs && !o.Lingers
	return nil
}

// chooseTerminal checks the flags of a command that has a terminal.
func (o *Options) chooseTerminal(env *command.Env, cmd *cobra.Command, f *typed) error {
	switch {
	case !f.tty:
	case !f.follow:
		return command.Usagef(cmd, "-t shows what the command prints: leave --follow=false out")
	case f.output != "" && !o.DryRun:
		return command.Usagef(cmd, "-o %s writes events where -t shows the command's terminal: leave one of them out", f.output)
	case o.DryRun: // a manifest can be made without one
		return nil
	}
	var err error
	o.DetachKeys, err = env.Terminal(cmd, f.tty, f.detachKeys)
	o.TerminalOut = env.Stdout()
	return err
}

// forMachine checks a job of this machine.
func (o *Options) forMachine(cmd *cobra.Command) error {
	o.Spec.SetDefaults()
	o.DetachKeys = nil // a job of this machine ends with us
	for _, name := range []string{"detach-keys", "ttl", "namespace", "context", "kubeconfig"} {
		if cmd.Flags().Changed(name) {
			return command.Usagef(cmd, "--%s needs a cluster; provider local runs processes of this machine", name)
		}
	}
	switch err := local.Check(o.Spec); {
	case err != nil:
		return specError(cmd, o.Spec, err)
	case o.Detach || o.DryRun:
		return command.Usagef(cmd, "--detach and --dry-run need a cluster; provider local runs processes of this machine")
	}
	return nil
}

// chooseOutput decides who hears what.
func (o *Options) chooseOutput(env *command.Env, cmd *cobra.Command, f *typed) error {
	switch f.dryRun {
	case command.DryRunNone:
	case command.DryRunClient:
		o.DryRun = true
	default:
		return command.Usagef(cmd, "--dry-run %q: want none or client", f.dryRun)
	}
	allowed := []string{"", "json", "yaml"}
	if f.detach || o.DryRun {
		allowed = append(allowed, "name")
	}
	if !slices.Contains(allowed, f.output) {
		return command.Usagef(cmd, "-o %q: want json or yaml, or name with --detach", f.output)
	}
	o.Sink = output.Raw{To: env.Streams()}
	if f.output != "" && !f.detach && !o.DryRun {
		o.Events = &output.Events{Out: env.Out, YAML: f.output == "yaml"}
		o.Sink = o.Events
	}
	o.Screen = command.NewScreen(env, f.quiet || o.Events != nil)
	if err := command.CheckUsageInterval(cmd, f.usageInterval, o.Events != nil); err != nil {
		return err
	}
	if f.metricsAddr != "" && (f.detach || o.DryRun) {
		return command.Usagef(cmd, "--metrics-addr needs a job that is followed: leave --detach and --dry-run out")
	}
	if f.stdin && f.detach {
		return command.Usagef(cmd, "-i needs somebody who sends the input: leave --detach out")
	}
	var err error
	o.MetricsAddr, err = command.MetricsAddress(cmd, f.metricsAddr)
	return err
}
