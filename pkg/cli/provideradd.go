package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

func (a *app) newProviderAdd() *cobra.Command {
	var path, kind string
	cmd := &cobra.Command{
		Use:                   "add NAME [-f FILE] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Add a provider",
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
		Args: cobra.MaximumNArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "filename", "f", "", "File with the settings, as YAML or JSON; - is stdin.")
	flags.StringVar(&kind, "type", provider.Kubernetes, "Type of the provider: kubernetes or local.")
	settings := a.addProviderFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := provider.Config{Type: kind}
		if err := settings.check(cmd, kind, nil); err != nil {
			return err
		}
		file, err := a.readProvider(path)
		if err != nil {
			return err
		}
		name, err := settings.mergeAll(&c, file, nil)
		switch {
		case err != nil:
			return err
		case flags.Changed("type") && c.Type != kind:
			return usagef(cmd, "--type %s: %s says %q", kind, file.called, c.Type)
		case len(args) > 0 && name != "" && args[0] != name:
			return usagef(cmd, "NAME %s: %s says %q", args[0], file.called, name)
		case len(args) > 0:
			name = args[0]
		case name == "":
			return usagef(cmd, "no NAME: give one, or a file that has one")
		}
		return a.addProvider(cmd.Context(), name, c)
	}
	return cmd
}

func (a *app) addProvider(ctx context.Context, name string, c provider.Config) error {
	path, err := a.home().ProvidersPath()
	if err != nil {
		return err
	}
	inUse := false
	err = provider.Update(ctx, path, func(r *provider.Registry) error {
		if _, err := r.Get(name); err != nil && c.Type == provider.Kubernetes {
			if err := a.captureContext(&c); err != nil {
				return err
			}
		}
		if err := r.Add(name, c); err != nil {
			return err
		}
		inUse = r.Current == name
		return nil
	})
	switch {
	case errors.Is(err, provider.ErrTaken) && name == provider.Local:
		return &job.Hinted{Err: err, Hint: "{hodei} run --provider local -- COMMAND"}
	case errors.Is(err, provider.ErrTaken):
		return &job.Hinted{Err: err, Hint: "change it with {hodei} provider set " + name + ", or forget it: {hodei} provider remove " + name}
	case err != nil:
		return place.ProviderHint(err)
	}
	fmt.Fprintf(a.ErrOut, "provider %q added", name)
	switch pod := a.home().PodNamespace(); {
	case c.Context != "":
		fmt.Fprintf(a.ErrOut, " for context %q, namespace %s", ui.Printable(c.Context), c.WithDefaults().Namespace)
	case c.Type == provider.Kubernetes && pod != "":
		fmt.Fprintf(a.ErrOut, " for this Pod's own service account, namespace %s", cmp.Or(c.Namespace, pod))
	}
	if inUse {
		fmt.Fprint(a.ErrOut, " and in use")
	}
	fmt.Fprintln(a.ErrOut)
	a.sayEBPF(ctx, name, c)
	return nil
}
