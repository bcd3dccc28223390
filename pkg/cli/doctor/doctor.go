// Package doctor is the command hodei doctor: it has the cluster and this machine checked, and shows what was found
// and what helps. Start with [New]. The checks themselves are package check's.
package doctor

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// patience bounds all checks together: a cluster that takes longer is not well.
const patience = time.Minute

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, home: env.Home(), choose: env.ChooseProvider, cluster: env.CheckCluster,
		printData: env.PrintData, named: env.Named,
	}
	cmd := &cobra.Command{
		Use:   "doctor [--provider NAME] [-o json|yaml]",
		Short: "Check the cluster and this machine, and say what to do",
		Long: templates.LongDesc(`
			Check the cluster and your rights in it, what hodei install has made, certificates,
			clocks, the place for output, and jobs that wait. It changes nothing. It skips what
			your rights do not let it see. The last line counts the checks: ok, warnings,
			failed, not checked.

			The exit code is 1 if a check failed: jobs can't run then. A warning is something
			that you should know.`),
		Example: templates.Examples(`
			# Look at the provider in use
			hodei doctor

			# Look at another one
			hodei doctor --provider prod

			# Only what is wrong
			hodei doctor -o json | jq '.checks[] | select(.status == "error")'`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml"}, o.output) {
				return command.Usagef(cmd, "--output %q: want json or yaml", o.output)
			}
			o.terminal = ui.Detect(env.Stdout(), env.Getenv)
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	env.AddProviderFlag(cmd, cmd.Flags(), "What to look at")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "Output format: json or yaml (default: lines).")
	return cmd
}

// Options is what one doctor looks at, and how it shows what it found.
type Options struct {
	Out      io.Writer
	terminal ui.Terminal // what Out is
	output   string      // json, yaml or, for lines, empty
	home     *place.Home
	// choose returns the name and the settings of the provider in question.
	choose func() (name string, c provider.Config, err error)
	// cluster looks at the provider's cluster. The check.Cluster is nil if nothing more can be asked
	// of it.
	cluster func(ctx context.Context, name string, c provider.Config) ([]check.Result, *check.Cluster)
	// printData prints what is no Kubernetes object as json or yaml.
	printData func(v any, format string) error
	// named makes a hint ready to be typed.
	named func(hint string) string
}

// Run makes all checks and shows them. If one failed, the error is a [job.ExitError] with nothing to say. If ctx ends
// before, nothing is shown: what was cut short would look like failed checks.
func (o *Options) Run(ctx context.Context) error {
	checks := o.examine(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for i := range checks {
		checks[i].Hint = o.named(checks[i].Hint)
	}
	if o.output == "" {
		o.show(checks)
	} else if err := o.printData(map[string][]check.Result{"checks": checks}, o.output); err != nil {
		return err
	}
	if check.Worst(checks) != nil {
		return &job.ExitError{Code: command.ExitFailed}
	}
	return nil
}

// show prints a line for each check, and how many ended how.
func (o *Options) show(checks []check.Result) {
	status := ui.NewStatus(o.Out, o.terminal)
	for _, c := range checks {
		status.Summary(marks[c.Status], fmt.Sprintf("%-8s %-16s %s", c.Status, c.Name, c.Detail))
		if c.Hint != "" {
			fmt.Fprintf(o.Out, "%27s%s\n", "hint: ", ui.Printable(c.Hint))
		}
	}
	fmt.Fprintln(o.Out, count(checks))
}

var marks = map[check.Status]ui.Mark{
	check.OK: ui.Good, check.Warning: ui.Warned, check.Error: ui.Bad, check.Skipped: ui.Unchecked,
}

// count says how many checks ended how.
func count(checks []check.Result) string {
	n := map[check.Status]int{}
	for _, c := range checks {
		n[c.Status]++
	}
	warnings := "warnings"
	if n[check.Warning] == 1 {
		warnings = "warning"
	}
	return fmt.Sprintf("%d ok, %d %s, %d failed, %d not checked",
		n[check.OK], n[check.Warning], warnings, n[check.Error], n[check.Skipped])
}

// examine makes all checks; without a cluster those that need none.
func (o *Options) examine(ctx context.Context) []check.Result {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	name, c, err := o.choose()
	if err != nil {
		return append([]check.Result{check.New("provider", check.Error, job.HintOf(err), "%v", err)}, o.checkMachine()...)
	}
	checks := []check.Result{o.providerCheck(name, c)}
	if c.Type == provider.Local {
		return append(append(checks, check.Worker()), o.checkMachine()...)
	}
	there, k := o.cluster(ctx, name, c)
	checks = append(checks, there...)
	if k != nil {
		checks = append(checks, k.Installed(ctx), k.Waiting(ctx))
		checks = append(checks, k.Secrets(ctx)...)
	}
	return append(checks, o.checkMachine()...)
}

// providerCheck says which provider is looked at, and where its jobs go.
func (o *Options) providerCheck(name string, c provider.Config) check.Result {
	const title = "provider"
	switch {
	case c.Type == provider.Local:
		return check.New(title, check.OK, "", "%s: processes of this machine", name)
	case name == "":
		name = "none"
	}
	where := "the kubeconfig's current context"
	switch {
	case c.Context != "":
		where = fmt.Sprintf("context %q", c.Context)
	case c.Kubeconfig == "" && o.home.PodNamespace() != "":
		where = "this Pod's own service account"
	}
	return check.New(title, check.OK, "", "%s: %s, namespace %s", name, where, c.Namespace)
}

// checkMachine looks at the certificates and the log store of this machine.
func (o *Options) checkMachine() []check.Result {
	return []check.Result{check.Certs(o.home), check.Store(o.home)}
}
