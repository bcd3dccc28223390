// Package signal is the command hodei signal: it sends a signal to the commands of jobs. [New] makes the command, and
// [Options.Run] sends the signal to the chosen jobs, through their agents.
package signal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
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
		Use:   "signal NAME... SIGNAL | -l SELECTOR SIGNAL | --all SIGNAL",
		Short: "Send a signal to the commands of jobs",
		Long: templates.LongDesc(`
			Send a signal to the commands of jobs that run. SIGNAL is a name with or without SIG,
			or a number, as with kill. The processes of the command's process group get it, as if
			they had been started by a shell here. The agent of each job passes it on, and says so.

			A job whose command has not started, or has ended, gets no signal: that is an error.

			To stop a job, use 'hodei cancel': after its time to end, it kills what is left.`),
		Example: templates.Examples(`
			# Have a program reread its settings
			hodei signal hodei-serve-k3x9z HUP

			# Have every Java program of a build write its threads to its output
			hodei signal -l build=1234 SIGQUIT

			# Freeze a job, and let it go on
			hodei signal hodei-make-k3x9z STOP
			hodei signal hodei-make-k3x9z CONT`),
		Args:              cobra.ArbitraryArgs, // checked together with the flags
		ValidArgsFunction: completeArgs(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.complete(env, cmd, args, o); err != nil {
				return err
			}
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	f.selection.Add(cmd, "Signal")
	env.AddProviderFlag(cmd, cmd.Flags(), "Where the jobs run")
	f.action.Add(cmd, "signaled")
	f.action.AddDryRun(cmd)
	return cmd
}

// completeArgs completes names of jobs and, behind one or where jobs are chosen by a flag, signals.
func completeArgs(env *command.Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
		chosen := cmd.Flags().Changed("selector") || cmd.Flags().Changed("all")
		if chosen {
			return signals.Names(), cobra.ShellCompDirectiveNoFileComp
		}
		names, directive := env.CompleteLiveJobs(cmd, args, toComplete)
		if len(args) > 0 {
			names = append(names, signals.Names()...)
		}
		return names, directive
	}
}

// typedFlags are the flags of signal that complete turns into options.
type typedFlags struct {
	selection command.SelectionFlags
	action    command.ActionFlags
}

// complete turns arguments and flags into options.
func (f *typedFlags) complete(env *command.Env, cmd *cobra.Command, args []string, o *Options) (err error) {
	if len(args) == 0 {
		return command.Usagef(cmd, "no signal: want NAME... SIGNAL")
	}
	names, last := args[:len(args)-1], args[len(args)-1]
	if o.Number, err = signals.Number(last); err != nil {
		return command.Usagef(cmd, "%w", err)
	}
	if o.Selection, err = f.selection.Selection(cmd, names); err != nil {
		return err
	}
	if o.Print, err = f.action.Printer(cmd, env.Out); err != nil {
		return err
	}
	o.DryRun = f.action.DryRun
	acted := command.ActedOn{Done: "signaled", Here: hintHere(o.Number), More: []string{last}}
	if o.Cluster, err = env.JobsCluster(o.Selection, acted); err != nil {
		return err
	}
	o.Note, o.Fail = command.NewScreen(env, f.action.Quiet()).Note, env.ShowError
	return nil
}

// hintHere says how a signal reaches a job of this machine, whose "run" is the process PID.
func hintHere(number int32) string {
	for _, passed := range signals.PassedOn {
		if passed == number {
			return "its \"run\" passes this one on: kill -s " + strings.TrimPrefix(signals.LinuxName(number), "SIG") + " PID"
		}
	}
	return "its \"run\" does not pass this one on; to end the job: kill PID"
}

// Options is which jobs get which signal. All fields are required.
type Options struct {
	Selection selection.Selection
	Cluster   *kubernetes.Provider
	// Number is the signal's on Linux.
	Number int32
	// DryRun is a value of --dry-run.
	DryRun string
	// Print prints a job whose command got the signal, and how. Note tells a person what else happens, and Fail what
	// went wrong with one job. They may be called by several goroutines.
	Print func(j *batchv1.Job, how string) error
	Note  func(text string)
	Fail  func(err error)
}

