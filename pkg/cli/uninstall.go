package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// uninstallTimeout is how long uninstall waits until all is gone: with jobs that
// run, a Pod takes as long as its grace, 45 s unless a job has said more, and the
// namespace's controller some seconds on top.
const uninstallTimeout = 2 * time.Minute

func (a *app) newUninstall() *cobra.Command {
	o := uninstallOptions{app: a, dryRun: dryRunNone}
	printFlags := genericclioptions.NewPrintFlags("deleted")
	cmd := &cobra.Command{
		Use:                   "uninstall --yes [--workers-namespace NAME] [--force] | --dry-run=client|server [-o yaml|json|name]",
		DisableFlagsInUseLine: true,
		Short:                 "Take out of a cluster what install put there",
		Long: templates.LongDesc(`
			Take hodei out of a cluster: its namespaces with all that is in them, service
			accounts, roles, policies, quotas, certificates and jobs. The cluster is that of the
			provider in use, else of the current context; hodei names it first.

			Without --yes it only lists what it would remove. It refuses if you lack the rights
			to find and remove everything, and while jobs run or wait, unless --force is given.

			A namespace that existed before hodei stays, and so does everything of others in it:
			only hodei's objects and labels are removed. Bindings in other namespaces that refer
			to hodei-user are listed and left to their owners.`),
		Example: templates.Examples(`
			# What would be removed
			hodei uninstall --dry-run=server

			# Remove it
			hodei uninstall --yes

			# Remove one of several namespaces of jobs, and end the jobs that run there
			hodei uninstall --yes --workers-namespace build --force`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("namespace") {
				return usagef(cmd, "--namespace has no effect here: one namespace of jobs is chosen with --workers-namespace")
			}
			if err := checkDryRun(cmd, o.dryRun); err != nil {
				return err
			}
			if *printFlags.OutputFormat != "" {
				var err error
				if o.printer, err = newPrinter(printFlags.OutputFormat, printFlags.ToPrinter); err != nil {
					return usagef(cmd, "%w", err)
				}
			}
			switch {
			case cmd.Flags().Changed("workers-namespace") && o.workersNamespace == "":
				return usagef(cmd, "--workers-namespace is empty")
			case o.workersNamespace == deploy.SystemNamespace:
				return usagef(cmd, "--workers-namespace %s: no jobs run there", deploy.SystemNamespace)
			case o.timeout <= 0:
				return usagef(cmd, "--timeout %s: must be more than zero", o.timeout)
			}
			var err error
			switch {
			case o.dryRun != dryRunNone:
				err = refuseUnread(cmd, "dry-run="+o.dryRun, "wait", "timeout")
			case !o.wait:
				err = refuseUnread(cmd, "wait=false", "timeout")
			}
			if err != nil {
				return err
			}
			flags := cmd.Flags()
			o.given, o.caller = typed(flags, "workers-namespace"), typed(flags, callerFlags...)
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.yes, "yes", false, "Remove it.")
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "none, client (only list what would be removed) or server (have the API server check it too).")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.StringVar(&o.workersNamespace, "workers-namespace", "", "Remove only this namespace of jobs; with the last one also what all of them share (default: all).")
	flags.BoolVar(&o.force, "force", false, "End jobs that run, and remove those that wait.")
	flags.BoolVar(&o.wait, "wait", true, "Wait until all is gone, and take hodei's labels off namespaces that stay.")
	flags.DurationVar(&o.timeout, "timeout", uninstallTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	return cmd
}

type uninstallOptions struct {
	*app
	yes              bool
	dryRun           string
	workersNamespace string // "": all
	force            bool
	wait             bool
	timeout          time.Duration
	printer          printers.ResourcePrinter // of -o; nil: a line says what was done
	// As they were typed, for hints; each begins with a space: --workers-namespace, and who
	// asks the cluster.
	given, caller string
}

func (o *uninstallOptions) run(ctx context.Context) error {
	if err := o.nameCluster("from", true); err != nil {
		return err
	}
	c, err := newManifestClient(ctx, o.kube)
	if err != nil {
		return err
	}
	found, err := o.find(ctx, c)
	if err != nil {
		return o.explain(err)
	}
	removals := slices.Concat(found.removals, found.released)
	if len(removals) == 0 {
		fmt.Fprintln(o.ErrOut, "nothing of hodei is in this cluster")
		return nil
	}
	if o.dryRun != dryRunClient {
		if err := c.checkRights(ctx, o.removalRights(removals), o.byAdministrator()); err != nil {
			return err
		}
	}
	for _, note := range found.notes {
		fmt.Fprintln(o.ErrOut, note)
	}
	asked := o.dryRun == dryRunNone && !o.yes
	if asked {
		if err := o.list(removals); err != nil {
			return err
		}
	}
	if len(found.running) > 0 && !o.force {
		err := fmt.Errorf("jobs have not ended: %s", strings.Join(found.running, ", "))
		if o.dryRun == dryRunNone {
			return &job.Hinted{Err: err, Hint: "wait for them, or end them: " + o.command(" --force", o.caller)}
		}
		fmt.Fprintln(o.ErrOut, "it would be refused without --force:", err)
	}
	if asked {
		return &job.Hinted{Err: errors.New("nothing was removed: that needs --yes"), Hint: o.command("", o.caller)}
	}
	if err := o.remove(ctx, c, found.removals); err != nil {
		return err
	}
	// Their labels are what the next uninstall finds released namespaces by: they go
	// when all else has gone, and nobody knows when unless we wait.
	switch {
	case !o.wait && len(found.released) > 0:
		var names []string
		for _, r := range found.released {
			names = append(names, r.object.GetName())
		}
		fmt.Fprintln(o.ErrOut, o.named("hodei's labels stay on "+job.Words(names)+" until all is gone; to take them off then: "+o.command("", o.caller)))
		return nil
	case o.dryRun == dryRunNone && o.wait:
		if err := o.await(ctx, c, found); err != nil {
			return err
		}
	}
	return o.remove(ctx, c, found.released)
}

// list shows what would be removed.
func (o *uninstallOptions) list(removals []removal) error {
	for _, r := range removals {
		if err := (&printers.NamePrinter{Operation: "would be " + r.done()}).PrintObj(r.object, o.ErrOut); err != nil {
			return err
		}
	}
	return nil
}

// remove does removals, and says so.
func (o *uninstallOptions) remove(ctx context.Context, c *manifestClient, removals []removal) error {
	for _, r := range removals {
		if o.dryRun != dryRunClient {
			if err := c.remove(ctx, r, o.dryRun == dryRunServer); err != nil {
				return o.explain(fmt.Errorf("remove %s: %w", describe(r.object), err))
			}
		}
		if err := o.say(r); err != nil {
			return err
		}
	}
	return nil
}

// command is what removes all this, for hints.
func (o *uninstallOptions) command(more, caller string) string {
	if o.force {
		more = " --force"
	}
	return "{hodei} uninstall --yes" + more + o.given + caller
}

// byAdministrator is what somebody with more rights can type.
func (o *uninstallOptions) byAdministrator() string {
	return "an administrator can: " + o.command("", "")
}

// explain is kubernetes.Explain, whose hint for a right that is missing is about
// running jobs.
func (o *uninstallOptions) explain(err error) error {
	if _, told := errors.AsType[*job.Hinted](err); told {
		return err
	}
	if apierrors.IsForbidden(err) {
		return &job.Hinted{Err: kubernetes.Explain(err), Hint: o.byAdministrator()}
	}
	return kubernetes.Explain(err)
}

// say prints what was done. A namespace that stays is no object that was removed.
func (o *uninstallOptions) say(r removal) error {
	line := &printers.NamePrinter{Operation: r.done() + dryRunNote[o.dryRun]}
	switch {
	case o.printer == nil:
		return line.PrintObj(r.object, o.Out)
	case r.way == releaseNamespace:
		return line.PrintObj(r.object, o.ErrOut)
	}
	return o.printer.PrintObj(r.object, o.Out)
}
