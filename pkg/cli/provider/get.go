package provider

import (
	"context"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
)

// newGet makes the command; run is (*getOptions).run, or a test's.
func newGet(env *command.Env, run func(*getOptions, context.Context) error) *cobra.Command {
	o := &getOptions{home: env.Home(), output: "yaml", printData: env.PrintData}
	cmd := &cobra.Command{
		Use:   "get NAME [-o yaml|json]",
		Short: "Show the settings of a provider",
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
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.output != "yaml" && o.output != "json" {
				return command.Usagef(cmd, "--output %q: want yaml or json", o.output)
			}
			o.name = args[0]
			return run(o, cmd.Context())
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", o.output, "Output format: yaml or json.")
	return cmd
}

// getOptions is which provider to show, and how.
type getOptions struct {
	home   *place.Home
	name   string
	output string // yaml or json
	// printData writes a value as json or yaml.
	printData func(v any, format string) error
}

// run shows the settings of the provider.
func (o *getOptions) run(context.Context) error {
	r, err := o.home.Providers()
	if err != nil {
		return err
	}
	c, err := r.Get(o.name)
	if err != nil {
		return place.ProviderHint(err)
	}
	return o.printData(c, o.output)
}
