package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// fieldManager is the name under which the API server keeps which fields are
// ours. install.sh uses the same, so that either can follow the other.
const fieldManager = "hodei"

// installTimeout is how long install waits for what it has applied. A cluster at
// rest takes well under a second; this is for one that is not.
const installTimeout = time.Minute

func (a *app) newInstall() *cobra.Command {
	o := installOptions{app: a, dryRun: dryRunNone}
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
				return a.printRights(o.choices, *printFlags.OutputFormat)
			case o.diff:
				return asDiff(o.run(cmd.Context()))
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.dryRun, "dry-run", o.dryRun, "none, client (print only) or server (validate on the server, store nothing).")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.BoolVar(&o.diff, "diff", false, "Show what would change, as a unified diff, and change nothing.")
	flags.BoolVar(&printRBAC, "print-rbac", false, "Show every right that is granted, and why, and change nothing.")
	flags.StringVar(&o.choices.WorkersNamespace, "workers-namespace", deploy.WorkersNamespace, "Namespace of the jobs; created if it does not exist.")
	flags.StringVar(&o.choices.Profile, "profile", deploy.ProfileRestricted, "Pod Security standard of the jobs' namespace: restricted, baseline (jobs may run as root) or privileged (anything may run, eBPF too).")
	flags.StringVar(&o.choices.NetworkPolicy, "network-policy", deploy.NetworkInternet, "What jobs may reach: internet, private (private addresses too) or none (no policy). The cloud's metadata server is reachable only with none.")
	flags.StringVar(&quota, "quota", "", "What all Pods of the jobs' namespace may request together: cpu=CORES,memory=BYTES,pods=NUMBER, or some of these (default: no limit).")
	flags.BoolVar(&o.force, "force-conflicts", false, "Take over fields that somebody else has set.")
	flags.BoolVar(&o.forcePodSecurity, "force-pod-security", false, "Enforce the profile in an existing namespace even if Pods in it don't meet it.")
	flags.BoolVar(&o.wait, "wait", true, "Wait until what was applied can be used.")
	flags.DurationVar(&o.timeout, "timeout", installTimeout, "With --wait: give up after this time.")
	printFlags.AddFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("profile", cobra.FixedCompletions([]string{deploy.ProfileRestricted, deploy.ProfileBaseline, deploy.ProfilePrivileged}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("network-policy", cobra.FixedCompletions([]string{deploy.NetworkInternet, deploy.NetworkPrivate, deploy.NetworkNone}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// complete makes the options of what was typed.
func (o *installOptions) complete(cmd *cobra.Command, quota string, printRBAC bool, printFlags *genericclioptions.PrintFlags) error {
	flags := cmd.Flags()
	if flags.Changed("namespace") {
		return usagef(cmd, "--namespace has no effect here: jobs get the namespace of --workers-namespace")
	}
	var err error
	if o.choices.Quota, err = deploy.ParseQuota(quota); err != nil {
		return usagef(cmd, "%w", err)
	}
	if _, err = deploy.Objects(o.choices); err != nil {
		return usagef(cmd, "%w", err)
	}
	if err := checkDryRun(cmd, o.dryRun); err != nil {
		return err
	}
	o.given = typed(flags, "workers-namespace", "profile", "network-policy", "quota")
	o.forced = typed(flags, "force-pod-security", "force-conflicts")
	o.caller = typed(flags, callerFlags...)
	waits := []string{"wait", "timeout"}
	switch {
	case printRBAC:
		err = refuseUnread(cmd, "print-rbac", append(waits, "diff", "dry-run", "force-conflicts", "force-pod-security")...)
	case o.diff:
		err = refuseUnread(cmd, "diff", append(waits, "dry-run", "output")...)
	case o.dryRun == dryRunClient:
		err = refuseUnread(cmd, "dry-run=client", append(waits, "force-conflicts", "force-pod-security")...)
	case o.dryRun == dryRunServer:
		err = refuseUnread(cmd, "dry-run=server", waits...)
	case !o.wait:
		err = refuseUnread(cmd, "wait=false", "timeout")
	}
	if err != nil {
		return err
	}
	if printRBAC {
		return checkRightsOutput(cmd, *printFlags.OutputFormat)
	}
	o.objects = *printFlags.OutputFormat != ""
	o.newPrinter = statePrinters(printFlags)
	if _, err := o.newPrinter("%s"); err != nil {
		return usagef(cmd, "%w", err)
	}
	if o.timeout <= 0 {
		return usagef(cmd, "--timeout %s: must be more than zero", o.timeout)
	}
	return nil
}

type installOptions struct {
	*app
	choices deploy.Options
	// As they were typed, for hints; each begins with a space: the choices, what is
	// forced, and who asks the cluster.
	given, forced, caller string

	dryRun           string
	diff             bool
	force            bool // conflicts
	forcePodSecurity bool
	wait             bool
	timeout          time.Duration
	objects          bool // stdout is for objects alone: -o
	newPrinter       func(state string) (printers.ResourcePrinter, error)
}

func (o *installOptions) run(ctx context.Context) error {
	objects, err := deploy.Objects(o.choices)
	if err != nil {
		return err
	}
	applied, err := o.newPrinter("%s" + dryRunNote[o.dryRun])
	if err != nil {
		return err
	}
	if o.dryRun == dryRunClient {
		for _, object := range objects {
			if err := applied.PrintObj(object, o.Out); err != nil {
				return err
			}
		}
		return nil
	}
	if err := o.nameCluster("into", !o.dry()); err != nil {
		return err
	}
	c, err := newManifestClient(ctx, o.kube)
	if err != nil {
		return err
	}
	granted, err := deploy.Rights(o.choices)
	if err != nil {
		return err
	}
	missing, err := c.missingToInstall(ctx, objects, granted)
	if err != nil {
		return err
	}
	if err := c.refuse(ctx, missing, o.byAdministrator()); err != nil {
		return err
	}
	plan, err := o.plan(ctx, c, objects)
	if err != nil {
		return err
	}
	if err := o.checkPodSecurity(plan); err != nil {
		return err
	}
	switch {
	case o.diff:
		return plan.diff(o.Out)
	case o.dryRun == dryRunServer:
		return o.show(plan, applied)
	}
	for _, step := range plan.steps {
		done, err := c.install(ctx, step, o.force)
		if err != nil {
			return o.explain(ctx, c, []problem{{step.object, err}})
		}
		if err := applied.PrintObj(done, o.Out); err != nil {
			return err
		}
	}
	for _, object := range plan.prune {
		if err := c.delete(ctx, object); err != nil && !apierrors.IsNotFound(err) {
			return kubernetes.Explain(fmt.Errorf("delete %s: %w", describe(object), err))
		}
		if err := o.printPruned(object, "pruned"); err != nil {
			return err
		}
	}
	if o.wait {
		if err := o.await(ctx, c, objects); err != nil {
			return err
		}
	}
	if o.choices.Profile == deploy.ProfilePrivileged {
		fmt.Fprintf(o.ErrOut, "whoever may create Jobs or Pods in %s may now take over its nodes: Pod Security keeps nothing out of it; docs/security.md has a policy that does\n", o.choices.WorkersNamespace)
	}
	if namespace := o.choices.WorkersNamespace; namespace != deploy.WorkersNamespace {
		fmt.Fprintln(o.ErrOut, o.named(fmt.Sprintf("jobs get there with: {hodei} run -n %[1]s; or always, with a provider: {hodei} provider set NAME --namespace %[1]s", namespace)))
	}
	return nil
}

// install applies one object.
func (c *manifestClient) install(ctx context.Context, step installStep, force bool) (*unstructured.Unstructured, error) {
	var err error
	switch {
	case step.claim && step.live == nil:
		err = c.createNamespace(ctx, step.object.GetName())
	case step.claim:
		err = c.claimNamespace(ctx, step.live)
	}
	if err != nil {
		return nil, err
	}
	return c.apply(ctx, step.object, applyOptions{force: force})
}

// show prints what a server dry run has found.
func (o *installOptions) show(plan *installPlan, applied printers.ResourcePrinter) error {
	unchecked, err := o.newPrinter("%s (dry run: not checked, its namespace does not exist yet)")
	if err != nil {
		return err
	}
	for _, step := range plan.steps {
		object, shown := step.result, applied
		if object == nil {
			object, shown = step.object, unchecked
		}
		if err := shown.PrintObj(object, o.Out); err != nil {
			return err
		}
	}
	for _, object := range plan.prune {
		if err := o.printPruned(object, "pruned (server dry run)"); err != nil {
			return err
		}
	}
	return nil
}

// printPruned says what was deleted; among objects for a program it is chatter.
func (o *installOptions) printPruned(object runtime.Object, state string) error {
	out := o.Out
	if o.objects {
		out = o.ErrOut
	}
	return (&printers.NamePrinter{Operation: state}).PrintObj(object, out)
}
