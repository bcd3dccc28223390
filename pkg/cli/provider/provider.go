package provider

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// New makes the command that holds those about providers.
func New(env *command.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "provider",
		Short: "Choose where jobs run",
		Long: templates.LongDesc(`
			Choose where jobs run. A provider is a name for a place where workers are made:
			a cluster and a namespace with their settings, or this machine.

			Providers are kept in $XDG_CONFIG_HOME/hodei/config.yaml. The one named "local"
			is always there: it runs jobs on this machine and needs no cluster. Nothing here
			changes a cluster, and jobs that run go on as they are.

			All settings and their defaults are in docs/providers.md.`),
		Example: templates.Examples(`
			# Add the cluster of the current context; the first provider is put in use
			hodei provider add k8s-local --namespace hodei-jobs-workers

			# Change how its jobs run
			hodei provider set k8s-local --memory 1Gi --node-selector example.com/pool=batch

			# Show all of them
			hodei provider list`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newProviderAdd(env, (*providerAddOptions).run),
		newProviderSet(env, (*providerSetOptions).run),
		newProviderList(env, (*providerListOptions).run),
		newProviderGet(env, (*providerGetOptions).run),
		newProviderUse(env, (*providerUseOptions).run),
		newProviderTest(env),
		newProviderRemove(env, (*providerRemoveOptions).run),
	)
	return cmd
}

// providerEditor changes the file of providers, and says what comes of it.
type providerEditor struct {
	ErrOut io.Writer
	home   *place.Home
}

// newProviderEditor is one of the providers of this machine.
func newProviderEditor(env *command.Env) providerEditor {
	return providerEditor{ErrOut: env.ErrOut, home: env.Home()}
}

// change edits the file of providers and says what was done.
func (e *providerEditor) change(ctx context.Context, done string, change func(*provider.Registry) error) error {
	path, err := e.home.ProvidersPath()
	if err != nil {
		return err
	}
	if err := provider.Update(ctx, path, change); err != nil {
		return place.ProviderHint(err)
	}
	fmt.Fprintln(e.ErrOut, done)
	return nil
}
