package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// logsFlags are the flags of logs, as they were typed.
type logsFlags struct {
	follow, timestamps, prefix bool
	since                      time.Duration
	tail, attempt              int
	stream, selector, output   string
}

func (a *app) newLogs() *cobra.Command {
	var f logsFlags
	cmd := &cobra.Command{
		Use:                   "logs NAME | -l SELECTOR [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Show the output of a job",
		Long: templates.LongDesc(`
			Show what a job has printed: its stdout on stdout, its stderr on stderr, byte for
			byte unless --timestamps, --prefix or -l decorate the lines.

			The output of a job that runs is fetched from its agent and kept on this machine; the
			next time only new output is fetched. (What --tail or --since fetch is not kept if
			this machine has none of that output yet.) The output of a job that has ended comes
			from this machine, even after the job was deleted, else from its container's log,
			which the kubelet may have cut. If output is missing, stderr says so and the exit code
			is 1.

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
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.logsOptions(cmd, f, args)
			if err != nil {
				return err
			}
			defer o.store.Close(o.screen.Note)
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "Show new output too, until the job ends.")
	flags.DurationVar(&f.since, "since", 0, "Show only output of the last 10m, 2h, ... Default: all.")
	flags.IntVar(&f.tail, "tail", -1, "Show only the last N lines. Default: all.")
	flags.StringVar(&f.stream, "stream", "", "Show only stdout or stderr. Default: both.")
	flags.IntVar(&f.attempt, "attempt", 0, "Show this attempt: 1 is the first that the cluster or this machine still knows. Default: the last, and with -f the later ones.")
	flags.StringVarP(&f.selector, "selector", "l", "", "Show the jobs with these labels: key=value,..., as in kubectl.")
	a.addProviderFlag(cmd, flags, "Where the job ran")
	decorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "raw: byte for byte. json: one event a line. Default: raw, or decorated lines.")
	for flag, words := range map[string][]string{"output": {"json", "raw"}, "stream": {"stdout", "stderr"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// decorationFlags are those by which lines are decorated.
func decorationFlags(cmd *cobra.Command, timestamps, prefix *bool) {
	cmd.Flags().BoolVar(timestamps, "timestamps", false, "Begin each line with the time at which its first byte was read (RFC 3339).")
	cmd.Flags().BoolVar(prefix, "prefix", false, "Begin each line with the names of the job and the stream. 'hodei logs -l' does so anyway.")
}

// completeLog completes the first argument to the name of a job in the cluster or
// in the log store.
func (a *app) completeLog(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	names, directive := a.completeJob(cmd, args, toComplete)
	dir, err := a.home().StoreDir()
	if err != nil || len(args) > 0 {
		return names, directive
	}
	namespaces := []string{local.Namespace}
	if _, c, err := a.chooseProvider(); err == nil && c.Type != provider.Local {
		namespaces = append(namespaces, c.Namespace)
	}
	for _, namespace := range namespaces {
		names = append(names, place.StoredJobs(dir, namespace)...)
	}
	slices.Sort(names)
	return slices.Compact(names), directive
}

// logsOptions turns flags into options. The caller closes their store.
func (a *app) logsOptions(cmd *cobra.Command, f logsFlags, args []string) (*logsOptions, error) {
	o := &logsOptions{app: a, follow: f.follow, patient: f.follow, tail: f.tail, attempt: f.attempt, selector: f.selector, screen: newScreen(a, false)}
	switch {
	case len(args) == 0 && f.selector == "":
		return nil, usagef(cmd, "no job: name it, or choose some with -l")
	case len(args) == 1 && f.selector != "":
		return nil, usagef(cmd, "a job is named by its NAME, or chosen by -l, not both")
	case f.since < 0:
		return nil, usagef(cmd, "--since %s: must not be negative", f.since)
	case f.tail < -1:
		return nil, usagef(cmd, "--tail %d: must not be negative", f.tail)
	case f.attempt < 0 || cmd.Flags().Changed("attempt") && f.attempt == 0:
		return nil, usagef(cmd, "--attempt %d: the first one is 1", f.attempt)
	case f.attempt > 0 && f.selector != "":
		return nil, usagef(cmd, "--attempt takes one job: leave -l out")
	}
	if len(args) == 1 {
		o.name = args[0]
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return nil, usagef(cmd, "--selector %q: %w", f.selector, err)
	}
	if f.since > 0 {
		o.since = time.Now().Add(-f.since)
	}
	switch f.stream {
	case "":
	case "stdout":
		o.stream = hodeipb.Stream_STDOUT
	case "stderr":
		o.stream = hodeipb.Stream_STDERR
	default:
		return nil, usagef(cmd, "--stream %q: want stdout or stderr", f.stream)
	}
	switch f.output {
	case "", "raw", "json":
	default:
		return nil, usagef(cmd, "-o %q: want json or raw", f.output)
	}
	if f.output == "raw" && f.selector != "" {
		return nil, usagef(cmd, "-o raw takes one job: the bytes of several can't be told apart")
	}
	prefix := f.prefix || f.selector != "" && f.output == "" && !cmd.Flags().Changed("prefix")
	if f.output != "" && (f.timestamps || prefix) {
		return nil, usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	shown := output.Options{Lines: f.selector != "", Timestamps: f.timestamps, Prefix: prefix, Stream: o.stream}
	if f.output == "json" {
		shown.Events = &output.Events{Out: a.Out}
	}
	o.sink = a.streams().Sinks(shown)
	var err error
	if err = o.choose(); err != nil {
		return nil, err
	}
	o.store, err = a.home().OpenStore(false)
	return o, err
}

// logsOptions is what of which job is to be shown.
type logsOptions struct {
	*app
	store  *place.Store
	screen *output.Screen
	sink   func(name string) output.Sink

	// cluster is where the job is looked for first, in namespace; nil: there is none,
	// and unreachable, if not nil, is why.
	cluster     *kubernetes.Provider
	unreachable error
	namespace   string

	name, selector string
	follow         bool
	patient        bool      // a cluster that does not answer is waited for
	since          time.Time // zero: from the start
	tail           int       // lines; below zero: all
	stream         hodeipb.Stream
	attempt        int  // from 1; 0: the last
	endSaid        bool // somebody else says how the job ended

	missed losses
}

// losses is what was said to be missing of outputs.
type losses struct {
	mu    sync.Mutex
	first string
}

func (l *losses) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = cmp.Or(l.first, text)
}

// said is the first of them; empty: nothing is missing.
func (l *losses) said() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// choose resolves the provider. One whose cluster can't be reached is no reason not
// to look into the store.
func (o *logsOptions) choose() error {
	name, c, err := o.chooseProvider()
	if err != nil {
		return err
	}
	if c.Type == provider.Local {
		o.namespace = local.Namespace
		return nil
	}
	o.namespace = c.Namespace
	o.cluster, o.unreachable = o.kubernetesProvider(name, c)
	return nil
}

func (o *logsOptions) run(ctx context.Context) error {
	o.store.Tell(o.screen.Note)
	ctx, stop := o.signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	var err error
	if o.selector != "" {
		err = o.showAll(ctx)
	} else {
		err = o.showOne(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return signals.InterruptedBy(ctx, nil)
	case err == nil && o.missed.said() != "":
		return &job.ExitError{Code: exitFailed} // what is missing was said
	}
	return err
}

func (o *logsOptions) showOne(ctx context.Context) error {
	j, err := o.find(ctx)
	if err != nil {
		return err
	}
	switch made := j.attempts; {
	case errors.Is(j.absent, kubernetes.ErrNotFound):
		o.screen.Note(fmt.Sprintf("not in the cluster: this is the output of a job of %s that is stored here", made[0].stored.Created.Local().Format(time.DateTime)))
	case j.absent != nil:
		o.screen.Note(fmt.Sprintf("this is what is stored here: %v", j.absent))
	}
	err = o.show(ctx, j)
	if err == nil && o.follow && kubernetes.Unanswered(j.absent) {
		err = j.absent // what is stored was not all that was asked for
	}
	return err
}

// showAll shows the jobs that the selector chooses, all at once.
func (o *logsOptions) showAll(ctx context.Context) error {
	if o.cluster == nil {
		return o.noSelection()
	}
	ask := func(ctx context.Context) ([]*kubernetes.Found, error) { return o.cluster.FindAll(ctx, o.selector) }
	all, err := kubernetes.Ask(ctx, o.patient, o.screen.Note, ask)
	switch {
	case err != nil:
		return err
	case len(all) == 0:
		o.screen.Note(fmt.Sprintf("No jobs found in %s namespace.", o.namespace))
		return nil
	case len(all) > follow.MaxJobs:
		return &job.Hinted{Err: fmt.Errorf("%d jobs match -l %s, %d can be shown at once", len(all), o.selector, follow.MaxJobs),
			Hint: "choose fewer: {hodei} jobs -l " + shell.Quote(o.selector) + " --show-labels"}
	}
	errs := make([]error, len(all))
	var work sync.WaitGroup
	for i, found := range all {
		work.Go(func() {
			if err := o.show(ctx, o.known(found)); err != nil {
				errs[i] = fmt.Errorf("%s: %w", found.Spec.Name, err)
			}
		})
	}
	work.Wait()
	return errors.Join(errs...)
}

// noSelection is why no jobs can be chosen by their labels.
func (o *logsOptions) noSelection() error {
	if o.unreachable != nil {
		return o.unreachable
	}
	return errors.New("-l needs a cluster: this machine keeps no list of jobs")
}

// saying is the job's sink, which says on stderr what is missing, and remembers it.
func (o *logsOptions) saying(name string) output.Sink {
	return sayingSink{o.sink(name), o}
}

type sayingSink struct {
	output.Sink
	options *logsOptions
}

func (s sayingSink) Gap(g output.Gap) error {
	s.options.missed.add(g.String())
	if err := s.Sink.Gap(g); err != nil {
		return err
	}
	s.options.screen.Note(g.String())
	return nil
}

// damaged says what of the store can't be read, which may have been of what is shown.
func (o *logsOptions) damaged(err error) {
	o.missed.add(err.Error())
	o.screen.Note(err.Error())
}
