package provider

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// newUse makes the command; run is (*useOptions).run, or a test's.
func newUse(env *command.Env, run func(*useOptions, context.Context) error) *cobra.Command {
	o := &useOptions{editor: newEditor(env)}
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
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			return run(o, cmd.Context())
		},
	}
}

// useOptions is which provider jobs are to run on.
type useOptions struct {
	editor
	name string
}

// run puts the provider in use.
func (o *useOptions) run(ctx context.Context) error {
	done := fmt.Sprintf("provider %q is in use", o.name)
	return o.change(ctx, done, func(r *provider.Registry) error { return r.Use(o.name) })
}
