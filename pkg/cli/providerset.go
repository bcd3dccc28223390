package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/provider"
)

func (a *app) newProviderSet() *cobra.Command {
	var path string
	var unset []string
	cmd := &cobra.Command{
		Use:                   "set NAME [-f FILE] [--unset KEY]... [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Change settings of a provider",
		Long: templates.LongDesc(`
			Change settings of a provider and leave its others as they are. A list or a map
			replaces the old one. The next job uses them; jobs that run go on as they are. The
			cluster is not asked, except for the namespace's Pod Security label if the namespace
			or eBPF is changed.

			A file has any of the keys that 'hodei provider get' shows. Flags override the file.`),
		Example: templates.Examples(`
			# Add a pull secret
			hodei provider set prod --image-pull-secret registry

			# Give jobs half a CPU and 1Gi of memory, unless they ask for something else
			hodei provider set prod --cpu 500m --memory 1Gi

			# On OpenShift, which chooses the uids
			hodei provider set prod --user image

			# Measure with eBPF where the namespace lets the agent do so
			hodei provider set prod --ebpf auto

			# Back to the defaults
			hodei provider set prod --unset cpu --unset memory

			# Let jobs run on nodes that are tainted for them
			echo 'tolerations: [{key: example.com/batch, operator: Exists}]' | hodei provider set prod -f -`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProvider,
	}
	flags := cmd.Flags()
	flags.StringVarP(&path, "filename", "f", "", "File with settings, as YAML or JSON; - is stdin.")
	flags.StringSliceVar(&unset, "unset", nil, "Key to take out, as 'hodei provider get' shows it; may be repeated.")
	settings := a.addProviderFlags(flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		changed := flags.Changed("unset") || path != "" || settings.changed()
		kube := *a.kube.Namespace != "" || *a.kube.Context != "" || *a.kube.KubeConfig != ""
		if !changed && !kube {
			return usagef(cmd, "nothing to change: give a flag, --unset KEY or -f FILE")
		}
		if err := settings.check(cmd, provider.Kubernetes, unset); err != nil {
			return err
		}
		file, err := a.readProvider(path) // before the providers are locked: stdin may take its time
		if err != nil {
			return err
		}
		var before, c provider.Config
		err = a.changeProviders(cmd.Context(), fmt.Sprintf("provider %q changed", name), func(r *provider.Registry) error {
			c, err = r.Get(name)
			if err == nil {
				err = r.Set(name, c) // whether it can be changed at all comes first
			}
			if err != nil {
				return err
			}
			before = c
			said, err := settings.mergeAll(&c, file, unset)
			switch {
			case err != nil:
				return err
			case said != "" && said != name:
				return usagef(cmd, "NAME %s: %s says %q", name, file.called, said)
			}
			elsewhere := c.Context != before.Context || c.Kubeconfig != before.Kubeconfig
			if elsewhere && c.Type == provider.Kubernetes && !slices.Contains(unset, "context") {
				if err := a.captureContext(&c); err != nil {
					return err
				}
			}
			return r.Set(name, c)
		})
		if err == nil && (c.EBPF != before.EBPF || c.Namespace != before.Namespace || c.Context != before.Context || c.Kubeconfig != before.Kubeconfig) {
			a.sayEBPF(cmd.Context(), name, c)
		}
		return err
	}
	return cmd
}
