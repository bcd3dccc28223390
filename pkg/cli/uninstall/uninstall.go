// Package uninstall is the command hodei uninstall: it says what of hodei is in a cluster, and removes it. Start with
// [New]. What is found and in which order it goes are package setup's; this package decides when to ask, when to
// refuse and what to print.
package uninstall

import (
	"context"
	"errors"
	"fmt"
	"io"
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

// goneTimeout is how long uninstall waits until all is gone. While jobs run, a Pod takes as
// long as its grace, 45 s unless the job sets another, and the namespace's controller some
// seconds on top.
const goneTimeout = 2 * time.Minute

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, dryRun: command.DryRunNone,
		nameCluster: env.NameCluster, connect: env.SetupClient, named: env.Named,
	}
	printFlags := genericclioptions.NewPrintFlags("deleted")
	cmd := &cobra.Command{
		Use:   "uninstall --yes [--workers-namespace NAME] [--force] | --dry-run=client|server [-o yaml|json|name]",
		Short: "Take out of a cluster what install put there",
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
			return env.UntilSignal(cmd.Context(), signals.StillHeard, func(ctx context.Context) error { return run(o, ctx) })
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
	flags.DurationVar(&o.timeout, "timeout", goneTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	return cmd
}

// Options is what one uninstall does, and what that needs.
type Options struct {
	Out, ErrOut      io.Writer
	yes              bool
	dryRun           string // a value of --dry-run
	workersNamespace string // empty: all
	force            bool   // jobs that run are no reason to refuse
	wait             bool
	timeout          time.Duration            // of wait
	printer          printers.ResourcePrinter // of -o; nil: a line says what was done
	// choice and caller are flags as they were typed, for hints: --workers-namespace, and who asks
	// the cluster. Each begins with a space.
	choice, caller string

	// nameCluster chooses the cluster and, if acts, says after verb which it is.
	nameCluster func(verb string, acts bool) error
	// connect returns a client of the chosen cluster.
	connect func(context.Context) (*setup.Client, error)
	// named makes a hint ready to be typed.
	named func(hint string) string
}

// complete checks what was typed, and turns it into options.
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
	o.choice, o.caller = command.Typed(flags, "workers-namespace"), command.Typed(flags, command.CallerFlags...)
	switch {
	case o.dryRun != command.DryRunNone:
		return command.RefuseUnread(cmd, "dry-run="+o.dryRun, "wait", "timeout")
	case !o.wait:
		return command.RefuseUnread(cmd, "wait=false", "timeout")
	}
	return nil
}

// Run removes what it finds of hodei, or only lists it: with a dry run, without yes, and while jobs run or wait
// unless they are to be ended. If ctx ends while it waits, it says what is still there.
func (o *Options) Run(ctx context.Context) error {
	if err := o.nameCluster("from", true); err != nil {
		return err
	}
	client, err := o.connect(ctx)
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
	// The next uninstall finds released namespaces by their labels. So these go when all else
	// has gone, and only waiting tells when that is.
	switch {
	case !o.wait && len(found.Released) > 0:
		var names []string
		for _, r := range found.Released {
			names = append(names, r.Object.GetName())
		}
		fmt.Fprintln(o.ErrOut, o.named("hodei's labels stay on "+job.Words(names)+" until all is gone; "+
			"to take them off then: "+u.Hints.Again))
		return nil
	case o.dryRun == command.DryRunNone && o.wait:
		if err := o.await(ctx, u, found); err != nil {
			return err
		}
	}
	return o.remove(ctx, u, found.Released)
}

// confirm says what there is to know beforehand, and returns an error unless all that was found may be removed.
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

// await returns when everything has gone. If ctx ended before, the error says what is still there, and is shown
// although a signal ended ctx.
func (o *Options) await(ctx context.Context, u *setup.Uninstaller, found *setup.Found) error {
	err := u.Await(ctx, found, o.timeout)
	if err != nil && ctx.Err() != nil {
		return signals.InterruptedBy(ctx, err)
	}
	return err
}

// command is the command line that removes what was found, for hints.
func (o *Options) command(more, caller string) string {
	if o.force {
		more = " --force"
	}
	return "{hodei} uninstall --yes" + more + o.choice + caller
}
