// Package logs is the command hodei logs: it shows what a job has printed, or several jobs. [New] makes the command,
// [Options] is what one of them shows. How the output is found and fetched is in pkg/joblog.
package logs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "logs NAME | -l SELECTOR [options]",
		Short: "Show the output of a job",
		Long: templates.LongDesc(`
			Show what a job has printed: its stdout on stdout, its stderr on stderr, byte for
			byte unless --timestamps, --prefix or -l decorate the lines.

			The output of a job that runs is fetched from its agent and kept on this machine; the
			next time only new output is fetched. (What --tail or --since fetch is not kept if
			this machine has none of that output yet.) The output of a job that has ended comes
			from this machine, even after the job was deleted, else from its container's log,
			which the kubelet may have cut. If output is missing, stderr says so and the exit code
			is 1.

			The output of a job that had a terminal (run -t) has sequences in it that a terminal
			answers. On a terminal all but text, colours and movements are left out; -o raw and a
			pipe get every byte.

			-l chooses up to 50 jobs by their labels. -f does not pick up jobs that appear
			later.

			The output is kept in $XDG_STATE_HOME/hodei/jobs, else ~/.local/state/hodei/jobs:
			HODEI_LOG_MAX_BYTES of it (10Gi), for HODEI_LOG_MAX_AGE (168h).`),
		Example: templates.Examples(`
			# What a job has printed up to now
			hodei logs hodei-make-k3x9z

			# The last 20 lines, and what comes, with the time of each line
			hodei logs -f --tail 20 --timestamps hodei-make-k3x9z

			# What it wrote to stderr in the last ten minutes
			hodei logs --since 10m --stream stderr hodei-make-k3x9z

			# All jobs of a build, each line with its job's name
			hodei logs -f -l build=1234

			# The output of the first attempt, for a program
			hodei logs --attempt 1 -o json hodei-make-k3x9z`),
		Args:              command.Names(0, 1),
		ValidArgsFunction: env.CompleteLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return err
			}
			o, err := complete(env, f, args)
			if err != nil {
				return err
			}
			defer o.store.Close(o.note)
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "Show new output too, until the job ends.")
	flags.DurationVar(&f.since, "since", 0, "Show only output of the last 10m, 2h, ... Default: all.")
	flags.IntVar(&f.tail, "tail", -1, "Show only the last N lines. Default: all.")
	flags.StringVar(&f.stream, "stream", "", "Show only stdout or stderr. Default: both.")
	flags.IntVar(&f.attempt, "attempt", 0,
		"Show this attempt: 1 is the first that the cluster or this machine still knows. Default: the last, and with -f the later ones.")
	flags.StringVarP(&f.selector, "selector", "l", "", "Show the jobs with these labels: key=value,..., as in kubectl.")
	env.AddProviderFlag(cmd, flags, "Where the job ran")
	command.DecorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "raw: byte for byte. json: one event a line. Default: raw, or decorated lines.")
	for flag, words := range map[string][]string{"output": {"json", "raw"}, "stream": {"stdout", "stderr"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// typedFlags are the flags of logs, as they were typed.
type typedFlags struct {
	follow, timestamps, prefix bool
	since                      time.Duration
	tail, attempt              int
	stream, selector, output   string
}

// streams are the values of --stream.
var streams = map[string]hodeipb.Stream{
	"": hodeipb.Stream_STREAM_UNSPECIFIED, "stdout": hodeipb.Stream_STDOUT, "stderr": hodeipb.Stream_STDERR,
}

// check returns what is wrong with the command line. It sets prefix where -l asks for it.
func (f *typedFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 && f.selector == "":
		return command.Usagef(cmd, "no job: name it, or choose some with -l")
	case len(args) == 1 && f.selector != "":
		return command.Usagef(cmd, "a job is named by its NAME, or chosen by -l, not both")
	case f.since < 0:
		return command.Usagef(cmd, "--since %s: must not be negative", f.since)
	case f.tail < -1:
		return command.Usagef(cmd, "--tail %d: must not be negative", f.tail)
	case f.attempt < 0 || cmd.Flags().Changed("attempt") && f.attempt == 0:
		return command.Usagef(cmd, "--attempt %d: the first one is 1", f.attempt)
	case f.attempt > 0 && f.selector != "":
		return command.Usagef(cmd, "--attempt takes one job: leave -l out")
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return command.Usagef(cmd, "--selector %q: %w", f.selector, err)
	}
	if _, known := streams[f.stream]; !known {
		return command.Usagef(cmd, "--stream %q: want stdout or stderr", f.stream)
	}
	f.prefix = f.prefix || f.selector != "" && f.output == "" && !cmd.Flags().Changed("prefix")
	return f.checkOutput(cmd)
}

// checkOutput returns what is wrong with the flags that say how the output is written.
func (f *typedFlags) checkOutput(cmd *cobra.Command) error {
	switch {
	case f.output != "" && f.output != "raw" && f.output != "json":
		return command.Usagef(cmd, "-o %q: want json or raw", f.output)
	case f.output == "raw" && f.selector != "":
		return command.Usagef(cmd, "-o raw takes one job: the bytes of several can't be told apart")
	case f.output != "" && (f.timestamps || f.prefix):
		return command.Usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	return nil
}

// complete turns arguments and flags that check has passed into options. The caller closes their store.
func complete(env *command.Env, f typedFlags, args []string) (*Options, error) {
	o := &Options{selector: f.selector, note: command.NewScreen(env, false).Note}
	if len(args) == 1 {
		o.name = args[0]
	}
	shown := output.Options{Lines: f.selector != "", Timestamps: f.timestamps, Prefix: f.prefix, Stream: streams[f.stream]}
	if f.output == "json" {
		shown.Events = &output.Events{Out: env.Out}
	}
	var err error
	if o.finder, o.store, err = env.Finder(false, o.note); err != nil {
		return nil, err
	}
	o.finder.Patient = f.follow
	o.viewer = joblog.New(o.finder, env.Streams().Sinks(shown))
	o.viewer.Follow, o.viewer.Tail, o.viewer.Attempt = f.follow, f.tail, f.attempt
	o.viewer.Stream, o.viewer.StoreDir = shown.Stream, o.store.Dir
	o.viewer.Tame = f.output == "" && terminal.Is(env.Stdout())
	if f.since > 0 {
		o.viewer.Since = time.Now().Add(-f.since)
	}
	return o, nil
}

// Options is which jobs' output to show, and what that needs. [New] fills it in.
type Options struct {
	name, selector string // one of them is empty
	finder         *history.Finder
	viewer         *joblog.Viewer
	store          *place.Store
	note           func(text string) // tells a person something beside the output
}

// Run shows the output, and with --follow what comes, until the jobs or ctx end. If some of it is missing, which was
// said, the error is a job.ExitError alone.
func (o *Options) Run(ctx context.Context) error {
	o.store.Tell(o.note)
	show := o.showOne
	if o.selector != "" {
		show = o.showAll
	}
	err := show(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err == nil && o.viewer.Missed() != "":
		return &job.ExitError{Code: command.ExitFailed}
	}
	return err
}

// showOne shows the job that was named.
func (o *Options) showOne(ctx context.Context) error {
	j, err := o.finder.Find(ctx, o.name)
	if err != nil {
		return err
	}
	switch {
	case errors.Is(j.Absent, kubernetes.ErrNotFound):
		o.note(fmt.Sprintf("not in the cluster: this is the output of a job of %s that is stored here",
			j.Attempts[0].Stored.Created.Local().Format(time.DateTime)))
	case j.Absent != nil:
		o.note(fmt.Sprintf("this is what is stored here: %v", j.Absent))
	}
	err = o.viewer.Show(ctx, j)
	if err == nil && o.viewer.Follow && kubernetes.Unanswered(j.Absent) {
		err = j.Absent // more was asked for than what is stored
	}
	return err
}

// showAll shows the jobs that the selector chooses, all at the same time.
func (o *Options) showAll(ctx context.Context) error {
	all, err := o.finder.Select(ctx, o.selector)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		o.note(fmt.Sprintf("No jobs found in %s namespace.", o.finder.Namespace))
		return nil
	case len(all) > follow.MaxJobs:
		return &job.Hinted{Err: fmt.Errorf("%d jobs match -l %s, %d can be shown at once", len(all), o.selector, follow.MaxJobs),
			Hint: "choose fewer: {hodei} jobs -l " + shell.Quote(o.selector) + " --show-labels"}
	}
	errs := make([]error, len(all))
	var work sync.WaitGroup
	for i, found := range all {
		work.Go(func() {
			if err := o.viewer.Show(ctx, o.finder.Known(found)); err != nil {
				errs[i] = fmt.Errorf("%s: %w", found.Spec.Name, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}
