package runflags

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/scheme"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/submission"
)

// Config returns what the flags say, without a job. It asks no cluster and reads no kubeconfig. What is wrong with the
// flags is a usage error.
func (f *Flags) Config() (*submission.Config, error) {
	if _, err := f.change(&job.Spec{}, f.env.LookupEnv); err != nil { // before anybody looks for the job
		return nil, err
	}
	c := &submission.Config{
		Teller: session.Teller{Remove: f.remove, Named: f.env.Named, Again: f.env.RunAgain()},
		In:     f.env.In, Detach: f.detach, Replace: f.replace,
		Lingers: f.changed("linger"), Follow: f.follow, UsageInterval: f.usageInterval,
		OpenStore: func() (*place.Store, error) { return f.env.Home().OpenStore(true) },
		Signals:   f.env.Signals, Afterwards: f.env.Afterwards,
	}
	switch {
	case f.remove && f.detach:
		return nil, command.Usagef(f.cmd, "--rm needs a job that is followed to its end: leave --detach out")
	case f.replace && f.name == "":
		return nil, command.Usagef(f.cmd, "--replace needs the name of the job: --name NAME")
	}
	if err := f.chooseOutput(c); err != nil {
		return nil, err
	}
	return c, nil
}

// Complete gives c its job: spec, with the changes that the flags make and with the defaults of its place. spec,
// c.NoFallback and c.NoExec may have values of an earlier job. An error is a usage error if what was typed can't be had.
func (f *Flags) Complete(c *submission.Config, spec *job.Spec) (err error) {
	if c.Unset, err = f.change(spec, f.env.LookupEnv); err != nil {
		return err
	}
	// Before the kubeconfig is read: what is wrong with the command line comes first.
	checked := *spec
	checked.SetDefaults()
	if err := checked.Validate(); err != nil {
		return f.specError(&checked, err)
	}
	if spec.Stdin && f.detach {
		return command.Usagef(f.cmd, "-i needs somebody who sends the input: leave --detach out")
	}
	c.Spec = spec
	if err := f.chooseTerminal(c); err != nil {
		return err
	}
	if c.Place, err = f.env.Place(); err != nil {
		return err
	}
	switch at := c.Place.(type) {
	case place.Cluster:
		err = f.forCluster(c, at)
	case place.Machine:
		err = f.forMachine(c)
	}
	if err != nil {
		return err
	}
	c.Authority, c.AuthorityNotes, err = f.env.Home().Authority(f.certs, "--certs")
	return err
}

// chooseTerminal checks the flags of a command that has a terminal.
func (f *Flags) chooseTerminal(c *submission.Config) error {
	switch {
	case !c.Spec.TTY:
	case !f.follow:
		return command.Usagef(f.cmd, "-t shows what the command prints: leave --follow=false out")
	case c.Events != nil:
		return command.Usagef(f.cmd, "-o %s writes events where -t shows the command's terminal: leave one of them out", f.output)
	case c.DryRun: // a manifest can be made without one
		return nil
	}
	var err error
	c.DetachKeys, err = f.env.Terminal(f.cmd, c.Spec.Stdin, c.Spec.TTY, f.detachKeys)
	c.TerminalOut = f.env.Stdout()
	return err
}

// forCluster takes the defaults of a provider, and checks the job against it.
func (f *Flags) forCluster(c *submission.Config, at place.Cluster) error {
	at.SetDefaults(c.Spec)
	switch {
	case f.changed("exec"):
		c.Spec.Exec = f.exec
	case c.NoExec: // as an earlier job had it
		c.Spec.Exec = false
	}
	if err := at.CheckSpec(c.Spec); err != nil {
		return f.specError(c.Spec, err)
	}
	switch {
	case f.changed("container-logs"):
		c.NoFallback = !f.containerLogs
	case c.NoFallback, c.Spec.ContainerLogs: // as an earlier job had it
	default:
		c.Spec.ContainerLogs = at.ContainerLogs(f.detach)
		c.NoFallback = !at.ContainerLogs(true) // the provider has ruled it out
	}
	c.Spec.EndCopied = f.detach && c.Spec.ContainerLogs && !c.Lingers
	c.Print = func() error { return f.print(c, at) }
	return nil
}

// forMachine checks a job of this machine.
func (f *Flags) forMachine(c *submission.Config) error {
	c.Spec.SetDefaults()
	c.DetachKeys = nil // a job of this machine ends with us
	for _, name := range []string{"detach-keys", "ttl", "rm", "replace", "namespace", "context", "kubeconfig"} {
		if f.changed(name) {
			return command.Usagef(f.cmd, "--%s needs a cluster; provider local runs processes of this machine", name)
		}
	}
	switch err := local.Check(c.Spec); {
	case err != nil:
		return f.specError(c.Spec, err)
	case c.Detach || c.DryRun:
		return command.Usagef(f.cmd, "--detach and --dry-run need a cluster; provider local runs processes of this machine")
	}
	return nil
}

// chooseOutput decides who hears what.
func (f *Flags) chooseOutput(c *submission.Config) error {
	switch f.dryRun {
	case command.DryRunNone:
	case command.DryRunClient:
		c.DryRun = true
	default:
		return command.Usagef(f.cmd, "--dry-run %q: want none or client", f.dryRun)
	}
	allowed := []string{"", "json", "yaml"}
	if f.detach || c.DryRun {
		allowed = append(allowed, "name")
	}
	if !slices.Contains(allowed, f.output) {
		return command.Usagef(f.cmd, "-o %q: want json or yaml, or name with --detach", f.output)
	}
	c.Sink = output.Raw{To: f.env.Streams()}
	if f.output != "" && !f.detach && !c.DryRun {
		c.Events = &output.Events{Out: f.env.Out, YAML: f.output == "yaml"}
		c.Sink = c.Events
	}
	c.Screen = command.NewScreen(f.env, f.quiet || c.Events != nil)
	if err := command.CheckUsageInterval(f.cmd, f.usageInterval, c.Events != nil); err != nil {
		return err
	}
	if f.metricsAddr != "" && (f.detach || c.DryRun) {
		return command.Usagef(f.cmd, "--metrics-addr needs a job that is followed: leave --detach and --dry-run out")
	}
	var err error
	c.MetricsAddr, err = command.MetricsAddress(f.cmd, f.metricsAddr)
	return err
}

// print prints the Job of c as kubectl would. Without -o that is the name of a Job that was made, and one that was not
// as yaml.
func (f *Flags) print(c *submission.Config, at place.Cluster) error {
	if f.output == "" && !c.DryRun {
		_, err := fmt.Fprintln(f.env.Out, c.Spec.Name)
		return err
	}
	manifest, err := at.Manifest(c.Spec)
	if err != nil {
		return err
	}
	flags := genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme).WithDefaultOutput(cmp.Or(f.output, "yaml"))
	printer, err := command.NewPrinter(flags.OutputFormat, flags.ToPrinter)
	if err != nil {
		return err
	}
	return printer.PrintObj(manifest, f.env.Out)
}
