package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// doctorWait bounds all of it: a cluster that takes longer is not well.
const doctorWait = time.Minute

func (a *app) newDoctor() *cobra.Command {
	var output string
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
			if !slices.Contains([]string{"", "json", "yaml"}, output) {
				return usagef(cmd, "--output %q: want json or yaml", output)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), doctorWait)
			defer cancel()
			return a.doctor(ctx, output)
		},
	}
	a.addProviderFlag(cmd, cmd.Flags(), "What to look at")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Output format: json or yaml (default: lines).")
	return cmd
}

func (a *app) doctor(ctx context.Context, output string) error {
	checks := a.examine(ctx)
	for i := range checks {
		checks[i].Hint = a.named(checks[i].Hint)
	}
	if output != "" {
		if err := a.printData(map[string][]check.Result{"checks": checks}, output); err != nil {
			return err
		}
	} else {
		status := ui.NewStatus(a.Out, ui.Detect(a.stdout(), a.getenv))
		for _, c := range checks {
			status.Summary(checkMarks[c.Status], fmt.Sprintf("%-8s %-16s %s", c.Status, c.Name, c.Detail))
			if c.Hint != "" {
				fmt.Fprintf(a.Out, "%27s%s\n", "hint: ", ui.Printable(c.Hint))
			}
		}
		fmt.Fprintln(a.Out, countChecks(checks))
	}
	if check.Worst(checks) != nil {
		return &job.ExitError{Code: exitFailed}
	}
	return nil
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
	return fmt.Sprintf("%d ok, %d %s, %d failed, %d not checked", count[check.OK], count[check.Warning], warnings, count[check.Error], count[check.Skipped])
}

// examine makes all checks, those that need no cluster too if there is none.
func (a *app) examine(ctx context.Context) []check.Result {
	name, c, err := a.chooseProvider()
	if err != nil {
		return append([]check.Result{check.New("provider", check.Error, job.HintOf(err), "%v", err)}, a.checkMachine()...)
	}
	checks := []check.Result{a.providerCheck(name, c)}
	if c.Type == provider.Local {
		return append(append(checks, check.Worker()), a.checkMachine()...)
	}
	there, k := a.checkCluster(ctx, name, c)
	checks = append(checks, there...)
	if k != nil {
		checks = append(checks, k.Installed(ctx), k.Waiting(ctx))
		checks = append(checks, k.Secrets(ctx)...)
	}
	return append(checks, a.checkMachine()...)
}

// providerCheck says which provider it is about.
func (a *app) providerCheck(name string, c provider.Config) check.Result {
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
	case c.Kubeconfig == "" && a.home().PodNamespace() != "":
		where = "this Pod's own service account"
	}
	return check.New(title, check.OK, "", "%s: %s, namespace %s", name, where, c.Namespace)
}

// checkMachine looks at what is here.
func (a *app) checkMachine() []check.Result {
	return []check.Result{check.Certs(a.home()), check.Store(a.home())}
}

// checkCluster looks at the cluster of a provider, to which the kube flags point.
func (a *app) checkCluster(ctx context.Context, name string, c provider.Config) ([]check.Result, *check.Cluster) {
	config, err := restConfig(a.kube)
	if err != nil {
		return []check.Result{check.Failed("cluster", err)}, nil
	}
	return check.OfCluster(ctx, config, name, c)
}
