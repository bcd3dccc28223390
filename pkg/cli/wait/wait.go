// Package wait is the command hodei wait: it waits until jobs run or have ended, and ends with their exit code. [New]
// makes the command, and [Options.Run] is one wait. How one job is waited for is in await.go, and the pure functions
// standing and code say when it is over and with which exit code.
package wait

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/selection"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// maxJobs bounds the jobs that are waited for at once: each takes some watches of the API server, and 100 of them some
// 10 MiB here.
const maxJobs = 100

// Values of --for.
const (
	forEnded   = "ended"
	forRunning = "running"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{}
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "wait NAME... | -l SELECTOR | --all",
		Short: "Wait for jobs, and end with their exit code",
		Long: templates.LongDesc(`
			Wait until jobs have ended or, with --for running, until their commands run. Of several
			jobs all are waited for, or with --any the first.

			The exit code is the job's own, as 'hodei run' has it: 130 if it was cancelled, 125 if
			the cluster or hodei failed it or there is no such job. Of several jobs it is the first
			that is not 0, in the order of their names on the command line; with --any it is that
			of the job that ended first.

			After --timeout, or if a job can't run any more that was to run, the exit code is 1.
			Ctrl-C ends the waiting and leaves the jobs alone. hodei waits out an API server that
			is restarted.`),
		Example: templates.Examples(`
			# Wait for a job, and end as it does
			hodei wait hodei-make-k3x9z

			# Wait for all jobs of a build, for at most an hour
			hodei wait -l build=1234 --timeout 1h

			# Wait for the first of two to end
			hodei wait --any first second

			# Send a signal once the command runs
			hodei wait --for running hodei-make-k3x9z && hodei signal hodei-make-k3x9z USR1`),
		Args:              cobra.ArbitraryArgs, // checked together with the flags
		ValidArgsFunction: env.CompleteJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := f.complete(env, cmd, args, o)
			if err == nil {
				err = env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
			}
			return command.AsRun(err)
		},
	}
	f.selection.Add(cmd, "Wait for")
	flags := cmd.Flags()
	flags.StringVar(&o.For, "for", forEnded, "ended, or running: the command has been started.")
	flags.BoolVar(&o.Any, "any", false, "Wait for one of the jobs, not for all.")
	flags.DurationVar(&o.Timeout, "timeout", 0, "Give up after this time, with exit code 1. Default: never.")
	env.AddProviderFlag(cmd, flags, "Where the jobs run")
	f.action.Add(cmd, "")
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions([]string{forEnded, forRunning}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// typedFlags are the flags of wait that complete turns into options.
type typedFlags struct {
	selection command.SelectionFlags
	action    command.ActionFlags
}

// complete turns arguments and flags into options.
func (f *typedFlags) complete(env *command.Env, cmd *cobra.Command, args []string, o *Options) (err error) {
	if o.Selection, err = f.selection.Selection(cmd, args); err != nil {
		return err
	}
	switch {
	case o.For != forEnded && o.For != forRunning:
		return command.Usagef(cmd, "--for %q: want %s or %s", o.For, forEnded, forRunning)
	case cmd.Flags().Changed("timeout") && o.Timeout <= 0:
		return command.Usagef(cmd, "--timeout %s: must be more than zero", o.Timeout)
	}
	if o.Print, err = f.action.Printer(cmd, env.Out); err != nil {
		return err
	}
	acted := command.ActedOn{Done: "waited for", Here: "follow it to its end, with its exit code: {hodei} attach NAME"}
	if o.Cluster, err = env.JobsCluster(o.Selection, acted); err != nil {
		return err
	}
	o.Note, o.Fail = command.NewScreen(env, f.action.Quiet()).Note, env.ShowError
	return nil
}

// Options is which jobs are waited for, and until when. Selection, Cluster, For, Print, Note and Fail are required.
type Options struct {
	Selection selection.Selection
	Cluster   *kubernetes.Provider
	// For is "ended" or "running".
	For string
	Any bool
	// Timeout bounds the wait; 0: nothing does.
	Timeout time.Duration
	// Print prints a job that has come so far, and how. Note tells a person why somebody has to wait, and Fail what is
	// wrong with one job. They may be called by several goroutines.
	Print func(j *batchv1.Job, how string) error
	Note  func(text string)
	Fail  func(err error)
}

// errTimeout ends the wait after Timeout.
var errTimeout = errors.New("timed out")

// Run waits. The error is a job.ExitError alone if the exit code says all, or if the rest was told.
func (o *Options) Run(ctx context.Context) error {
	waiting, stop := ctx, func() {}
	if o.Timeout > 0 {
		waiting, stop = context.WithTimeoutCause(ctx, o.Timeout, errTimeout)
	}
	defer stop()
	found, missing, err := (&selection.Finder{Cluster: o.Cluster, Patient: true, Note: o.Note}).Find(waiting, o.Selection)
	switch {
	case errors.Is(context.Cause(waiting), errTimeout):
		return o.timedOut(o.Selection.Names)
	case err != nil:
		return err
	case len(found)+len(missing) == 0:
		return &job.Hinted{Err: fmt.Errorf("no jobs to wait for in namespace %s", o.Cluster.Namespace()),
			Hint: "{hodei} jobs --show-labels"}
	case len(found) > maxJobs:
		return &job.Hinted{Err: fmt.Errorf("%d jobs are chosen, %d can be waited for at once", len(found), maxJobs),
			Hint: "choose fewer: {hodei} jobs --show-labels"}
	}
	for _, err := range missing {
		o.Fail(err)
	}
	ends := o.awaitAll(waiting, found)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case waiting.Err() != nil && !(o.Any && slices.ContainsFunc(ends, func(e end) bool { return e.over })):
		var late []string
		for i, e := range ends {
			if !e.over {
				late = append(late, found[i].Spec.Name)
			}
		}
		if len(late) > 0 {
			return o.timedOut(late)
		}
	}
	if c := code(ends, o.Any, len(missing)); c != 0 {
		return &job.ExitError{Code: c}
	}
	return nil
}

