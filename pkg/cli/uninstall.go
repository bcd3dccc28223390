package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// uninstallTimeout is how long uninstall waits until all is gone: with jobs that
// run, a Pod takes as long as its grace, 45 s unless a job has said more, and the
// namespace's controller some seconds on top.
const uninstallTimeout = 2 * time.Minute

func (a *app) newUninstall() *cobra.Command {
	o := uninstallOptions{app: a, dryRun: dryRunNone}
	print := genericclioptions.NewPrintFlags("deleted")
	cmd := &cobra.Command{
		Use:                   "uninstall --yes [--workers-namespace NAME] [--force] | --dry-run=client|server [-o yaml|json|name]",
		DisableFlagsInUseLine: true,
		Short:                 "Take out of a cluster what install put there",
		Long: templates.LongDesc(`
			Take hodei out of the cluster of the current context: its namespaces with all
			that is in them, service accounts, roles, policies, quotas, certificates and jobs.

			Without --yes nothing is removed, and all that would be is listed. It refuses
			while jobs have not ended, unless --force is given.

			A namespace that was there before hodei stays, and so does what others keep in
			it: only what is hodei's is taken out, labels among it. Bindings elsewhere that
			refer to hodei-user are named and left to whoever made them.`),
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
			if *print.OutputFormat != "" {
				var err error
				if o.printer, err = print.ToPrinter(); err != nil {
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
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&o.yes, "yes", false, "Remove it.")
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "What not to do: none does all, client only shows what would be removed, server has that checked too.")
	flags.StringVar(&o.workersNamespace, "workers-namespace", "", "Remove this namespace of jobs alone, and what all share with the last of them (default: all).")
	flags.BoolVar(&o.force, "force", false, "End jobs that run, and remove those that wait.")
	flags.BoolVar(&o.wait, "wait", true, "Wait until all is gone.")
	flags.DurationVar(&o.timeout, "timeout", uninstallTimeout, "How long to wait for that.")
	print.AddFlags(cmd)
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
}

// uninstallRights are what finding and removing takes in any case. What else is in
// the namespaces is not known before.
func uninstallRights() []right {
	var rights []right
	for _, r := range []struct {
		kind  string
		verbs []string
	}{
		{"ClusterRole", []string{"delete", "get", "list"}},
		{"Namespace", []string{"delete", "get", "list", "patch"}},
		{"RoleBinding", []string{"list"}},
	} {
		for _, verb := range r.verbs {
			rights = append(rights, right{verb, "", manifestResources[r.kind].GroupResource()})
		}
	}
	return append(rights, right{"list", "", schema.GroupResource{Group: "batch", Resource: "jobs"}})
}

func (o *uninstallOptions) run(ctx context.Context) error {
	c, err := newManifestClient(ctx, o.kube)
	if err != nil {
		return err
	}
	if err := c.checkRights(ctx, uninstallRights(), "an administrator can: "+o.command()); err != nil {
		return err
	}
	found, err := o.find(ctx, c)
	if err != nil {
		return err
	}
	if len(found.removals) == 0 {
		fmt.Fprintln(o.ErrOut, "nothing of hodei is in this cluster")
		return nil
	}
	for _, note := range found.notes {
		fmt.Fprintln(o.ErrOut, note)
	}
	if len(found.running) > 0 && !o.force {
		err := fmt.Errorf("jobs have not ended: %s", strings.Join(found.running, ", "))
		if o.dryRun == dryRunNone {
			return &hinted{err: err, hint: "wait for them, or end them: " + o.command() + " --force"}
		}
		fmt.Fprintln(o.ErrOut, "it would be refused without --force:", err)
	}
	if o.dryRun == dryRunNone && !o.yes {
		for _, r := range found.removals {
			if err := (&printers.NamePrinter{Operation: "would be " + r.done()}).PrintObj(r.object, o.ErrOut); err != nil {
				return err
			}
		}
		return &hinted{err: errors.New("nothing was removed: that needs --yes"), hint: o.command()}
	}
	for _, r := range found.removals {
		if o.dryRun != dryRunClient {
			if err := c.remove(ctx, r, o.dryRun == dryRunServer); err != nil {
				return kubernetes.Explain(fmt.Errorf("remove %s: %w", describe(r.object), err))
			}
		}
		if err := o.say(r); err != nil {
			return err
		}
	}
	if o.dryRun != dryRunNone || !o.wait {
		return nil
	}
	return o.await(ctx, c, found)
}

// command is what removes all this, for hints.
func (o *uninstallOptions) command() string {
	if o.workersNamespace == "" {
		return "{hodei} uninstall --yes"
	}
	return "{hodei} uninstall --yes --workers-namespace=" + shellQuote(o.workersNamespace)
}

// say prints what was done. A namespace that stays is no object that was removed.
func (o *uninstallOptions) say(r removal) error {
	line := &printers.NamePrinter{Operation: r.done() + dryRunNote[o.dryRun]}
	switch {
	case o.printer == nil:
		return line.PrintObj(r.object, o.Out)
	case r.how == release:
		return line.PrintObj(r.object, o.ErrOut)
	}
	return o.printer.PrintObj(r.object, o.Out)
}
