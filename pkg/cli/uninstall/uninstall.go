package uninstall

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// uninstallTimeout is how long uninstall waits until all is gone: with jobs that
// run, a Pod takes as long as its grace, 45 s unless a job has said more, and the
// namespace's controller some seconds on top.
const uninstallTimeout = 2 * time.Minute

func New(a *command.Env) *cobra.Command {
	o := Options{Env: a, dryRun: command.DryRunNone}
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
			if err := o.complete(cmd, printFlags); err != nil {
				return err
			}
			return o.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.yes, "yes", false, "Remove it.")
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun,
		"none, client (only list what would be removed) or server (have the API server check it too).")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	flags.StringVar(&o.workersNamespace, "workers-namespace", "",
		"Remove only this namespace of jobs; with the last one also what all of them share (default: all).")
	flags.BoolVar(&o.force, "force", false, "End jobs that run, and remove those that wait.")
	flags.BoolVar(&o.wait, "wait", true, "Wait until all is gone, and take hodei's labels off namespaces that stay.")
	flags.DurationVar(&o.timeout, "timeout", uninstallTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	return cmd
}

// complete makes the options of what was typed.
func (o *Options) complete(cmd *cobra.Command, printFlags *genericclioptions.PrintFlags) error {
	flags := cmd.Flags()
	if flags.Changed("namespace") {
		return command.Usagef(cmd, "--namespace has no effect here: one namespace of jobs is chosen with --workers-namespace")
	}
	if err := command.CheckDryRun(cmd, o.dryRun); err != nil {
		return err
	}
	if *printFlags.OutputFormat != "" {
		var err error
		if o.printer, err = command.NewPrinter(printFlags.OutputFormat, printFlags.ToPrinter); err != nil {
			return command.Usagef(cmd, "%w", err)
		}
	}
	switch {
	case flags.Changed("workers-namespace") && o.workersNamespace == "":
		return command.Usagef(cmd, "--workers-namespace is empty")
	case o.workersNamespace == deploy.SystemNamespace:
		return command.Usagef(cmd, "--workers-namespace %s: no jobs run there", deploy.SystemNamespace)
	case o.timeout <= 0:
		return command.Usagef(cmd, "--timeout %s: must be more than zero", o.timeout)
	}
	o.given, o.caller = command.Typed(flags, "workers-namespace"), command.Typed(flags, command.CallerFlags...)
	switch {
	case o.dryRun != command.DryRunNone:
		return command.RefuseUnread(cmd, "dry-run="+o.dryRun, "wait", "timeout")
	case !o.wait:
		return command.RefuseUnread(cmd, "wait=false", "timeout")
	}
	return nil
}

// Options is what one uninstall does.
type Options struct {
	*command.Env
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

func (o *Options) Run(ctx context.Context) error {
	if err := o.NameCluster("from", true); err != nil {
		return err
	}
	client, err := o.SetupClient(ctx)
	if err != nil {
		return err
	}
	u := &setup.Uninstaller{Client: client, WorkersNamespace: o.workersNamespace, Hints: setup.Hints{
		Again: o.command("", o.caller), ByAdministrator: "an administrator can: " + o.command("", ""),
	}}
	found, err := u.Find(ctx)
	if err != nil {
		return err
	}
	if len(found.Removals)+len(found.Released) == 0 {
		fmt.Fprintln(o.ErrOut, "nothing of hodei is in this cluster")
		return nil
	}
	if o.dryRun != command.DryRunClient {
		if err := u.CheckRights(ctx, found, o.wait); err != nil {
			return err
		}
	}
	if err := o.confirm(found); err != nil {
		return err
	}
	if err := o.remove(ctx, u, found.Removals); err != nil {
		return err
	}
	// Their labels are what the next uninstall finds released namespaces by: they go
	// when all else has gone, and nobody knows when unless we wait.
	switch {
	case !o.wait && len(found.Released) > 0:
		var names []string
		for _, r := range found.Released {
			names = append(names, r.Object.GetName())
		}
		fmt.Fprintln(o.ErrOut, o.Named("hodei's labels stay on "+job.Words(names)+" until all is gone; "+
			"to take them off then: "+u.Hints.Again))
		return nil
	case o.dryRun == command.DryRunNone && o.wait:
		if err := o.await(ctx, u, found); err != nil {
			return err
		}
	}
	return o.remove(ctx, u, found.Released)
}

// confirm says what there is to know beforehand, and returns an error unless all of it
// may be removed.
func (o *Options) confirm(found *setup.Found) error {
	for _, note := range found.Notes {
		fmt.Fprintln(o.ErrOut, ui.Printable(note))
	}
	asked := o.dryRun == command.DryRunNone && !o.yes
	if asked {
		for _, r := range slices.Concat(found.Removals, found.Released) {
			if err := command.LinePrinter("would be "+r.Done()).PrintObj(r.Object, o.ErrOut); err != nil {
				return err
			}
		}
	}
	if len(found.Running) > 0 && !o.force {
		err := fmt.Errorf("jobs have not ended: %s", strings.Join(found.Running, ", "))
		if o.dryRun == command.DryRunNone {
			return &job.Hinted{Err: err, Hint: "wait for them, or end them: " + o.command(" --force", o.caller)}
		}
		fmt.Fprintln(o.ErrOut, "it would be refused without --force:", ui.Printable(err.Error()))
	}
	if asked {
		return &job.Hinted{Err: errors.New("nothing was removed: that needs --yes"), Hint: o.command("", o.caller)}
	}
	return nil
}

// remove does removals, or with --dry-run=client none, and prints each.
func (o *Options) remove(ctx context.Context, u *setup.Uninstaller, removals []setup.Removal) error {
	if o.dryRun != command.DryRunClient {
		return u.Remove(ctx, removals, o.dryRun == command.DryRunServer, o.print)
	}
	for _, r := range removals {
		if err := o.print(r); err != nil {
			return err
		}
	}
	return nil
}

// print prints what was done. A namespace that stays is no object that was removed.
func (o *Options) print(r setup.Removal) error {
	line := command.LinePrinter(r.Done() + command.DryRunNote[o.dryRun])
	switch {
	case o.printer == nil:
		return line.PrintObj(r.Object, o.Out)
	case r.Stays():
		return line.PrintObj(r.Object, o.ErrOut)
	}
	return o.printer.PrintObj(r.Object, o.Out)
}

// await returns when everything has gone, or with the signal that ended it.
func (o *Options) await(ctx context.Context, u *setup.Uninstaller, found *setup.Found) error {
	ctx, stop := o.Signals.UntilSignal(ctx, signals.StillHeard)
	defer stop()
	err := u.Await(ctx, found, o.timeout)
	if err != nil && ctx.Err() != nil {
		return signals.InterruptedBy(ctx, err)
	}
	return err
}

// command is what removes all this, for hints.
func (o *Options) command(more, caller string) string {
	if o.force {
		more = " --force"
	}
	return "{hodei} uninstall --yes" + more + o.given + caller
}
