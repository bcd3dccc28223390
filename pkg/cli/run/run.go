// Package run is the command hodei run: it makes a job and follows it to its end, or leaves it running. Start with
// [New]. The flags and what they mean are pkg/command/runflags', the making of the job pkg/submission's, and how it is
// followed pkg/session's.
package run

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/command/runflags"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/submission"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var flags *runflags.Flags
	cmd := &cobra.Command{
		Use:   "run [options] -- COMMAND [ARG...]",
		Short: "Run a command in the cluster and give back its output and exit code",
		Long: templates.LongDesc(`
			Run a command in a Pod of its own and follow it: its stdout comes on stdout, its
			stderr on stderr, byte for byte, and hodei ends with its exit code.

			Any image works. The command runs as a UID of the job's own unless --user or the
			provider sets another; flags override the provider. Its stdin is empty unless -i
			sends it this one, to the end and byte for byte. A command whose input breaks off,
			because hodei is gone for longer than --start-timeout, is stopped: cut input never
			looks like its end.

			-it gives the command a terminal, which is this one while it runs: keys, the size and
			full-screen programs work as they do here, and Ctrl-C and Ctrl-Z are the command's. Its
			output is one stream, on stdout. --detach-keys (ctrl-] and d) leave it running, for
			'hodei attach -it'. To stop it is to hang up.

			The job does not need this terminal: it starts and ends without it. Ctrl-C asks the
			command to stop, and hodei follows it to its end; a second Ctrl-C leaves it running,
			or, with --provider local, kills it. Ctrl-C before the command starts deletes the job.

			Exit codes besides the command's own: 124 the job's --timeout, 125 hodei or the
			cluster failed, 126 the command can't be executed, 127 it was not found, 128+n
			signal n killed it, 130 cancelled with Ctrl-C, 2 wrong usage.`),
		Example: templates.Examples(`
			# Run a command in the worker's own image
			hodei run -- uname -a

			# In an image of your own, with resources and a variable
			hodei run --image golang:1.26 --cpu 2 --memory 4Gi -e CGO_ENABLED=0 -- go test ./...

			# Send it the output of another command
			sort names.txt | hodei run -i -- uniq -c

			# A shell in a container
			hodei run -it --image debian:12 -- bash

			# On this machine, without a cluster
			hodei run --provider local -- sh -c 'echo out; echo err >&2; exit 7'

			# Leave it running, and print its name
			hodei run --detach --timeout 2h --image registry.example.com/train:v1 -- ./train.sh

			# See the Job without making it
			hodei run --dry-run=client -o yaml -- true`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no command: write it after --")
			}
			if cmd.ArgsLenAtDash() < 0 {
				return noDash(env, cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.Config()
			if err == nil {
				err = flags.Complete(c, &job.Spec{Command: args})
			}
			if err == nil {
				err = run(&Options{Config: c}, cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	flags = runflags.New(env, cmd)
	cmd.Flags().SetInterspersed(false) // the flags after the command are the command's
	return cmd
}

// Options is what one run does.
type Options struct{ *submission.Config }

// Run makes the job and follows it. Its error is that of [submission.Run].
func (o *Options) Run(ctx context.Context) error { return submission.Run(ctx, o.Config) }
