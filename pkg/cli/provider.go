package cli

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

func (a *app) newProvider() *cobra.Command {
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
	cmd.AddCommand(a.newProviderAdd(), a.newProviderSet(), a.newProviderList(), a.newProviderGet(), a.newProviderUse(), a.newProviderTest(), a.newProviderRemove())
	return cmd
}

func (a *app) newProviderList() *cobra.Command {
	var output string
	var noHeaders bool
	cmd := &cobra.Command{
		Use:                   "list [-o json|yaml|name]",
		DisableFlagsInUseLine: true,
		Aliases:               []string{"ls"},
		Short:                 "List the providers",
		Long: templates.LongDesc(`
			List the providers. The one in use has a star. -o json and yaml print the file of
			providers, which has only the settings that were given.`),
		Example: templates.Examples(`
			# List them
			hodei provider list

			# Their names alone
			hodei provider list -o name`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"", "json", "yaml", "name"}, output) {
				return usagef(cmd, "--output %q: want json, yaml or name", output)
			}
			return a.listProviders(output, noHeaders)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "Output format: json, yaml or name (default: a table).")
	cmd.Flags().BoolVar(&noHeaders, "no-headers", false, "Leave out the table's headers.")
	return cmd
}

func (a *app) listProviders(output string, noHeaders bool) error {
	r, err := a.home().Providers()
	if err != nil {
		return err
	}
	switch output {
	case "json", "yaml":
		return a.printData(r, output)
	case "name":
		for _, name := range r.Names() {
			fmt.Fprintln(a.Out, name)
		}
		return nil
	}
	table := &metav1.Table{ColumnDefinitions: []metav1.TableColumnDefinition{
		{Name: "Current", Type: "string"},
		{Name: "Name", Type: "string", Format: "name"},
		{Name: "Type", Type: "string"},
		{Name: "Context", Type: "string"},
		{Name: "Namespace", Type: "string"},
		{Name: "Image", Type: "string"},
	}}
	for _, name := range r.Names() {
		c, err := r.Get(name)
		if err != nil {
			return err
		}
		c = c.WithDefaults()
		current := ""
		if name == r.Current {
			current = "*"
		}
		table.Rows = append(table.Rows, metav1.TableRow{Cells: []any{
			current, name, c.Type, ui.Printable(c.Context), c.Namespace, ui.Printable(c.Image),
		}})
	}
	return printers.NewTablePrinter(printers.PrintOptions{NoHeaders: noHeaders}).PrintObj(table, a.Out)
}

func (a *app) newProviderGet() *cobra.Command {
	output := "yaml"
	cmd := &cobra.Command{
		Use:                   "get NAME [-o yaml|json]",
		DisableFlagsInUseLine: true,
		Short:                 "Show the settings of a provider",
		Long: templates.LongDesc(`
			Show the settings of a provider, as they were given. A setting that is not shown has
			its default.`),
		Example: templates.Examples(`
			# Show one
			hodei provider get k8s-local

			# Add another with the same settings
			hodei provider get k8s-local | hodei provider add copy -f -

			# Which namespace it uses
			hodei provider get k8s-local -o json | jq -r .namespace`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "yaml" && output != "json" {
				return usagef(cmd, "--output %q: want yaml or json", output)
			}
			r, err := a.home().Providers()
			if err != nil {
				return err
			}
			c, err := r.Get(args[0])
			if err != nil {
				return place.ProviderHint(err)
			}
			return a.printData(c, output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", output, "Output format: yaml or json.")
	return cmd
}

func (a *app) newProviderUse() *cobra.Command {
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
		ValidArgsFunction: a.completeProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeProviders(cmd.Context(), fmt.Sprintf("provider %q is in use", args[0]), func(r *provider.Registry) error {
				return r.Use(args[0])
			})
		},
	}
}

func (a *app) newProviderRemove() *cobra.Command {
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
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeProviders(cmd.Context(), fmt.Sprintf("provider %q removed; its cluster is as it was", args[0]), func(r *provider.Registry) error {
				return r.Remove(args[0])
			})
		},
	}
}

// changeProviders edits the file of providers and says what was done.
func (a *app) changeProviders(ctx context.Context, done string, change func(*provider.Registry) error) error {
	path, err := a.home().ProvidersPath()
	if err != nil {
		return err
	}
	if err := provider.Update(ctx, path, change); err != nil {
		return place.ProviderHint(err)
	}
	fmt.Fprintln(a.ErrOut, done)
	return nil
}
