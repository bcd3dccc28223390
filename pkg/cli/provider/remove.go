package provider

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// newRemove makes the command; run is (*removeOptions).run, or a test's.
func newRemove(env *command.Env, run func(*removeOptions, context.Context) error) *cobra.Command {
	o := &removeOptions{editor: newEditor(env)}
	return &cobra.Command{
		Use:     "remove NAME",
		Aliases: []string{"rm"},
		Short:   "Forget a provider",
		Long: templates.LongDesc(`
			Forget a provider. Nothing changes in its cluster: jobs that run there go on.`),
		Example: templates.Examples(`
			# Forget one
			hodei provider remove k8s-local

			# Forget it and choose another
			hodei provider remove k8s-local && hodei provider use prod`),
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return run(o, cmd.Context())
		},
	}
}

// removeOptions is which provider to forget.
type removeOptions struct {
	editor
	name string
}

// run forgets the provider.
func (o *removeOptions) run(ctx context.Context) error {
	done := fmt.Sprintf("provider %q removed; its cluster is as it was", o.name)
	return o.change(ctx, done, func(r *provider.Registry) error { return r.Remove(o.name) })
}
