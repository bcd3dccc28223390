package install

import (
	"context"
	"errors"
	"fmt"
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
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// installTimeout is how long install waits for what it has applied. A cluster at
// rest takes well under a second; this is for one that is not.
const installTimeout = time.Minute

func New(a *command.Env) *cobra.Command {
	o := Options{Env: a, dryRun: command.DryRunNone}
	quota, printRBAC := "", false
	printFlags := genericclioptions.NewPrintFlags("serverside-applied")
	cmd := &cobra.Command{
		Use:                   "install [--dry-run=client|server] [--diff] [--print-rbac] [-o yaml|json|name]",
		DisableFlagsInUseLine: true,
		Short:                 "Put what jobs need into a cluster",
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
			if err := o.complete(cmd, quota, printRBAC, printFlags); err != nil {
				return err
			}
			switch {
			case printRBAC:
				return printRights(a, o.choices, *printFlags.OutputFormat)
			case o.diff:
				return asDiff(o.Run(cmd.Context()))
			}
			return o.Run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "none, client (print only) or server (validate on the server, store nothing).")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	flags.BoolVar(&o.diff, "diff", false, "Show what would change, as a unified diff, and change nothing.")
	flags.BoolVar(&printRBAC, "print-rbac", false, "Show every right that is granted, and why, and change nothing.")
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
	flags.DurationVar(&o.timeout, "timeout", installTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	for name, values := range map[string][]string{
		"profile":        {deploy.ProfileRestricted, deploy.ProfileBaseline, deploy.ProfilePrivileged},
		"network-policy": {deploy.NetworkInternet, deploy.NetworkPrivate, deploy.NetworkNone},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// complete makes the options of what was typed.
func (o *Options) complete(cmd *cobra.Command, quota string, printRBAC bool, printFlags *genericclioptions.PrintFlags) error {
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
	waits := []string{"wait", "timeout"}
	switch {
	case printRBAC:
		err = command.RefuseUnread(cmd, "print-rbac", append(waits, "diff", "dry-run", "force-conflicts", "force-pod-security")...)
	case o.diff:
		o.line.Dry = " --diff"
		err = command.RefuseUnread(cmd, "diff", append(waits, "dry-run", "output")...)
	case o.dryRun == command.DryRunClient:
		err = command.RefuseUnread(cmd, "dry-run=client", append(waits, "force-conflicts", "force-pod-security")...)
	case o.dryRun == command.DryRunServer:
		o.line.Dry = " --dry-run=server"
		err = command.RefuseUnread(cmd, "dry-run=server", waits...)
	case !o.wait:
		err = command.RefuseUnread(cmd, "wait=false", "timeout")
	}
	if err != nil {
		return err
	}
	if printRBAC {
		return checkRightsOutput(cmd, *printFlags.OutputFormat)
	}
	o.objects = *printFlags.OutputFormat != ""
	o.newPrinter = command.StatePrinters(printFlags)
	if _, err := o.newPrinter("%s"); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	if o.timeout <= 0 {
		return command.Usagef(cmd, "--timeout %s: must be more than zero", o.timeout)
	}
	return nil
}

// Options is what one install does.
type Options struct {
	*command.Env
	choices          deploy.Options
	dryRun           string
	diff             bool
	force            bool // conflicts
	forcePodSecurity bool
	wait             bool
	timeout          time.Duration
	objects          bool // stdout is for objects alone: -o
	newPrinter       func(state string) (printers.ResourcePrinter, error)
	line             setup.Line
}

func (o *Options) Run(ctx context.Context) error {
	applied, err := o.newPrinter("%s" + command.DryRunNote[o.dryRun])
	if err != nil {
		return err
	}
	if o.dryRun == command.DryRunClient {
		return o.showObjects(applied)
	}
	if err := o.NameCluster("into", !o.dry()); err != nil {
		return err
	}
	client, err := o.SetupClient(ctx)
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

// dry reports whether it asks a cluster and changes nothing.
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
		fmt.Fprintln(o.ErrOut, o.Named(fmt.Sprintf("jobs get there with: {hodei} run -n %[1]s; or always, with a provider: "+
			"{hodei} provider set NAME --namespace %[1]s", namespace)))
	}
	return nil
}

// checkPodSecurity says what changes for everybody's Pods in namespaces of somebody else,
// and stops before some of them would be refused.
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

// printPruned says what was deleted; among objects for a program it is chatter.
func (o *Options) printPruned(object runtime.Object, state string) error {
	out := o.Out
	if o.objects {
		out = o.ErrOut
	}
	return command.LinePrinter(state).PrintObj(object, out)
}

// errDiffers is the end of a diff that is not empty.
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

// asDiff gives the error of a diff that could not be made a code of its own, as
// diff and kubectl diff do.
func asDiff(err error) error {
	if err == nil || errors.Is(err, errDiffers) {
		return err
	}
	return &job.ExitError{Code: command.ExitUsage, Err: err}
}
