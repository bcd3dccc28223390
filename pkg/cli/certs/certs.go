package certs

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/place"
)

func New(a *command.Env) *cobra.Command {
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
	cmd.AddCommand(newCertsGenerate(a), newCertsApply(a), newCertsInspect(a), newCertsRotate(a))
	return cmd
}

// wrote tells of files, and of what is to be typed next.
func wrote(a *command.Env, files []string) {
	for _, file := range files {
		fmt.Fprintln(a.ErrOut, "wrote", file)
	}
}

// next says what to type once err is nil, for the directory of dir.
func next(a *command.Env, command, dir string) {
	fmt.Fprintf(a.ErrOut, "next: %s %s%s\n", a.Name, command, place.DirFlag(dir))
}