// Run sends the signal. What goes wrong with one job is told, and the others get it.
func (o *Options) Run(ctx context.Context) error {
	found, missing, err := (&selection.Finder{Cluster: o.Cluster}).Find(ctx, o.Selection)
	if err != nil {
		return err
	}
	for _, err := range missing {
		o.Fail(err)
	}
	if len(o.Selection.Names) == 0 {
		if found = running(found); len(found) == 0 {
			o.Note(fmt.Sprintf("No jobs run in %s namespace.", o.Cluster.Namespace()))
		}
	}
	failed := selection.Each(found, func(j *kubernetes.Found) error { return o.signal(ctx, j) }, func(err error) {
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

// running returns the jobs that an agent can be asked of: whether their commands run, it knows.
func running(jobs []*kubernetes.Found) (running []*kubernetes.Found) {
	for _, j := range jobs {
		if noCommand(j) == nil {
			running = append(running, j)
		}
	}
	return running
}

// noCommand says why a job, as it was found, has no command that could get a signal; nil: it may have one.
func noCommand(found *kubernetes.Found) error {
	name := found.Spec.Name
	var last kubernetes.Attempt
	if n := len(found.Attempts); n > 0 {
		last = found.Attempts[n-1]
	}
	switch {
	case found.Finished:
		return fmt.Errorf("job %s has ended: %s", name, found.Outcome.Summary())
	case found.Suspended() != nil:
		return found.Suspended()
	case last.Ended || last.Left:
		return fmt.Errorf("the command of job %s has ended", name)
	case !last.Running && !last.MayRun:
		return errNotStarted(name)
	}
	return nil
}

// errNotStarted is of a job whose command has not started: a signal would end it before it could have a handler.
func errNotStarted(name string) error {
	return &job.Hinted{
		Err:  fmt.Errorf("the command of job %s has not started: there is nothing to signal yet", name),
		Hint: "{hodei} wait --for running " + name,
	}
}

// signal sends the signal to one job.
func (o *Options) signal(ctx context.Context, found *kubernetes.Found) error {
	if err := noCommand(found); err != nil {
		return err
	}
	with := " with " + signals.LinuxName(o.Number)
	if o.DryRun != command.DryRunNone {
		return o.Print(found.Job, with)
	}
	name := found.Spec.Name
	confirmed, err := o.order(ctx, found)
	switch {
	case errors.Is(err, follow.ErrNoCommand):
		return errNotStarted(name)
	case errors.Is(err, follow.ErrEnded), errors.Is(err, follow.ErrNotMet):
		return fmt.Errorf("the command of job %s has ended", name)
	case errors.Is(err, follow.ErrLate):
		return &job.Hinted{Err: fmt.Errorf("job %s got no signal: its agent was not reached within %s", name, follow.MeetWait),
			Hint: "see how it is: {hodei} describe " + name}
	case err != nil:
		return &job.Hinted{Err: fmt.Errorf("job %s got no signal: %w", name, err), Hint: job.HintOf(err)}
	case !confirmed:
		o.Note(fmt.Sprintf("the agent of job %s is of an older version, and does not say whether it passed the signal on", name))
	}
	return o.Print(found.Job, with)
}

// order has the agent of the last attempt pass the signal on.
func (o *Options) order(ctx context.Context, found *kubernetes.Found) (confirmed bool, err error) {
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{})
	if err != nil {
		return false, err
	}
	defer run.Close()
	order := &follow.Order{
		Job: run, Namespace: o.Cluster.Namespace(), Name: found.Spec.Name, JobUID: run.UID(),
		AttemptUID: found.Attempts[len(found.Attempts)-1].UID,
		Slow: func() {
			o.Note(fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, found.Spec.Name))
		},
		TurnedAway: func(fault *coordinator.Fault) { o.Note(follow.FaultNote(fault)) },
	}
	return order.Signal(ctx, o.Number)
}
