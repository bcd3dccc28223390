package provider

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// newSet makes the command; run is (*setOptions).run, or a test's.
func newSet(env *command.Env, run func(*setOptions, context.Context) error) *cobra.Command {
	o := &setOptions{editor: newEditor(env), capture: env.CaptureContext, ebpf: newEBPFTeller(env)}
	cmd := &cobra.Command{
		Use:   "set NAME [-f FILE] [--unset KEY]... [options]",
		Short: "Change settings of a provider",
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
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteProvider,
	}
	flags := cmd.Flags()
	path := flags.StringP("filename", "f", "", "File with settings, as YAML or JSON; - is stdin.")
	flags.StringSliceVar(&o.unset, "unset", nil, "Key to take out, as 'hodei provider get' shows it; may be repeated.")
	settings := addSettingFlags(env, flags)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		o.name = args[0]
		if !flags.Changed("unset") && *path == "" && !settings.changed() {
			return command.Usagef(cmd, "nothing to change: give a flag, --unset KEY or -f FILE")
		}
		// The file is read before the providers are locked: stdin may take its time.
		if o.changes, err = settings.changes(cmd, provider.Kubernetes, *path, o.unset); err != nil {
			return err
		}
		if said := o.changes.file.name(); said != "" && said != o.name {
			return command.Usagef(cmd, "NAME %s: %s says %q", o.name, o.changes.file.called, said)
		}
		return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
	}
	return cmd
}

// setOptions is what to change of a provider, and what that needs.
type setOptions struct {
	editor
	name    string
	changes settingChanges
	unset   []string // keys that changes takes out
	// capture stores in a configuration the context that it and the kubeconfig mean now.
	capture func(*provider.Config) error
	ebpf    ebpfTeller
}

// run changes the provider.
func (o *setOptions) run(ctx context.Context) error {
	var before, after provider.Config
	err := o.change(ctx, fmt.Sprintf("provider %q changed", o.name), func(r *provider.Registry) (err error) {
		if before, err = r.Get(o.name); err != nil {
			return err
		}
		if err := r.Set(o.name, before); err != nil { // fails if it can't be changed at all
			return err
		}
		if after, err = o.changed(before); err != nil {
			return err
		}
		return r.Set(o.name, after)
	})
	if err != nil {
		return err
	}
	if after.EBPF != before.EBPF || after.Namespace != before.Namespace || otherCluster(before, after) {
		return o.ebpf.say(ctx, o.name, after)
	}
	return nil
}

// changed returns c with the changes. If they name another cluster, it also has the context that it means now.
func (o *setOptions) changed(c provider.Config) (provider.Config, error) {
	before := c
	if _, err := o.changes.over(&c); err != nil {
		return c, err
	}
	if otherCluster(before, c) && c.Type == provider.Kubernetes && !slices.Contains(o.unset, "context") {
		if err := o.capture(&c); err != nil {
			return c, err
		}
	}
	return c, nil
}

// otherCluster reports whether two configurations name different clusters.
func otherCluster(a, b provider.Config) bool {
	return a.Context != b.Context || a.Kubeconfig != b.Kubeconfig
}
