// Package certs is the command hodei certs with its subcommands generate, apply, inspect and rotate, a file each:
// they make, store, check and renew the certificates by which coordinator and workers know each other. Start with
// [New]. How certificates are made and judged is the module's own package certs; how Secrets are named is package
// setup's.
package certs

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// New makes the command and its subcommands.
func New(env *command.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Make, store, check and renew the certificates of coordinator and workers",
		Long: templates.LongDesc(`
			Make, store, check and renew the certificates by which coordinator and workers
			know each other.

			They are needed for a coordinator that stays, or for several people who share
			one. Without them every run makes a certificate authority of its own, in memory.`),
		Example: templates.Examples(`
			# Make them in ./certs, and store them in the cluster
			hodei certs generate
			hodei certs apply

			# See whether they are in order, and until when
			hodei certs inspect

			# Renew those of the server and the client
			hodei certs rotate`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newGenerate(env, (*generateOptions).run),
		newApply(env, (*applyOptions).run),
		newInspect(env, (*inspectOptions).run),
		newRotate(env, (*rotateOptions).run),
	)
	return cmd
}

// refuseCluster refuses the flags about a cluster where none is asked.
func refuseCluster(cmd *cobra.Command) error {
	for _, name := range []string{"namespace", "provider", "context", "kubeconfig"} {
		if cmd.Flags().Changed(name) {
			return command.Usagef(cmd, "--%s has no effect here: this is about files", name)
		}
	}
	return nil
}

// cluster is what the subcommands know of the cluster that they ask.
type cluster struct {
	provider  *kubernetes.Provider
	client    clientset.Interface
	namespace string // of its jobs
}

// connecting returns a func that chooses env's cluster. It asks the cluster nothing yet.
func connecting(env *command.Env) func() (*cluster, error) {
	return func() (*cluster, error) {
		name, chosen, err := env.ChooseCluster()
		if err != nil {
			return nil, err
		}
		provider, err := env.KubernetesProvider(name, chosen)
		if err != nil {
			return nil, err
		}
		client, err := env.Client()
		if err != nil {
			return nil, err
		}
		return &cluster{provider: provider, client: client, namespace: chosen.Namespace}, nil
	}
}

// wrote names the files that were written.
func wrote(out io.Writer, files []string) {
	for _, file := range files {
		fmt.Fprintln(out, "wrote", file)
	}
}

// next says which command of program comes next, for the certificates in dir.
func next(out io.Writer, program, command, dir string) {
	fmt.Fprintf(out, "next: %s %s%s\n", program, command, place.DirFlag(dir))
}
