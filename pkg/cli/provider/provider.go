// Package provider is the command hodei provider, with its subcommands: it adds, shows, changes, chooses and removes
// providers, and tries one with real workers. [New] is the way in. Each subcommand is in the file with its name, from
// its flags to its run. What a provider is, and how its file is kept, is in pkg/provider.
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

// New makes the command with its subcommands.
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
		newAdd(env, (*addOptions).run),
		newSet(env, (*setOptions).run),
		newList(env, (*listOptions).run),
		newGet(env, (*getOptions).run),
		newUse(env, (*useOptions).run),
		newTest(env, (*testOptions).run),
		newRemove(env, (*removeOptions).run),
	)
	return cmd
}

// editor changes this machine's file of providers, and says what was done.
type editor struct {
	ErrOut io.Writer
	home   *place.Home
}

func newEditor(env *command.Env) editor {
	return editor{ErrOut: env.ErrOut, home: env.Home()}
}

// change edits the file of providers with change, and then says done.
func (e *editor) change(ctx context.Context, done string, change func(*provider.Registry) error) error {
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
