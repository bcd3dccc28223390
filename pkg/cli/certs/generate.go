package certs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// newGenerate makes the command; run is (*generateOptions).run, or a test's.
func newGenerate(env *command.Env, run func(*generateOptions, context.Context) error) *cobra.Command {
	o := &generateOptions{ErrOut: env.ErrOut, program: env.Name}
	cmd := &cobra.Command{
		Use:   "generate [--dir DIR] [--san NAME]... [--ca-cert FILE --ca-key FILE]",
		Short: "Make a certificate authority, a server and a client certificate",
		Long: templates.LongDesc(`
			Make a certificate authority (ca.crt, ca.key), a server certificate (server.crt,
			server.key) and a client certificate (client.crt, client.key). Only the owner can read
			the keys. Existing files are not replaced without --force.

			With --ca-cert and --ca-key that authority signs them. Its certificate is copied to
			ca.crt. Its key is not copied, because each copy can be stolen; if the authority is
			to sign for jobs, copy it to ca.key yourself.`),
		Example: templates.Examples(`
			# Make them in ./certs
			hodei certs generate

			# Make them for a server that is known by two names, for a year
			hodei certs generate --san hodei.example.com --san 192.0.2.7 --validity 8760h

			# Have them signed by an authority that is there
			hodei certs generate --ca-cert /etc/pki/ca.crt --ca-key /etc/pki/ca.key`),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case o.Dir == "":
				return command.Usagef(cmd, "--dir is empty")
			case cmd.Flags().Changed("validity") && o.Validity <= 0:
				return command.Usagef(cmd, "--validity %s: must be more than zero", o.Validity)
			case (o.CACert == "") != (o.CAKey == ""):
				return command.Usagef(cmd, "--ca-cert and --ca-key go together")
			}
			if err := refuseCluster(cmd); err != nil {
				return err
			}
			return run(o, cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Dir, "dir", place.CertsDir, "Directory of the files.")
	flags.StringArrayVar(&o.SANs, "san", nil,
		"Name or address of the server, in place of "+strings.Join(certs.DefaultSANs(), ", ")+"; may be repeated.")
	flags.DurationVar(&o.Validity, "validity", 0,
		"How long they are valid, in hours (h). Default: 87600h (ten years), or until the authority of --ca-cert ends.")
	flags.StringVar(&o.CACert, "ca-cert", "",
		"Certificate of the authority that signs, a PEM file. Default: a new one.")
	flags.StringVar(&o.CAKey, "ca-key", "", "Private key of --ca-cert, a PEM file.")
	flags.BoolVar(&o.Force, "force", false,
		"Replace existing files. Certificates of another authority are no longer trusted then.")
	return cmd
}

// generateOptions is what one generate makes.
type generateOptions struct {
	certs.GenerateOptions
	ErrOut  io.Writer
	program string // as it is typed
}

// run writes the files, and says which and what comes next.
func (o *generateOptions) run(context.Context) error {
	files, err := certs.Generate(o.GenerateOptions)
	wrote(o.ErrOut, files)
	switch {
	case errors.Is(err, certs.ErrExists):
		return &job.Hinted{Err: err, Hint: fmt.Sprintf("to renew them: {hodei} certs rotate --dir %[1]s; "+
			"to replace the authority at once: {hodei} certs generate --dir %[1]s --force", shell.Quote(o.Dir))}
	case err != nil:
		return err
	}
	if key := filepath.Join(o.Dir, "ca.key"); o.CACert != "" {
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(o.ErrOut, "there is no %s: to sign for jobs with this directory, copy the authority's key to it\n", key)
		}
	}
	next(o.ErrOut, o.program, "certs apply", o.Dir)
	return nil
}
