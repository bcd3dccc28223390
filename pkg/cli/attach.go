package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// attachFlags are the flags of attach, as they were typed.
type attachFlags struct {
	quiet, timestamps, prefix bool
	output                    string
	usageInterval             time.Duration
	metricsAddr               string
}

func (a *app) newAttach() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:                   "attach NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Follow a job that runs, and end with its exit code",
		Long: templates.LongDesc(`
			Follow a job as 'hodei run' does, from the beginning of its output, and end with
			its exit code. It works from any machine, and as often as you like. Output that is
			stored on this machine is not fetched again.

			Ctrl-C leaves the job running. A job that has ended is shown as 'hodei logs' shows
			it.

			Exit codes are those of 'hodei run'.`),
		Example: templates.Examples(`
			# Come back to a job
			hodei attach hodei-make-k3x9z

			# Follow it as a stream of events
			hodei attach -o json hodei-make-k3x9z`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.attachOptions(cmd, f, args[0])
			if err == nil {
				defer o.logs.store.Close(o.logs.screen.Note)
				err = o.run(cmd.Context())
			}
			return asRun(err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	a.addProviderFlag(cmd, flags, "Where the job runs")
	decorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: write events to stdout.")
	usageIntervalFlag(cmd, &f.usageInterval)
	metricsFlag(cmd, &f.metricsAddr)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// attachOptions is what is to be attached to, and how it is shown.
type attachOptions struct {
	*following
	signals     *signals.Set
	metricsAddr string       // where usage is shown to Prometheus; empty: nowhere
	logs        *logsOptions // of the attempts that are over
}

// attachOptions turns flags into options. The caller closes their store.
func (a *app) attachOptions(cmd *cobra.Command, f attachFlags, name string) (*attachOptions, error) {
	switch {
	case f.output != "" && f.output != "json" && f.output != "yaml":
		return nil, usagef(cmd, "-o %q: want json or yaml", f.output)
	case f.output != "" && (f.timestamps || f.prefix):
		return nil, usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	if err := checkUsageInterval(cmd, f.usageInterval, f.output != ""); err != nil {
		return nil, err
	}
	metricsAddr, err := metricsAddress(cmd, f.metricsAddr)
	if err != nil {
		return nil, err
	}
	o := &attachOptions{
		following: a.followed(following{follow: true, usageInterval: f.usageInterval}), signals: a.signals, metricsAddr: metricsAddr,
	}
	if f.output != "" {
		o.events = &output.Events{Out: a.Out, YAML: f.output == "yaml"}
	}
	o.screen = newScreen(a, f.quiet || o.events != nil)
	o.logs = &logsOptions{app: a, screen: o.screen, name: name, tail: -1, endSaid: true, patient: true}
	o.logs.sink = a.streams().Sinks(output.Options{Timestamps: f.timestamps, Prefix: f.prefix})
	if o.events != nil {
		o.logs.sink = a.streams().Sinks(output.Options{Events: o.events})
	}
	if err := o.logs.choose(); err != nil {
		return nil, err
	}
	o.logs.store, err = a.home().OpenStore(true)
	return o, err
}

func (o *attachOptions) run(ctx context.Context) error {
	j, err := o.logs.find(ctx)
	switch {
	case err != nil:
		return err
	case j.found == nil:
		return onlyStored(j)
	case j.found.Finished:
		return o.ended(ctx, j)
	}
	stopMetrics, err := o.serveMetrics("attach", o.metricsAddr)
	if err != nil {
		return err
	}
	defer stopMetrics()
	o.spec, o.place = j.found.Spec, place.Cluster{Provider: o.logs.cluster}
	if err := o.chooseTunnel(ctx, j.found); err != nil {
		return err
	}
	heard, stop := o.signals.ForSession()
	defer stop()
	run, err := o.logs.cluster.Attach(ctx, j.found)
	if err != nil {
		return err
	}
	defer o.screen.Stop()
	if note := run.ClockNote(); note != "" {
		o.screen.Note(note)
	}
	s := &session{
		following: o.following, job: run, store: o.logs.store, signals: heard, stopSignals: stop,
		attached: true, sink: o.logs.sink(j.name), before: map[string][]job.Event{},
	}
	for _, a := range j.found.Attempts {
		s.before[a.Name] = a.Phases
	}
	if !o.fallback { // else its container's log is followed to the end, and was shown
		s.unmet = func(ctx context.Context, attempt string) error {
			return o.passedOver(s.follower, o.logs.showEnded(ctx, j, attempt))
		}
	}
	return s.follow(ctx, func(f *follower) { o.earlier(f, j) })
}

// keeps says what keeps an ended job from completing; "" is nothing.
func keeps(found *kubernetes.Found) string {
	if n := len(found.Attempts); n > 0 {
		return kubernetes.Keeps(found.Job.Namespace, found.Job.Name, found.Attempts[n-1].Others)
	}
	return ""
}

// chooseTunnel falls back to the container's log where the tunnel is forbidden.
func (o *attachOptions) chooseTunnel(ctx context.Context, found *kubernetes.Found) error {
	may, err := o.logs.cluster.MayTunnel(ctx)
	switch {
	case err != nil || may:
		return err
	case !found.Spec.ContainerLogs:
		return errNoTunnel(found)
	}
	o.fallback, o.logs.cluster.NoTunnel = true, true
	return nil
}

// earlier has the attempts displayed that are over. What is missing of them is
// said; whether the job succeeded is for the one that runs to say.
func (o *attachOptions) earlier(f *follower, j *knownJob) {
	for i := range j.attempts {
		a := &j.attempts[i]
		if a.pod != nil && !a.pod.Ended {
			continue
		}
		f.showBefore(a.name, func(ctx context.Context) error { return o.noted(o.logs.showOver(ctx, j, a)) })
	}
}

// passedOver has the follower know what is missing of an attempt that was shown
// with err.
func (o *attachOptions) passedOver(f *follower, err error) error {
	err = o.noted(err)
	f.misses(o.logs.missed.said())
	return err
}

// noted turns the news that an output is not there into a loss like any other: the
// job has ended as it has.
func (o *attachOptions) noted(err error) error {
	if gone, ok := errors.AsType[*goneError](err); ok {
		o.screen.Note(gone.Error())
		return o.logs.saying(gone.job).Gap(output.Gap{Attempt: gone.attempt, Bytes: gone.bytes})
	}
	if unread, ok := errors.AsType[*unreadError](err); ok {
		o.logs.missed.add(unread.Error())
		return nil
	}
	return err
}

// onlyStored is of a job that this machine remembers and no cluster has: how it
// ended may be another job's end.
func onlyStored(j *knownJob) error {
	err := j.absent
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Cause == job.Forbidden {
		return f // its hint is what helps
	}
	if err == nil {
		err = fmt.Errorf("job %s is over: its output is stored here", j.name)
	}
	return &job.Hinted{Err: err, Hint: "{hodei} logs " + shell.Quote(j.name)}
}

// ended shows a job that is over, and ends with its exit code.
func (o *attachOptions) ended(ctx context.Context, j *knownJob) error {
	ctx, stop := o.signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	err := o.noted(o.logs.show(ctx, j))
	switch {
	case ctx.Err() != nil:
		return signals.InterruptedBy(ctx, nil)
	case err != nil:
		return err
	}
	o.spec, o.place = j.found.Spec, place.Cluster{Provider: o.logs.cluster}
	outcome := j.found.Outcome
	if n := len(j.attempts); n > 0 {
		outcome = endOf(j.found, n, o.logs.pastRun(j, &j.attempts[n-1]).Outcome)
	}
	for _, a := range j.attempts {
		if a.stored != nil && (a.name == outcome.Attempt || len(j.attempts) == 1) {
			o.samples = storedSamples(o.logs.store, a.stored.Key)
		}
	}
	if err := o.told(keeps(j.found)); err != nil {
		return err
	}
	return o.concludeWith(outcome, o.logs.missed.said(), "")
}
