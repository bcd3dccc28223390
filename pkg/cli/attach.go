package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// attachFlags are the flags of attach, as they were typed.
type attachFlags struct {
	quiet, timestamps, prefix bool
	output, provider          string
}

func (a *app) newAttach() *cobra.Command {
	var f attachFlags
	cmd := &cobra.Command{
		Use:                   "attach NAME",
		DisableFlagsInUseLine: true,
		Short:                 "Follow a job that runs, and end with its exit code",
		Long: templates.LongDesc(`
			Follow a job as 'hodei run' does, from the beginning of its output, and end with
			its exit code: from any machine, and as often as one likes. What is stored here of
			the output comes from here.

			Ctrl-C leaves the job running. A job that has ended is shown as by 'hodei logs'.

			Exit codes are those of 'hodei run'.`),
		Example: templates.Examples(`
			# Come back to a job
			hodei attach hodei-make-k3x9z

			# All that happens, as events
			hodei attach -o json hodei-make-k3x9z`),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.attachOptions(cmd, f, args[0])
			if err == nil {
				defer o.logs.store.close()
				err = o.run(cmd.Context())
			}
			return asRun(err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	flags.StringVar(&f.provider, "provider", "", "Where the job runs: a name of 'hodei provider list'. Default: the one in use, else the current kube context.")
	decorationFlags(cmd, &f.timestamps, &f.prefix)
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: all that happens as events on stdout.")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("provider", a.completeProvider)
	return cmd
}

// attachOptions is what is to be attached to, and how it is shown.
type attachOptions struct {
	runOptions
	logs *logsOptions // of the attempts that are over
}

// attachOptions turns flags into options. The caller closes their store.
func (a *app) attachOptions(cmd *cobra.Command, f attachFlags, name string) (*attachOptions, error) {
	switch {
	case f.output != "" && f.output != "json" && f.output != "yaml":
		return nil, usagef(cmd, "-o %q: want json or yaml", f.output)
	case f.output != "" && (f.timestamps || f.prefix):
		return nil, usagef(cmd, "-o %s has no decorated lines: leave --timestamps and --prefix out", f.output)
	}
	o := &attachOptions{runOptions: runOptions{app: a, follow: true}}
	if f.output != "" {
		o.events = &eventWriter{out: a.Out, yaml: f.output == "yaml"}
	}
	o.screen = newScreen(a, f.quiet || o.events != nil)
	o.logs = &logsOptions{app: a, screen: o.screen, name: name, tail: -1}
	o.logs.sink = a.newSink(false, f.timestamps, f.prefix, hodeipb.Stream_STREAM_UNSPECIFIED)
	if o.events != nil {
		o.logs.sink = func(string) sink { return o.events }
	}
	if err := o.logs.choose(f.provider); err != nil {
		return nil, err
	}
	var err error
	o.logs.store, err = a.openStore(true)
	return o, err
}

func (o *attachOptions) run(ctx context.Context) error {
	j, err := o.logs.find(ctx)
	if err != nil {
		return err
	}
	if j.found == nil || j.found.Finished {
		return o.ended(ctx, j)
	}
	o.spec, o.place = j.found.Spec, cluster{o.logs.cluster}
	if err := o.chooseTunnel(ctx, j.found); err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	signal.Ignore(syscall.SIGPIPE) // a closed stdout is an error like any other
	run, id, err := o.logs.cluster.Attach(ctx, j.found)
	if err != nil {
		return err
	}
	var tlsConfig *tls.Config
	if id != nil {
		if tlsConfig, err = id.ServerConfig(); err != nil {
			run.Close()
			return err
		}
	}
	defer o.screen.stop()
	s := &session{runOptions: &o.runOptions, job: run, store: o.logs.store, signals: signals, attached: true, sink: o.logs.sink(j.name)}
	if !o.fallback { // else its container's log is followed to the end, and was shown
		s.unmet = func(ctx context.Context, attempt string) error { return o.noted(o.logs.showEnded(ctx, j, attempt)) }
	}
	return s.follow(ctx, tlsConfig, func(f *follower) { o.earlier(f, j) })
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

// earlier has the attempts displayed that are over.
func (o *attachOptions) earlier(f *follower, j *knownJob) {
	for i := range j.attempts {
		a := &j.attempts[i]
		if a.pod != nil && !a.pod.Ended {
			continue
		}
		f.showBefore(a.name, func(ctx context.Context) error { return o.noted(o.logs.showOver(ctx, j, a)) })
	}
}

// noted turns the news that an output is not there into a note: it does not change
// how a job ended.
func (o *attachOptions) noted(err error) error {
	if h, ok := errors.AsType[*hinted](err); ok {
		o.screen.note(h.Error())
		return nil
	}
	return err
}

// ended shows a job that is over, and ends with its exit code.
func (o *attachOptions) ended(ctx context.Context, j *knownJob) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer context.AfterFunc(ctx, stop)()
	defer stop()
	err := o.noted(o.logs.show(ctx, j))
	switch {
	case ctx.Err() != nil:
		return &exitError{code: job.ExitCancelled}
	case err != nil:
		return err
	}
	outcome := &job.Outcome{Cause: job.Unknown, Message: "no end of the job is stored on this machine"}
	o.spec = &job.Spec{Name: j.name}
	if n := len(j.attempts); j.found != nil {
		outcome, o.spec = j.found.Outcome, j.found.Spec
	} else if stored := j.attempts[n-1].stored; stored.Exit != nil {
		outcome = coordinator.Outcome(stored.Exit)
	}
	return o.conclude(outcome, nil)
}