// end is how the wait for one job ended.
type end struct {
	over bool // false: somebody stopped waiting
	at   int  // of those that are over: how many were before it
	code int
	// how is printed behind the job's name, unless err says why it could not come so far.
	how string
	err error
}

// code returns the exit code of all: with anyJob that of the job that was over first, else the first that is not 0. missing
// is how many names have no job.
func code(ends []end, anyJob bool, missing int) int {
	first := -1
	for i, e := range ends {
		switch {
		case !e.over:
		case !anyJob && e.code != 0:
			return e.code
		case anyJob && (first < 0 || e.at < ends[first].at):
			first = i
		}
	}
	switch {
	case anyJob && first >= 0:
		return ends[first].code
	case missing > 0:
		return job.ExitFailed
	}
	return 0
}

// awaitAll waits for the jobs, or with Any for the first of them, and tells of each that is over.
func (o *Options) awaitAll(ctx context.Context, found []*kubernetes.Found) []end {
	ends := make([]end, len(found))
	for i, f := range found { // of several that have ended already, the first counts
		if e, over := standing(f, o.For); over && o.Any && e.err == nil {
			e.over = true
			o.tell(f, &e)
			ends[i] = e
			return ends
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	var mu sync.Mutex
	over, hopeless := 0, -1 // hopeless is the first of those that will not come so far, and counts if all are
	for i, f := range found {
		work.Go(func() {
			e := o.await(ctx, f)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !e.over, o.Any && over > 0:
				return
			case o.Any && e.err != nil:
				if hopeless < 0 {
					hopeless = i
				}
				ends[i].code, ends[i].err = e.code, e.err
				return
			}
			e.at = over
			over++
			o.tell(f, &e)
			ends[i] = e
			if o.Any {
				stop()
			}
		})
	}
	work.Wait()
	if hopeless >= 0 && over == 0 && ctx.Err() == nil {
		ends[hopeless].over = true
		o.tell(found[hopeless], &ends[hopeless])
	}
	return ends
}

// tell tells of a job that is over.
func (o *Options) tell(found *kubernetes.Found, e *end) {
	if e.err == nil {
		e.err = o.Print(found.Job, e.how)
		if e.err != nil {
			e.code = job.ExitFailed
		}
	}
	if e.err != nil {
		o.Fail(e.err)
	}
}

// timedOut is the error of a wait that took too long for the named jobs; none: for the cluster.
func (o *Options) timedOut(names []string) error {
	what, hint := "the cluster", "{hodei} jobs"
	if len(names) > 0 {
		what, hint = "job "+names[0], "{hodei} describe "+shell.Quote(names[0])
	}
	if len(names) > 1 {
		what = "jobs " + job.Words(names)
	}
	verb := map[string]string{forEnded: "to end", forRunning: "to run"}[o.For]
	err := fmt.Errorf("timed out after %s waiting for %s %s", strings.TrimSuffix(o.Timeout.String(), "0s"), what, verb)
	return &job.ExitError{Code: command.ExitFailed, Err: &job.Hinted{Err: err, Hint: hint}}
}
