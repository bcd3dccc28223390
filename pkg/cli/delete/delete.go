// Package delete is the command hodei delete: it removes jobs from the cluster with all that belongs to them. [New]
// makes the command, and [Options.Run] deletes the chosen jobs. The pure function goes says what is lost with a job.
package delete

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/selection"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{}
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "delete NAME... | -l SELECTOR | --all",
		Short: "Remove jobs and all that belongs to them",
		Long: templates.LongDesc(`
			Remove jobs from the cluster, with their Pods and certificates. The line of each job
			says what goes with it: a command that still runs, which is told to end, and output
			that is not stored on this machine. Output that is stored here stays, and 'hodei logs'
			shows it.

			--keep-output first stores here what the job has printed up to now. A job whose output
			can't be stored is not deleted.

			To stop a job and keep its exit code and output, use 'hodei cancel'. Jobs also go by
			themselves, --ttl after their end.`),
		Example: templates.Examples(`
			# Remove a job
			hodei delete hodei-make-k3x9z

			# See what would go with all jobs of a team
			hodei delete -l team=build --dry-run

			# Remove them, and keep what they have printed
			hodei delete -l team=build --keep-output`),
		Args:              cobra.ArbitraryArgs, // checked together with the flags
		ValidArgsFunction: env.CompleteJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(env, cmd, args, o); err != nil {
				return err
			}
			defer o.Store.Close(o.Note)
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	f.selection.Add(cmd, "Remove")
	cmd.Flags().BoolVar(&o.KeepOutput, "keep-output", false, "First store the output on this machine.")
	env.AddProviderFlag(cmd, cmd.Flags(), "Where the jobs run")
	f.action.Add(cmd, "deleted")
	f.action.AddDryRun(cmd)
	return cmd
}

// typedFlags are the flags of delete that complete turns into options.
type typedFlags struct {
	selection command.SelectionFlags
	action    command.ActionFlags
}

// complete turns arguments and flags into options. The caller closes their store.
func (f *typedFlags) complete(env *command.Env, cmd *cobra.Command, args []string, o *Options) (err error) {
	if o.Selection, err = f.selection.Selection(cmd, args); err != nil {
		return err
	}
	if o.Print, err = f.action.Printer(cmd, env.Out); err != nil {
		return err
	}
	o.DryRun = f.action.DryRun
	acted := command.ActedOn{Done: "deleted", Here: "to end it, press Ctrl-C there, or: kill PID"}
	if o.Cluster, err = env.JobsCluster(o.Selection, acted); err != nil {
		return err
	}
	o.Note, o.Fail = command.NewScreen(env, f.action.Quiet()).Note, env.ShowError
	o.Finder, o.Store, err = env.Finder(o.KeepOutput && o.DryRun == command.DryRunNone, o.Note)
	return err
}

// Options is which jobs are deleted, and how. All fields but KeepOutput and those of the selection are required.
type Options struct {
	Selection selection.Selection
	Cluster   *kubernetes.Provider
	// Finder knows what Store has of a job.
	Finder *history.Finder
	Store  *place.Store
	// KeepOutput stores the output before.
	KeepOutput bool
	// DryRun is a value of --dry-run.
	DryRun string
	// Print prints a job that was deleted, and what went with it. Note tells a person what else happens, and Fail what
	// went wrong with one job. They may be called by several goroutines.
	Print func(j *batchv1.Job, how string) error
	Note  func(text string)
	Fail  func(err error)

	viewer *joblog.Viewer
}

