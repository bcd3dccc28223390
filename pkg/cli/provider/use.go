package provider

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// newProviderUse makes the command; run is (*providerUseOptions).run, or a test's.
func newProviderUse(env *command.Env, run func(*providerUseOptions, context.Context) error) *cobra.Command {
	o := &providerUseOptions{providerEditor: newProviderEditor(env)}
	return &cobra.Command{
		Use:   "use NAME",
		Short: "Choose the provider that jobs run on",
		Long: templates.LongDesc(`
			Choose the provider that jobs run on when hodei run is not given --provider.`),
		Example: templates.Examples(`
			# Run jobs on the cluster k8s-local from now on
			hodei provider use k8s-local

			# Run them on this machine
			hodei provider use local`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: env.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return run(o, cmd.Context())
		},
	}
}

// providerUseOptions is which provider jobs are to run on.
type providerUseOptions struct {
	providerEditor
	name string
}

// run puts the provider in use.
func (o *providerUseOptions) run(ctx context.Context) error {
	done := fmt.Sprintf("provider %q is in use", o.name)
	return o.change(ctx, done, func(r *provider.Registry) error { return r.Use(o.name) })
}
