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
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// doctorWait bounds all of it: a cluster that takes longer is not well.
const doctorWait = time.Minute

// New makes the command; run is (*doctorOptions).run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{Out: env.Out, home: env.Home(), choose: env.ChooseProvider, printData: env.PrintData, named: env.Named,
		cluster: env.CheckCluster}
	cmd := &cobra.Command{
		Use:                   "doctor [--provider NAME] [-o json|yaml]",
		DisableFlagsInUseLine: true,
		Short:                 "Check the cluster and this machine, and say what to do",
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
			return run(o, cmd.Context())
		},
	}
	env.AddProviderFlag(cmd, cmd.Flags(), "What to look at")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "Output format: json or yaml (default: lines).")
	return cmd
}

// Options is what one doctor looks at, and how it shows what it found.
type Options struct {
	Out      io.Writer
	terminal ui.Terminal // of Out
	output   string      // json, yaml or, for lines, empty
	home     *place.Home
	// choose returns the name and the settings of the provider in question, and cluster then looks
	// at its cluster; there is no check.Cluster if nothing more can be asked of it.
	choose    func() (name string, c provider.Config, err error)
	cluster   func(ctx context.Context, name string, c provider.Config) ([]check.Result, *check.Cluster)
	printData func(v any, format string) error
	named     func(hint string) string
}

func (o *Options) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, doctorWait)
	defer cancel()
	checks := o.examine(ctx)
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
		status.Summary(checkMarks[c.Status], fmt.Sprintf("%-8s %-16s %s", c.Status, c.Name, c.Detail))
		if c.Hint != "" {
			fmt.Fprintf(o.Out, "%27s%s\n", "hint: ", ui.Printable(c.Hint))
		}
	}
	fmt.Fprintln(o.Out, countChecks(checks))
}

var checkMarks = map[check.Status]ui.Mark{check.OK: ui.Good, check.Warning: ui.Warned, check.Error: ui.Bad, check.Skipped: ui.Unchecked}

// countChecks says how many checks ended how.
func countChecks(checks []check.Result) string {
	count := map[check.Status]int{}
	for _, c := range checks {
		count[c.Status]++
	}
	warnings := "warnings"
	if count[check.Warning] == 1 {
		warnings = "warning"
	}
	return fmt.Sprintf("%d ok, %d %s, %d failed, %d not checked",
		count[check.OK], count[check.Warning], warnings, count[check.Error], count[check.Skipped])
}

// examine makes all checks, those that need no cluster too if there is none.
func (o *Options) examine(ctx context.Context) []check.Result {
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

// providerCheck says which provider it is about.
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

// checkMachine looks at what is here.
func (o *Options) checkMachine() []check.Result {
	return []check.Result{check.Certs(o.home), check.Store(o.home)}
}