// Run deletes the jobs. What goes wrong with one of them is told, and the others are deleted.
func (o *Options) Run(ctx context.Context) error {
	o.Store.Tell(o.Note)
	o.viewer = joblog.New(o.Finder, func(string) output.Sink { return unseen{} })
	o.viewer.EndSaid, o.viewer.StoreDir = true, o.Store.Dir
	found, missing, err := (&selection.Finder{Cluster: o.Cluster}).Find(ctx, o.Selection)
	if err != nil {
		return err
	}
	for _, err := range missing {
		o.Fail(err)
	}
	if len(found)+len(missing) == 0 {
		o.Note(fmt.Sprintf("No jobs found in %s namespace.", o.Cluster.Namespace()))
	}
	failed := selection.Each(found, func(j *kubernetes.Found) error { return o.delete(ctx, j) }, func(err error) {
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

// delete deletes one job.
func (o *Options) delete(ctx context.Context, found *kubernetes.Found) error {
	j := o.Finder.Known(found)
	if o.KeepOutput && o.DryRun == command.DryRunNone {
		var err error
		if j, err = o.keep(ctx, j); err != nil {
			return err
		}
	}
	if o.DryRun != command.DryRunClient {
		options := kubernetes.DeleteOptions{DryRun: o.DryRun == command.DryRunServer}
		if err := o.Cluster.Delete(ctx, found, options); err != nil {
			return err
		}
	}
	return o.Print(found.Job, goes(j, o.KeepOutput))
}

// keep stores the output of a job that its agent has, and returns the job anew. The error says which output can't be
// stored.
func (o *Options) keep(ctx context.Context, j *history.Job) (*history.Job, error) {
	if n := len(j.Attempts); n > 0 && j.Attempts[n-1].Pod != nil && j.Attempts[n-1].Pod.Running {
		if err := o.viewer.Show(ctx, j); err != nil {
			return nil, fmt.Errorf("job %s is not deleted: its output can't be stored: %w", j.Name, err)
		}
		found, err := o.Cluster.Find(ctx, j.Name) // meanwhile it may have ended
		if err != nil {
			return nil, err
		}
		if found.Job.UID != j.Found.Job.UID {
			return nil, errors.New("another job has the name meanwhile: it is not deleted")
		}
		j = o.Finder.Known(found)
	}
	for i := range j.Attempts {
		if a := &j.Attempts[i]; !isKept(a) {
			return nil, &job.Hinted{
				Err: fmt.Errorf("job %s is not deleted: the output of %s is not stored here, and its agent is gone", j.Name, a.Name),
				Hint: fmt.Sprintf("save what its container's log has: {hodei} logs %[1]s >FILE; then: {hodei} delete %[1]s",
					shell.Quote(j.Name)),
			}
		}
	}
	return j, nil
}

// isKept reports whether the store has the output of an attempt: all of one that has ended, or what one that runs had
// printed when it was fetched.
func isKept(a *history.Attempt) bool {
	switch {
	case a.Pod == nil, a.Stored != nil && a.Stored.Exit != nil:
		return true
	case a.Pod.Ended:
		out := a.Pod.Outcome
		return out.NeverStarted || out.Counted() && out.OutputBytes+out.LostBytes == 0
	}
	return !a.Pod.Started || a.Stored != nil
}

// goes says what goes with a job; kept tells that its output was stored before.
func goes(j *history.Job, kept bool) string {
	var parts []string
	pods, running, unkept := 0, false, false
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Pod == nil {
			continue
		}
		pods++
		whole := a.Stored != nil && a.Stored.Exit != nil // the Pod may say so later; without it, what is stored may be old
		running = running || a.Pod.Started && !a.Pod.Ended && !a.Pod.Left && !whole
		unkept = unkept || !isKept(a) || a.Pod.Started && !a.Pod.Ended && !whole
	}
	switch pods {
	case 0:
	case 1:
		parts = append(parts, "its Pod")
	default:
		parts = append(parts, fmt.Sprintf("its %d Pods", pods))
	}
	if running {
		parts = append(parts, "the command that runs in it")
	}
	if unkept && !kept {
		parts = append(parts, "output that is not stored on this machine")
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + job.Words(parts)
}

// unseen is a sink for output that is only fetched.
type unseen struct{}

// Record drops the bytes.
func (unseen) Record(string, uint64, *hodeipb.Record, []byte) error { return nil }

// Gap drops what is missing: it is noted.
func (unseen) Gap(output.Gap) error { return nil }

// Flush does nothing.
func (unseen) Flush() error { return nil }
