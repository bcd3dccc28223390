package provider

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// newAdd makes the command; run is (*addOptions).run, or a test's.
func newAdd(env *command.Env, run func(*addOptions, context.Context) error) *cobra.Command {
	o := &addOptions{editor: newEditor(env), capture: env.CaptureContext, ebpf: newEBPFTeller(env)}
	cmd := &cobra.Command{
		Use:   "add NAME [-f FILE] [options]",
		Short: "Add a provider",
		Long: templates.LongDesc(`
			Add a provider. It keeps the kubeconfig's context that is current now, or the one of
			--context, so that a later kubectl config use-context does not move jobs elsewhere.
			The cluster is not asked, except for the namespace's Pod Security label if the
			provider asks for eBPF.

			A file has the keys that 'hodei provider get' shows. The JSON body of POST
			/api/providers, {"type": ..., "name": ..., "config": {...}}, is accepted too; NAME may
			then be left out. Flags override the file. Nested settings, such as tolerations,
			affinity, security_context and volumes, can only be given in a file, as Kubernetes
			writes them.`),
		Example: templates.Examples(`
			# Add the cluster of the current context
			hodei provider add k8s-local --namespace hodei-jobs-workers

			# Pull the worker's image each time, for a tag that moves
			hodei provider add dev --image registry.example.com/hodei-jobs-worker:main --image-pull-policy Always

			# Add another cluster, with an image of a private registry
			hodei provider add prod --context prod --image registry.example.com/hodei-jobs-worker:v1 --image-pull-secret registry

			# Add one from a file, and one that differs from it
			hodei provider add batch -f batch.yaml
			hodei provider add batch-small -f batch.yaml --memory 256Mi`),
		Args: command.Names(0, 1),
	}
	flags := cmd.Flags()
	path := flags.StringP("filename", "f", "", "File with the settings, as YAML or JSON; - is stdin.")
	kind := flags.String("type", provider.Kubernetes, "Type of the provider: kubernetes or local.")
	settings := addSettingFlags(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		changes, err := settings.changes(cmd, *kind, *path, nil)
		if err != nil {
			return err
		}
		if err := o.complete(cmd, *kind, changes, args); err != nil {
			return err
		}
		return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
	}
	return cmd
}

// addOptions is which provider to add, and what that needs.
type addOptions struct {
	editor
	name   string
	config provider.Config
	// capture stores in a configuration the context that it and the kubeconfig mean now.
	capture func(*provider.Config) error
	ebpf    ebpfTeller
}

// complete turns arguments and flags into options.
func (o *addOptions) complete(cmd *cobra.Command, kind string, changes settingChanges, args []string) error {
	o.config = provider.Config{Type: kind}
	name, err := changes.over(&o.config)
	switch {
	case err != nil:
		return err
	case cmd.Flags().Changed("type") && o.config.Type != kind:
		return command.Usagef(cmd, "--type %s: %s says %q", kind, changes.file.called, o.config.Type)
	case len(args) > 0 && name != "" && args[0] != name:
		return command.Usagef(cmd, "NAME %s: %s says %q", args[0], changes.file.called, name)
	case len(args) > 0 && args[0] == "":
		return command.Usagef(cmd, "an empty NAME is no provider")
	case len(args) > 0:
		name = args[0]
	case name == "":
		return command.Usagef(cmd, "no NAME: give one, or a file that has one")
	}
	o.name = name
	return nil
}

// run adds the provider.
func (o *addOptions) run(ctx context.Context) error {
	inUse, err := o.add(ctx)
	switch {
	case errors.Is(err, provider.ErrTaken) && o.name == provider.Local:
		return &job.Hinted{Err: err, Hint: "{hodei} run --provider local -- COMMAND"}
	case errors.Is(err, provider.ErrTaken):
		return &job.Hinted{
			Err:  err,
			Hint: "change it with {hodei} provider set " + o.name + ", or forget it: {hodei} provider remove " + o.name,
		}
	case err != nil:
		return place.ProviderHint(err)
	}
	fmt.Fprintln(o.ErrOut, o.added(inUse))
	return o.ebpf.say(ctx, o.name, o.config)
}

// add puts the provider into the file of providers, with the context that it means now. inUse is true if jobs run
// on it from now on.
func (o *addOptions) add(ctx context.Context) (inUse bool, err error) {
	path, err := o.home.ProvidersPath()
	if err != nil {
		return false, err
	}
	err = provider.Update(ctx, path, func(r *provider.Registry) error {
		if _, err := r.Get(o.name); err != nil && o.config.Type == provider.Kubernetes {
			if err := o.capture(&o.config); err != nil {
				return err
			}
		}
		if err := r.Add(o.name, o.config); err != nil {
			return err
		}
		inUse = r.Current == o.name
		return nil
	})
	return inUse, err
}

// added returns a line that says what was added.
func (o *addOptions) added(inUse bool) string {
	c := o.config
	line := fmt.Sprintf("provider %q added", o.name)
	switch pod := o.home.PodNamespace(); {
	case c.Context != "":
		line += fmt.Sprintf(" for context %q, namespace %s", ui.Printable(c.Context), c.WithDefaults().Namespace)
	case c.Type == provider.Kubernetes && pod != "":
		line += fmt.Sprintf(" for this Pod's own service account, namespace %s", cmp.Or(c.Namespace, pod))
	}
	if inUse {
		line += " and in use"
	}
	return line
}
