// Package cancel is the command hodei cancel: it ends jobs that are there. [New] makes the command and [Options.Run]
// ends the chosen jobs. The pure function decide says how a job is ended, and ending does it.
package cancel

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/selection"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{}
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "cancel NAME... | -l SELECTOR | --all",
		Short: "Stop jobs",
		Long: templates.LongDesc(`
			Stop jobs, and wait until their commands have ended. A command that runs gets SIGTERM
			from its agent and, after --grace, SIGKILL. The job stays, with its output and exit
			code 130.

			A job whose command has not started is deleted. So is a job whose agent can't be
			asked, for example because you may not open a tunnel to it: Kubernetes then ends the
			command in the same way, but the job and output that was not fetched are gone. The
			line of each job says which way was taken. A job that has ended stays as it is.

			--force deletes jobs at once: their commands get no time to end.`),
		Example: templates.Examples(`
			# Stop a job
			hodei cancel hodei-make-k3x9z

			# Stop all jobs of a team, and give each command 5 seconds to end
			hodei cancel -l team=build --grace 5s

			# See what would be stopped, and how
			hodei cancel --all --dry-run

			# Stop a job that does not end
			hodei cancel --force hodei-make-k3x9z`),
		Args:              cobra.ArbitraryArgs, // checked together with the flags
		ValidArgsFunction: env.CompleteLiveJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(env, cmd, args, o); err != nil {
				return err
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	f.selection.Add(cmd, "Stop")
	cmd.Flags().DurationVar(&f.grace, "grace", 0, "Time between SIGTERM and SIGKILL. Default: what each job was given.")
	cmd.Flags().BoolVar(&o.Force, "force", false, "Delete the jobs at once, whatever runs in them.")
	env.AddProviderFlag(cmd, cmd.Flags(), "Where the jobs run")
	f.action.Add(cmd, "cancelled")
	f.action.AddDryRun(cmd)
	return cmd
}

// typedFlags are the flags of cancel that complete turns into options.
type typedFlags struct {
	selection command.SelectionFlags
	action    command.ActionFlags
	grace     time.Duration
}

// complete turns arguments and flags into options.
func (f *typedFlags) complete(env *command.Env, cmd *cobra.Command, args []string, o *Options) (err error) {
	if o.Selection, err = f.selection.Selection(cmd, args); err != nil {
		return err
	}
	if cmd.Flags().Changed("grace") {
		if o.Grace = &f.grace; f.grace < 0 {
			return command.Usagef(cmd, "--grace %s: must not be negative", f.grace)
		}
		if o.Force {
			return command.RefuseUnread(cmd, "force", "grace")
		}
	}
	if o.Print, err = f.action.Printer(cmd, env.Out); err != nil {
		return err
	}
	o.DryRun = f.action.DryRun
	acted := command.ActedOn{Done: "cancelled", Here: "press Ctrl-C there, or: kill PID"}
	if o.Cluster, err = env.JobsCluster(o.Selection, acted); err != nil {
		return err
	}
	o.Note, o.Fail = command.NewScreen(env, f.action.Quiet()).Note, env.ShowError
	return nil
}

// Options is which jobs are ended, and how. All fields but Grace, Force and those of the selection are required.
type Options struct {
	Selection selection.Selection
	Cluster   *kubernetes.Provider
	// Grace is the time between SIGTERM and SIGKILL; nil: each job's own.
	Grace *time.Duration
	// Force deletes the jobs at once.
	Force bool
	// DryRun is a value of --dry-run.
	DryRun string
	// Print prints a job that was cancelled, and how. Note tells a person what else happens, and Fail what went wrong
	// with one job. They may be called by several goroutines.
	Print func(j *batchv1.Job, how string) error
	Note  func(text string)
	Fail  func(err error)
}

// Run ends the jobs, and waits for their ends. What goes wrong with one of them is told, and the others are ended.
func (o *Options) Run(ctx context.Context) error {
	found, missing, err := (&selection.Finder{Cluster: o.Cluster}).Find(ctx, o.Selection)
	if err != nil {
		return err
	}
	for _, err := range missing {
		o.Fail(err)
	}
	if len(o.Selection.Names) == 0 {
		if found = live(found); len(found) == 0 {
			o.Note(fmt.Sprintf("No jobs to cancel in %s namespace.", o.Cluster.Namespace()))
		}
	}
	failed := selection.Each(found, func(j *kubernetes.Found) error { return o.cancel(ctx, j) }, func(err error) {
		if ctx.Err() == nil {
			o.Fail(err)
		}
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case failed+len(missing) > 0:
		return &job.ExitError{Code: command.ExitFailed}
	}
	return nil
}

// live returns the jobs that have not ended.
func live(jobs []*kubernetes.Found) (live []*kubernetes.Found) {
	for _, j := range jobs {
		if w, _ := decide(j, false); w != leaveIt {
			live = append(live, j)
		}
	}
	return live
}
