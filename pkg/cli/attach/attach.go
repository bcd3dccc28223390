package attach

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/session"
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

func New(a *command.Env) *cobra.Command {
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
		ValidArgsFunction: a.CompleteLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := attachOptions(a, cmd, f, args[0])
			if err == nil {
				defer o.store.Close(o.Screen.Note)
				err = o.Run(cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	a.AddProviderFlag(cmd, flags, "Where the job runs")
	command.DecorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: write events to stdout.")
	command.UsageIntervalFlag(cmd, &f.usageInterval)
	command.MetricsFlag(cmd, &f.metricsAddr)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Options is what is to be attached to, and how it is shown.
type Options struct {
	*session.Config
	signals     *signals.Set
	metricsAddr string // where usage is shown to Prometheus; empty: nowhere
	jobName     string
	finder      *history.Finder
	store       *place.Store
	sink        func(job string) output.Sink
	viewer      *joblog.Viewer // of the attempts that are over
}

// attachOptions turns flags into options. The caller closes their store.
func attachOptions(a *command.Env, cmd *cobra.Command, f attachFlags, name string) (*Options, error) {
	switch {
	case f.output != "" && f.output != "json" && f.output != "yaml":
		return nil, command.Usagef(cmd, "-o %q: want json or yaml", f.output)
	case f.output != "" && (f.timestamps || f.prefix):
		return nil, command.Usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	if err := command.CheckUsageInterval(cmd, f.usageInterval, f.output != ""); err != nil {
		return nil, err
	}
	metricsAddr, err := command.MetricsAddress(cmd, f.metricsAddr)
	if err != nil {
		return nil, err
	}
	o := &Options{
		Config: a.Followed(session.Config{Follow: true, UsageInterval: f.usageInterval}), signals: a.Signals, metricsAddr: metricsAddr,
	}
	if f.output != "" {
		o.Events = &output.Events{Out: a.Out, YAML: f.output == "yaml"}
	}
	o.Screen = command.NewScreen(a, f.quiet || o.Events != nil)
	shown := output.Options{Timestamps: f.timestamps, Prefix: f.prefix}
	if o.Events != nil {
		shown = output.Options{Events: o.Events}
	}
	o.jobName, o.sink = name, a.Streams().Sinks(shown)
	if o.finder, o.store, err = a.Finder(true, o.Screen.Note); err != nil {
		return nil, err
	}
	o.finder.Patient = true
	o.viewer = joblog.New(o.finder, o.sink)
	o.viewer.EndSaid, o.viewer.StoreDir = true, o.store.Dir
	return o, nil
}

func (o *Options) Run(ctx context.Context) error {
	j, err := o.finder.Find(ctx, o.jobName)
	switch {
	case err != nil:
		return err
	case j.Found == nil:
		return onlyStored(j)
	case j.Found.Finished:
		return o.ended(ctx, j)
	}
	stopMetrics, err := o.ServeMetrics("attach", o.metricsAddr)
	if err != nil {
		return err
	}
	defer stopMetrics()
	o.Spec, o.Place = j.Found.Spec, place.Cluster{Provider: o.finder.Cluster}
	if err := o.chooseTunnel(ctx, j.Found); err != nil {
		return err
	}
	heard, stop := o.signals.ForSession()
	defer stop()
	run, err := o.finder.Cluster.Attach(ctx, j.Found, kubernetes.RunOptions{NoTunnel: o.Fallback})
	if err != nil {
		return err
	}
	defer o.Screen.Stop()
	for _, note := range run.Notes() {
		o.Screen.Note(note)
	}
	s := &session.Session{Config: o.Config, Job: run, Store: o.store, Signals: heard, StopSignals: stop, Attached: true,
		Sink: o.sink(j.Name), Before: map[string][]job.Event{}}
	for _, a := range j.Found.Attempts {
		s.Before[a.Name] = a.Phases
	}
	if !o.Fallback { // else its container's log is followed to the end, and was shown
		s.Unmet = func(ctx context.Context, attempt string) error {
			return o.passedOver(s.Follower, o.viewer.ShowEnded(ctx, j, attempt))
		}
	}
	return s.Run(ctx, func(f *session.Follower) { o.earlier(f, j) })
}

// keeps says what keeps an ended job from completing; "" is nothing.
func keeps(found *kubernetes.Found) string {
	if n := len(found.Attempts); n > 0 {
		return kubernetes.Keeps(found.Job.Namespace, found.Job.Name, found.Attempts[n-1].Others)
	}
	return ""
}

// chooseTunnel falls back to the container's log where the tunnel is forbidden.
func (o *Options) chooseTunnel(ctx context.Context, found *kubernetes.Found) error {
	may, err := o.finder.Cluster.MayTunnel(ctx)
	switch {
	case err != nil || may:
		return err
	case !found.Spec.ContainerLogs:
		return errNoTunnel(found)
	}
	o.Fallback = true
	return nil
}

// earlier has the attempts displayed that are over. What is missing of them is
// said; whether the job succeeded is for the one that runs to say.
func (o *Options) earlier(f *session.Follower, j *history.Job) {
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Pod != nil && !a.Pod.Ended {
			continue
		}
		f.ShowBefore(a.Name, func(ctx context.Context) error { return o.viewer.Loss(o.viewer.ShowOver(ctx, j, a)) })
	}
}

// passedOver has the follower know what is missing of an attempt that was shown
// with err.
func (o *Options) passedOver(f *session.Follower, err error) error {
	err = o.viewer.Loss(err)
	f.Misses(o.viewer.Missed())
	return err
}

// errNoTunnel is of a job that can be followed in no way.
func errNoTunnel(found *kubernetes.Found) error {
	text := "the tunnel to job %s is forbidden (create pods/portforward), and it keeps no output in its container's log"
	return &job.Failure{Cause: job.Forbidden, Message: fmt.Sprintf(text, found.Spec.Name),
		Hint: "ask for the right, or run it with --container-logs"}
}

// onlyStored is of a job that this machine remembers and no cluster has: how it
// ended may be another job's end.
func onlyStored(j *history.Job) error {
	err := j.Absent
	if f, ok := errors.AsType[*job.Failure](err); ok && f.Cause == job.Forbidden {
		return f // its hint is what helps
	}
	if err == nil {
		err = fmt.Errorf("job %s is over: its output is stored here", j.Name)
	}
	return &job.Hinted{Err: err, Hint: "{hodei} logs " + shell.Quote(j.Name)}
}

// ended shows a job that is over, and ends with its exit code.
func (o *Options) ended(ctx context.Context, j *history.Job) error {
	ctx, stop := o.signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	err := o.viewer.Loss(o.viewer.Show(ctx, j))
	switch {
	case ctx.Err() != nil:
		return signals.InterruptedBy(ctx, nil)
	case err != nil:
		return err
	}
	o.Spec, o.Place = j.Found.Spec, place.Cluster{Provider: o.finder.Cluster}
	outcome := j.Found.Outcome
	if n := len(j.Attempts); n > 0 {
		outcome = history.EndOf(j.Found, n, o.finder.PastRun(j, &j.Attempts[n-1]).Outcome)
	}
	for _, a := range j.Attempts {
		if a.Stored != nil && (a.Name == outcome.Attempt || len(j.Attempts) == 1) {
			o.Samples = history.StoredSamples(o.store.Store, a.Stored.Key)
		}
	}
	if err := o.Told(keeps(j.Found)); err != nil {
		return err
	}
	return o.ConcludeWith(outcome, o.viewer.Missed(), "")
}
