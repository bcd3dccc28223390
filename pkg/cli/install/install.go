// Package install is the command hodei install: it puts what jobs need into a cluster, and shows beforehand what
// would change. Start with [New]. What is put there, and the order of the steps, are package setup's; the
// manifests are package deploy's.
package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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

// readyTimeout is how long install waits until what it has applied can be used. A cluster
// at rest takes well under a second; this is for one that is not.
const readyTimeout = time.Minute

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, dryRun: command.DryRunNone,
		nameCluster: env.NameCluster, connect: env.SetupClient, named: env.Named, printData: env.PrintData,
	}
	quota := ""
	printFlags := genericclioptions.NewPrintFlags("serverside-applied")
	cmd := &cobra.Command{
		Use:   "install [--dry-run=client|server] [--diff] [--print-rbac] [-o yaml|json|name]",
		Short: "Put what jobs need into a cluster",
		Long: templates.LongDesc(`
			Put what jobs need into a cluster: the namespaces hodei-system and hodei-jobs-workers,
			the service accounts of the workers and of the coordinator with their roles, the role
			hodei-user for people, and the workers' network policy. The cluster is that of the
			provider in use, else of the current context; hodei names it first.

			In a namespace that exists already, --profile and --quota hold for everybody's Pods.
			If some Pods don't meet the profile, nothing is installed.

			You may run it again at any time. It applies the manifests of
			deploy/kubernetes/install.sh with server-side apply and changes no field that
			somebody else has set. It deletes what an older version or another choice left, but
			no namespace and no Secret.

			It remembers nothing: repeat --profile, --network-policy and --quota each time, or
			they go back to their defaults. --diff shows what would change. It ends with 0 if
			nothing would change, with 1 if something would, and with 2 if that is not known.`),
		Example: templates.Examples(`
			# Install into the cluster of the provider in use, else of the current context
			hodei install

			# Install into another one
			hodei install --context prod

			# Read all that it would do, without touching a cluster
			hodei install --dry-run=client -o yaml

			# Every right that it grants, and why
			hodei install --print-rbac

			# What would change in a cluster that has it
			hodei install --diff

			# Bound what all jobs request together, and let them reach private addresses
			hodei install --quota cpu=20,memory=64Gi,pods=50 --network-policy private

			# Let jobs run in a namespace that is there already, as root if they ask for it
			hodei install --workers-namespace build --profile baseline`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, quota, printFlags); err != nil {
				return err
			}
			err := env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
			if o.diff {
				return asDiff(err)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "none, client (print only) or server (validate on the server, store nothing).")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	flags.BoolVar(&o.diff, "diff", false, "Show what would change, as a unified diff, and change nothing.")
	flags.BoolVar(&o.rights, "print-rbac", false, "Show every right that is granted, and why, and change nothing.")
	flags.StringVar(&o.choices.WorkersNamespace, "workers-namespace", deploy.WorkersNamespace,
		"Namespace of the jobs; created if it does not exist.")
	flags.StringVar(&o.choices.Profile, "profile", deploy.ProfileRestricted, "Pod Security standard of the jobs' namespace: "+
		"restricted, baseline (jobs may run as root) or privileged (anything may run, eBPF too).")
	flags.StringVar(&o.choices.NetworkPolicy, "network-policy", deploy.NetworkInternet, "What jobs may reach: "+
		"internet, private (private addresses too) or none (no policy). The cloud's metadata server is reachable only with none.")
	flags.StringVar(&quota, "quota", "", "What all Pods of the jobs' namespace may request together: "+
		"cpu=CORES,memory=BYTES,pods=NUMBER, or some of these (default: no limit).")
	flags.BoolVar(&o.force, "force-conflicts", false, "Take over fields that somebody else has set.")
	flags.BoolVar(&o.forcePodSecurity, "force-pod-security", false,
		"Enforce the profile in an existing namespace even if Pods in it don't meet it.")
	flags.BoolVar(&o.wait, "wait", true, "Wait until what was applied can be used.")
	flags.DurationVar(&o.timeout, "timeout", readyTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	for name, values := range map[string][]string{
		"profile":        {deploy.ProfileRestricted, deploy.ProfileBaseline, deploy.ProfilePrivileged},
		"network-policy": {deploy.NetworkInternet, deploy.NetworkPrivate, deploy.NetworkNone},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// Options is what one install does, and what that needs.
type Options struct {
	Out, ErrOut      io.Writer
	choices          deploy.Options
	dryRun           string // a value of --dry-run
	diff             bool   // show what would change
	rights           bool   // show what the manifests grant
	force            bool   // take over fields that somebody else has set
	forcePodSecurity bool   // enforce a profile that Pods of others don't meet
	wait             bool
	timeout          time.Duration // of wait
	output           string        // of -o; empty: lines. Otherwise Out is for objects alone
	line             setup.Line    // what was typed, for hints

	// newPrinter makes a printer of objects; as a line it surrounds what was done, %s, with state.
	newPrinter func(state string) (printers.ResourcePrinter, error)
	// nameCluster chooses the cluster and, if acts, says after verb which it is.
	nameCluster func(verb string, acts bool) error
	// connect returns a client of the chosen cluster.
	connect func(context.Context) (*setup.Client, error)
	// named makes a hint ready to be typed.
	named func(hint string) string
	// printData prints what is no Kubernetes object as json or yaml.
	printData func(v any, format string) error
}

// complete checks what was typed, and turns it into options.
func (o *Options) complete(cmd *cobra.Command, quota string, printFlags *genericclioptions.PrintFlags) error {
	flags := cmd.Flags()
	if flags.Changed("namespace") {
		return command.Usagef(cmd, "--namespace has no effect here: jobs get the namespace of --workers-namespace")
	}
	var err error
	if o.choices.Quota, err = deploy.ParseQuota(quota); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	if _, err = deploy.Objects(o.choices); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	if err := command.CheckDryRun(cmd, o.dryRun); err != nil {
		return err
	}
	o.line = setup.Line{
		Given:  command.Typed(flags, "workers-namespace", "profile", "network-policy", "quota"),
		Forced: command.Typed(flags, "force-pod-security", "force-conflicts"),
		Caller: command.Typed(flags, command.CallerFlags...),
		Force:  o.force,
	}
	switch {
	case o.diff:
		o.line.Dry = " --diff"
	case o.dryRun == command.DryRunServer:
		o.line.Dry = " --dry-run=server"
	}
	if err := o.refuseUnread(cmd); err != nil {
		return err
	}
	o.output = *printFlags.OutputFormat
	if o.rights {
		return checkRightsOutput(cmd, o.output)
	}
	o.newPrinter = command.StatePrinters(printFlags)
	if _, err := o.newPrinter("%s"); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	if o.timeout <= 0 {
		return command.Usagef(cmd, "--timeout %s: must be more than zero", o.timeout)
	}
	return nil
}

// refuseUnread refuses flags that the chosen way to install does not read.
func (o *Options) refuseUnread(cmd *cobra.Command) error {
	waits, forces := []string{"wait", "timeout"}, []string{"force-conflicts", "force-pod-security"}
	switch {
	case o.rights:
		return command.RefuseUnread(cmd, "print-rbac", slices.Concat(waits, []string{"diff", "dry-run"}, forces)...)
	case o.diff:
		return command.RefuseUnread(cmd, "diff", append(waits, "dry-run", "output")...)
	case o.dryRun == command.DryRunClient:
		return command.RefuseUnread(cmd, "dry-run=client", slices.Concat(waits, forces)...)
	case o.dryRun == command.DryRunServer:
		return command.RefuseUnread(cmd, "dry-run=server", waits...)
	case !o.wait:
		return command.RefuseUnread(cmd, "wait=false", "timeout")
	}
	return nil
}

// Run installs, or shows what it would install. A diff that is not empty is a [job.ExitError] with code 1, and
// nothing to say.
func (o *Options) Run(ctx context.Context) error {
	if o.rights {
		return o.printRights()
	}
	applied, err := o.newPrinter("%s" + command.DryRunNote[o.dryRun])
	if err != nil {
		return err
	}
	if o.dryRun == command.DryRunClient {
		return o.showObjects(applied)
	}
	if err := o.nameCluster("into", !o.dry()); err != nil {
		return err
	}
	client, err := o.connect(ctx)
	if err != nil {
		return err
	}
	installer := &setup.Installer{Client: client, Choices: o.choices, Force: o.force, Hints: o.line.Hints()}
	if err := installer.CheckRights(ctx); err != nil {
		return err
	}
	plan, err := installer.Plan(ctx)
	if err != nil {
		return err
	}
	if err := o.checkPodSecurity(plan.PodSecurity()); err != nil {
		return err
	}
	switch {
	case o.diff:
		return o.showDiff(plan)
	case o.dryRun == command.DryRunServer:
		return o.showPlan(plan, applied)
	}
	return o.apply(ctx, installer, plan, applied)
}

// dry reports whether install asks a cluster and changes nothing.
func (o *Options) dry() bool { return o.diff || o.dryRun == command.DryRunServer }

// apply installs, and prints each object when it is done.
func (o *Options) apply(ctx context.Context, installer *setup.Installer, plan *setup.Plan, applied printers.ResourcePrinter) error {
	err := installer.Apply(ctx, plan, func(object *unstructured.Unstructured) error { return applied.PrintObj(object, o.Out) })
	if err != nil {
		return err
	}
	err = installer.Prune(ctx, plan, func(object *unstructured.Unstructured) error { return o.printPruned(object, "pruned") })
	if err != nil {
		return err
	}
	if o.wait {
		if err := installer.Await(ctx, o.timeout); err != nil {
			return err
		}
	}
	namespace := o.choices.WorkersNamespace
	if o.choices.Profile == deploy.ProfilePrivileged {
		fmt.Fprintf(o.ErrOut, "whoever may create Jobs or Pods in %s may now take over its nodes: "+
			"Pod Security keeps nothing out of it; docs/security.md has a policy that does\n", namespace)
	}
	if namespace != deploy.WorkersNamespace {
		fmt.Fprintln(o.ErrOut, o.named(fmt.Sprintf("jobs get there with: {hodei} run -n %[1]s; or always, with a provider: "+
			"{hodei} provider set NAME --namespace %[1]s", namespace)))
	}
	return nil
}

// checkPodSecurity tells how namespaces that were there before hodei change for everybody's Pods. It returns an
// error if some of the Pods would be refused then, unless that is forced or nothing is changed.
func (o *Options) checkPodSecurity(changes []setup.PodSecurityChange) error {
	for _, change := range changes {
		switch err := change.Err(); {
		case err == nil:
			fmt.Fprintln(o.ErrOut, change.Note())
		case o.forcePodSecurity:
			fmt.Fprintln(o.ErrOut, "forced:", ui.Printable(err.Error()))
		case o.dry():
			fmt.Fprintln(o.ErrOut, "it would be refused without --force-pod-security:", ui.Printable(err.Error()))
		default:
			return &job.Hinted{Err: err, Hint: o.line.PodSecurityHint(change)}
		}
	}
	return nil
}

// showObjects prints the objects without asking a cluster.
func (o *Options) showObjects(printer printers.ResourcePrinter) error {
	objects, err := deploy.Objects(o.choices)
	if err != nil {
		return err
	}
	for _, object := range objects {
		if err := printer.PrintObj(object, o.Out); err != nil {
			return err
		}
	}
	return nil
}

// showPlan prints what a server dry run has found.
func (o *Options) showPlan(plan *setup.Plan, applied printers.ResourcePrinter) error {
	unchecked, err := o.newPrinter("%s (dry run: not checked, its namespace does not exist yet)")
	if err != nil {
		return err
	}
	for _, step := range plan.Steps {
		object, shown := step.Result, applied
		if object == nil {
			object, shown = step.Object, unchecked
		}
		if err := shown.PrintObj(object, o.Out); err != nil {
			return err
		}
	}
	for _, object := range plan.Prune {
		if err := o.printPruned(object, "pruned (server dry run)"); err != nil {
			return err
		}
	}
	return nil
}

// printPruned says what was deleted, on stderr if stdout is for objects that were applied.
func (o *Options) printPruned(object runtime.Object, state string) error {
	out := o.Out
	if o.output != "" {
		out = o.ErrOut
	}
	return command.LinePrinter(state).PrintObj(object, out)
}

// errDiffers ends a diff that is not empty.
var errDiffers = &job.ExitError{Code: 1}

// showDiff prints what would change, and returns errDiffers if anything would.
func (o *Options) showDiff(plan *setup.Plan) error {
	diff, err := plan.Diff()
	if err != nil || len(diff) == 0 {
		return err
	}
	if _, err := o.Out.Write(diff); err != nil {
		return err
	}
	return errDiffers
}

// asDiff returns err with the exit code 2 that diff and kubectl diff have for a diff that they could not make. The
// end of a diff that is not empty, and that of a signal, have codes of their own.
func asDiff(err error) error {
	if _, ended := errors.AsType[*job.ExitError](err); err == nil || ended {
		return err
	}
	return &job.ExitError{Code: command.ExitUsage, Err: err}
}
