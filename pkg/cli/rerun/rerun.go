// Package rerun is the command hodei rerun: it runs the command of an earlier job again, with what that job asked for and
// with changes. Start with [New]; [Options.Run] is all that one rerun does. What is taken from the earlier job is in
// again.go. The flags are pkg/command/runflags', and the making of the job is pkg/submission's.
package rerun

import (
	"context"
	"errors"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/command/runflags"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/submission"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var flags *runflags.Flags
	cmd := &cobra.Command{
		Use:   "rerun NAME",
		Short: "Run the command of an earlier job again, with changes",
		Long: templates.LongDesc(`
			Run the command of an earlier job again, in the same image, with the same variables,
			resources and times, and follow it as 'hodei run' does. Flags are those of run, and
			change what they are about: -e replaces a variable of the same name or adds one, -e of
			a variable that is not set here takes it away, --env-from adds a source, and an empty
			value, as in --cpu '', takes the default.

			How the earlier job was followed does not count: --detach, --follow, --rm and -o are
			those of this command line. The new job has a name of its own unless --name gives one.

			The earlier job is looked for in the cluster, then among those that were followed from
			this machine, whose variables are stored without their values: give these with -e.
			Secrets and ConfigMaps of --env-from are named again, and read anew.

			Exit codes are those of 'hodei run'.`),
		Example: templates.Examples(`
			# Run it again, with more memory
			hodei rerun hodei-make-k3x9z --memory 1Gi

			# Again under the same name, in place of the run before
			hodei rerun nightly --name nightly --replace

			# With another value of a variable, and leave it running
			hodei rerun nightly -e DATE=2026-11-30 --detach

			# See the Job without making it
			hodei rerun nightly --dry-run=client -o yaml`),
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.ArgsLenAtDash() >= 0 {
				return &command.UsageError{Cmd: cmd, Err: errors.New("rerun runs the job's own command"),
					Hint: "for another command: {hodei} run -- COMMAND"}
			}
			return command.Names(1, 1)(cmd, args)
		},
		ValidArgsFunction: env.CompleteLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.Config()
			if err != nil {
				return err
			}
			o := &Options{Config: c, JobName: args[0], Given: flags.Variables(), Complete: func(spec *job.Spec) error {
				return flags.Complete(c, spec)
			}}
			if o.Finder, o.Store, err = env.Finder(false, c.Screen.Note); err == nil {
				err = run(o, cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	flags = runflags.New(env, cmd)
	return cmd
}

// Options is what one rerun does: which job it looks for where, and how the new one is made and followed.
type Options struct {
	// Config is that of the new job, which Complete gives its spec.
	*submission.Config
	Complete func(*job.Spec) error
	// JobName is the earlier job. Finder looks for it in the cluster and in Store, which Run closes.
	JobName string
	Finder  *history.Finder
	Store   *place.Store
	// Given are the names of the variables that the command line is about.
	Given []string
}

// Run makes the job and follows it. Its error is that of [submission.Run], or says why the earlier job can't be run
// again.
func (o *Options) Run(ctx context.Context) error {
	old, err := o.find(ctx)
	o.Store.Close(o.Screen.Note)
	if err != nil {
		return err
	}
	spec := again(old)
	o.Lingers = o.Lingers || spec.Linger != 0
	o.NoFallback, o.NoExec = ruledOut(old), !old.Exec
	if err := o.Complete(spec); err != nil {
		return err
	}
	return submission.Run(ctx, o.Config)
}
