package provider

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// newList makes the command; run is (*listOptions).run, or a test's.
func newList(env *command.Env, run func(*listOptions, context.Context) error) *cobra.Command {
	o := &listOptions{Out: env.Out, home: env.Home(), printData: env.PrintData}
	cmd := &cobra.Command{
		Use:     "list [-o json|yaml|name]",
		Aliases: []string{"ls"},
		Short:   "List the providers",
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
			if !slices.Contains([]string{"", "json", "yaml", "name"}, o.output) {
				return command.Usagef(cmd, "--output %q: want json, yaml or name", o.output)
			}
			return run(o, cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "Output format: json, yaml or name (default: a table).")
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "Leave out the table's headers.")
	return cmd
}

// listOptions is how to list the providers.
type listOptions struct {
	Out       io.Writer
	home      *place.Home
	output    string // json, yaml or name; empty: a table
	noHeaders bool
	// printData writes a value as json or yaml.
	printData func(v any, format string) error
}

// run lists the providers.
func (o *listOptions) run(context.Context) error {
	r, err := o.home.Providers()
	if err != nil {
		return err
	}
	switch o.output {
	case "json", "yaml":
		return o.printData(r, o.output)
	case "name":
		for _, name := range r.Names() {
			fmt.Fprintln(o.Out, name)
		}
		return nil
	}
	table, err := tableOf(r)
	if err != nil {
		return err
	}
	return printers.NewTablePrinter(printers.PrintOptions{NoHeaders: o.noHeaders}).PrintObj(table, o.Out)
}

// tableOf returns a table with a row for each provider.
func tableOf(r *provider.Registry) (*metav1.Table, error) {
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
			return nil, err
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
	return table, nil
}
