package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/kubectl/pkg/util/templates"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
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
			is always there: it runs jobs on this machine and needs no cluster.`),
		Example: templates.Examples(`
			# Add the cluster of the current context; the first provider is put in use
			hodei provider add k8s-local --namespace hodei-jobs-workers

			# Show all of them
			hodei provider list`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newProviderAdd(), a.newProviderList(), a.newProviderGet(), a.newProviderUse(), a.newProviderTest(), a.newProviderRemove())
	return cmd
}

func (a *app) newProviderAdd() *cobra.Command {
	var c provider.Config
	var containerLogs bool
	cmd := &cobra.Command{
		Use:                   "add NAME [--context CONTEXT] [--namespace NAMESPACE] [--image IMAGE]",
		DisableFlagsInUseLine: true,
		Short:                 "Add a provider",
		Long: templates.LongDesc(`
			Add a provider. It keeps the kubeconfig's context that is current now, or the
			one of --context, so that a later kubectl config use-context does not move jobs
			elsewhere. The cluster is not asked.`),
		Example: templates.Examples(`
			# Add the cluster of the current context
			hodei provider add k8s-local --namespace hodei-jobs-workers

			# Use a worker image that was loaded into the nodes
			hodei provider add k8s-local --namespace hodei-jobs-workers --image-pull-policy IfNotPresent

			# Add another cluster, with an image of a private registry
			hodei provider add prod --context prod --image registry.example.com/hodei-jobs-worker:v1 --image-pull-secret registry`),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.Namespace = *a.kube.Namespace
			if cmd.Flags().Changed("container-logs") {
				c.ContainerLogs = &containerLogs
			}
			// Before the kubeconfig is read: what is wrong with the command line comes first.
			if err := c.Validate(); err != nil {
				return usagef(cmd, "%w", err)
			}
			return a.addProvider(args[0], c)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Type, "type", provider.Kubernetes, "Type of the provider: kubernetes or local.")
	flags.StringVar(&c.Image, "image", "", "Image of the worker (default "+provider.DefaultImage+").")
	flags.StringVar(&c.ImagePullPolicy, "image-pull-policy", "", "When a node pulls the worker's image: Always, IfNotPresent or Never (default: Kubernetes' own rule).")
	flags.StringArrayVar(&c.ImagePullSecrets, "image-pull-secret", nil, "Secret of the namespace with which images are pulled; may be repeated.")
	flags.StringVar(&c.ServiceAccount, "service-account", "", "Service account of the workers (default "+provider.DefaultServiceAccount+").")
	flags.BoolVar(&containerLogs, "container-logs", false, "Copy the output of all jobs to their container's log, or with =false that of none, unless run says otherwise (default: of detached jobs).")
	return cmd
}

func (a *app) addProvider(name string, c provider.Config) error {
	path, err := provider.Path(a.getenv)
	if err != nil {
		return err
	}
	inUse := false
	err = provider.Update(path, func(r *provider.Registry) error {
		if _, err := r.Get(name); err != nil && c.Type == provider.Kubernetes {
			if err := a.captureContext(&c); err != nil {
				return err
			}
		}
		if err := r.Add(name, c); err != nil {
			return err
		}
		inUse = r.Current == name
		return nil
	})
	switch {
	case errors.Is(err, provider.ErrTaken) && name == provider.Local:
		return &hinted{err: err, hint: "{hodei} run --provider local -- COMMAND"}
	case errors.Is(err, provider.ErrTaken):
		return &hinted{err: err, hint: "{hodei} provider remove " + name}
	case err != nil:
		return err
	}
	fmt.Fprintf(a.ErrOut, "provider %q added", name)
	if c.Context != "" {
		fmt.Fprintf(a.ErrOut, " for context %q, namespace %s", ui.Printable(c.Context), c.WithDefaults().Namespace)
	}
	if inUse {
		fmt.Fprint(a.ErrOut, " and in use")
	}
	fmt.Fprintln(a.ErrOut)
	return nil
}

// captureContext stores in c which cluster the kube flags and the kubeconfig
// mean now.
func (a *app) captureContext(c *provider.Config) error {
	kubeconfig, err := a.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return kubernetes.Explain(err)
	}
	c.Context = kubeconfig.CurrentContext
	if given := *a.kube.Context; given != "" {
		c.Context = given
	}
	if *a.kube.KubeConfig != "" {
		if c.Kubeconfig, err = filepath.Abs(*a.kube.KubeConfig); err != nil {
			return err
		}
	}
	switch _, ok := kubeconfig.Contexts[c.Context]; {
	case len(kubeconfig.Contexts) == 0:
		return kubernetes.Explain(clientcmd.ErrEmptyConfig)
	case c.Context == "":
		return &hinted{err: errors.New("the kubeconfig has no current context"), hint: "kubectl config get-contexts, then add --context NAME"}
	case !ok:
		return &hinted{err: fmt.Errorf("context %q does not exist in the kubeconfig", c.Context), hint: "kubectl config get-contexts"}
	}
	return nil
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
			List the providers. The one in use has a star. With -o json and yaml it is the
			file of providers, which holds only what was said when they were added.`),
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
	r, err := a.providers()
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
			Show the settings of a provider, as they were given. What was left out is left
			to the default.`),
		Example: templates.Examples(`
			# Show one
			hodei provider get k8s-local

			# Which namespace it uses
			hodei provider get k8s-local -o json | jq -r .namespace`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "yaml" && output != "json" {
				return usagef(cmd, "--output %q: want yaml or json", output)
			}
			r, err := a.providers()
			if err != nil {
				return err
			}
			c, err := r.Get(args[0])
			if err != nil {
				return providerHint(err)
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
			return a.changeProviders(fmt.Sprintf("provider %q is in use", args[0]), func(r *provider.Registry) error {
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
			return a.changeProviders(fmt.Sprintf("provider %q removed; its cluster is as it was", args[0]), func(r *provider.Registry) error {
				return r.Remove(args[0])
			})
		},
	}
}

// providers reads the file of providers.
func (a *app) providers() (*provider.Registry, error) {
	path, err := provider.Path(a.getenv)
	if err != nil {
		return nil, err
	}
	return provider.Load(path)
}

// changeProviders edits the file of providers and says what was done.
func (a *app) changeProviders(done string, change func(*provider.Registry) error) error {
	path, err := provider.Path(a.getenv)
	if err != nil {
		return err
	}
	if err := provider.Update(path, change); err != nil {
		return providerHint(err)
	}
	fmt.Fprintln(a.ErrOut, done)
	return nil
}

// providerHint says where the names are if err is an unknown one.
func providerHint(err error) error {
	if errors.Is(err, provider.ErrNotFound) {
		return &hinted{err: err, hint: "{hodei} provider list"}
	}
	return err
}

// completeProvider completes the first argument to a provider's name.
func (a *app) completeProvider(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	r, err := a.providers()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.Names(), cobra.ShellCompDirectiveNoFileComp
}

// printData writes v, which is no Kubernetes object, as JSON or YAML.
func (a *app) printData(v any, format string) error {
	data, err := yaml.Marshal(v)
	if format == "json" {
		data, err = json.MarshalIndent(v, "", "    ")
		data = append(data, '\n')
	}
	if err != nil {
		return err
	}
	_, err = a.Out.Write(data)
	return err
}
