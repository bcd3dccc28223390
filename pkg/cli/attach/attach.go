// Package attach is the command hodei attach: it follows a job that was made before to its end, or shows one that has
// ended. Start with [New]; [Options.Run] is all that one attach does. How a job is followed is pkg/session's, and how
// an attempt that is over is shown pkg/joblog's.
package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typed
	cmd := &cobra.Command{
		Use:   "attach NAME",
		Short: "Follow a job that runs, and end with its exit code",
		Long: templates.LongDesc(`
			Follow a job as 'hodei run' does, from the beginning of its output, and end with
			its exit code. It works from any machine, and as often as you like. Output that is
			stored on this machine is not fetched again.

			Ctrl-C leaves the job running. With -i a job that waits for its input gets it from
			here; a job has one input, and whoever sent the first byte sends the rest. A job that
			has ended is shown as 'hodei logs' shows it. A job of this machine is followed too,
			but its input and its terminal stay with the 'hodei run' that started it.

			With -it the command's terminal is shown here from now on: what it has printed before
			is not, and the program draws its screen again. Ctrl-C is the command's then;
			--detach-keys leave it running. A terminal can be left and attached to again, by one
			hodei at a time.

			Exit codes are those of 'hodei run'.`),
		Example: templates.Examples(`
			# Come back to a job
			hodei attach hodei-make-k3x9z

			# Come back to a shell that was left with ctrl-] d
			hodei attach -it hodei-bash-k3x9z

			# Follow it as a stream of events
			hodei attach -o json hodei-make-k3x9z`),
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteLog,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(env, cmd, args[0])
			if err == nil {
				defer o.Store.Close(o.Screen.Note)
				err = run(o, cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	f.register(env, cmd)
	return cmd
}

// Options is what one attach does: which job it looks for where, and how it is shown.
type Options struct {
	// JobName is the job to attach to. Finder looks for it in the cluster and in Store, which also keeps its output.
	JobName string
	Finder  *history.Finder
	Store   *place.Store
	// In is sent to the command; nil: somebody else sends its input, if it has any.
	In io.Reader
	// TerminalOut shows the command's terminal, which is typed at In and left by DetachKeys; nil: it is not shown.
	TerminalOut io.Writer
	DetachKeys  terminal.Keys

	// Screen, Events and Named are those of a session.Teller.
	Screen *output.Screen
	Events *output.Events
	Named  func(hint string) string
	// Sinks makes the sink of a job's output, by its name. Viewer shows attempts that are over, on such sinks.
	Sinks  func(job string) output.Sink
	Viewer *joblog.Viewer

	// UsageInterval is that of a session.Config. MetricsAddr is where usage is shown to Prometheus; empty: nowhere.
	UsageInterval time.Duration
	MetricsAddr   string

	// Signals hears what the command is sent. Afterwards is that of a session.Config.
	Signals    *signals.Set
	Afterwards func(f func())
}

// Run follows the job, or shows it if it is over. Its error is that of [session.Run], or says why the job can't be
// followed.
func (o *Options) Run(ctx context.Context) error {
	j, err := o.Finder.Find(ctx, o.JobName)
	switch {
	case err != nil:
		return err
	case isHere(j):
		return o.here(ctx, j)
	case j.Found == nil:
		return onlyStored(j)
	case j.Found.Finished:
		return o.ended(ctx, j)
	}
	exporter, stopMetrics, err := session.ServeMetrics(ctx, "attach", o.MetricsAddr, o.Screen.Note)
	if err != nil {
		return err
	}
	defer stopMetrics()
	fallback, err := o.chooseTunnel(ctx, j.Found)
	if err != nil {
		return err
	}
	heard, stop := o.Signals.ForSession()
	defer stop()
	run, err := o.Finder.Cluster.Attach(ctx, j.Found, kubernetes.RunOptions{NoTunnel: fallback})
	if err != nil {
		return err
	}
	input, shown, closeInput, err := o.input(j.Found, fallback)
	if err != nil {
		run.Close()
		return err
	}
	defer closeInput()
	defer o.Screen.Stop()
	for _, note := range run.Notes() {
		o.Screen.Note(note)
	}
	c := session.Config{
		Teller: o.teller(j), Job: run, Attached: true, Follow: true, Fallback: fallback, Sink: o.sink(j), Store: o.Store,
		Input: input, Terminal: shown,
		UsageInterval: o.UsageInterval, Exporter: exporter, Earlier: o.earlier(j), Phases: phases(j.Found),
		Signals: heard, StopSignals: stop, Afterwards: o.Afterwards,
	}
	if shown != nil { // what was printed before is not shown to a terminal
		c.Earlier = nil
		return session.Run(ctx, c)
	}
	if !fallback { // else its container's log is followed to the end, and was shown
		c.ShowUnmet = func(ctx context.Context, attempt string) (missing string, err error) {
			err = o.Viewer.Loss(o.Viewer.ShowEnded(ctx, j, attempt))
			return o.Viewer.Missed(), err
		}
	}
	return session.Run(ctx, c)
}

// sink takes the output of a job that is followed.
func (o *Options) sink(j *history.Job) output.Sink {
	if o.Viewer.Tame && j.Found.Spec.TTY && o.TerminalOut == nil {
		return output.Tame(o.Sinks(j.Name))
	}
	return o.Sinks(j.Name)
}

// input is what is sent to the command, and where its terminal is shown; nil: nothing, and nowhere. The func ends
// both.
func (o *Options) input(found *kubernetes.Found, fallback bool) (*coordinator.Input, *terminal.Terminal, func(), error) {
	switch {
	case o.In == nil:
		return nil, nil, func() {}, nil
	case !found.Spec.Stdin:
		return nil, nil, nil, &job.Hinted{
			Err:  fmt.Errorf("job %s takes no input: it was made without -i", found.Spec.Name),
			Hint: "leave -i out: {hodei} attach " + found.Spec.Name,
		}
	case o.TerminalOut != nil && !found.Spec.TTY:
		return nil, nil, nil, &job.Hinted{
			Err:  fmt.Errorf("job %s has no terminal: it was made without -t", found.Spec.Name),
			Hint: "leave -t out: {hodei} attach -i " + found.Spec.Name,
		}
	case fallback:
		return nil, nil, nil, &job.Failure{Cause: job.Forbidden,
			Message: "the tunnel is forbidden (create pods/portforward), and without it no input reaches the command",
			Hint:    "leave -i out, or ask for the right"}
	}
	if o.TerminalOut == nil && found.Spec.TTY {
		return nil, nil, nil, &job.Hinted{
			Err:  fmt.Errorf("job %s has a terminal, where input ends with a key that is typed", found.Spec.Name),
			Hint: "sit at it: {hodei} attach -it " + found.Spec.Name,
		}
	}
	if o.TerminalOut == nil {
		input, end, err := session.NewInput(o.In)
		return input, nil, end, err
	}
	shown, err := terminal.Open(o.In, o.TerminalOut, o.DetachKeys)
	if err != nil {
		return nil, nil, nil, err
	}
	resized, stop := o.Signals.Resized()
	input, end := session.NewTerminalInput(shown, resized, true)
	return input, shown, func() {
		stop()
		end()
	}, nil
}

// isHere reports whether the job's last attempt is, or was, a process of this machine.
func isHere(j *history.Job) bool {
	n := len(j.Attempts)
	return j.Found == nil && n > 0 && j.Attempts[n-1].IsHere()
}

// here shows a job of this machine to its end, and ends with its exit code. Another hodei runs it and stores its output.
func (o *Options) here(ctx context.Context, j *history.Job) error {
	if j.Absent != nil { // a cluster was asked, and may have another job of that name
		return onlyStored(j)
	}
	last := &j.Attempts[len(j.Attempts)-1]
	if o.In != nil && o.Finder.RunsHere(last) {
		return &job.Hinted{
			Err:  fmt.Errorf("job %s is of this machine: its input comes from the \"run\" that started it", j.Name),
			Hint: "leave -i and -t out: {hodei} attach " + shell.Quote(j.Name),
		}
	}
	o.Viewer.Follow = true
	if err := o.show(ctx, j); err != nil {
		return err
	}
	spec, err := o.Finder.SpecOf(j)
	if err != nil {
		spec = &job.Spec{Name: j.Name}
	}
	outcome := o.Finder.PastRun(j, last).Outcome
	if outcome == nil {
		outcome = &job.Outcome{Cause: job.Unknown, Message: "its \"run\" on this machine ended before the command did"}
	}
	at := place.Machine{Provider: &local.Provider{}}
	t := session.Teller{Spec: spec, Place: at, Screen: o.Screen, Events: o.Events, Named: o.Named}
	return t.Conclude(outcome, o.samples(j, outcome), session.Missing{Output: o.Viewer.Missed()})
}

// ended shows a job that is over, and ends with its exit code.
func (o *Options) ended(ctx context.Context, j *history.Job) error {
	if err := o.show(ctx, j); err != nil {
		return err
	}
	outcome := j.Found.Outcome
	if n := len(j.Attempts); n > 0 {
		outcome = history.EndOf(j.Found, n, o.Finder.PastRun(j, &j.Attempts[n-1]).Outcome)
	}
	t := o.teller(j)
	if err := t.Note(keeps(j.Found)); err != nil {
		return err
	}
	return t.Conclude(outcome, o.samples(j, outcome), session.Missing{Output: o.Viewer.Missed()})
}

// show shows the output of a job that is over, until a signal.
func (o *Options) show(ctx context.Context, j *history.Job) error {
	ctx, stop := o.Signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	err := o.Viewer.Loss(o.Viewer.Show(ctx, j))
	if ctx.Err() != nil {
		return signals.InterruptedBy(ctx, nil)
	}
	return err
}

// samples returns the stored samples of a job that is over, of the attempt that the outcome is of.
func (o *Options) samples(j *history.Job, outcome *job.Outcome) (samples []job.Sample) {
	for _, a := range j.Attempts {
		if a.Stored != nil && (a.Name == outcome.Attempt || len(j.Attempts) == 1) {
			samples = history.StoredSamples(o.Store.Store, a.Stored.Key)
		}
	}
	return samples
}

// teller returns what tells the end of a job that was found.
func (o *Options) teller(j *history.Job) session.Teller {
	at := place.Cluster{Provider: o.Finder.Cluster}
	return session.Teller{Spec: j.Found.Spec, Place: at, Screen: o.Screen, Events: o.Events, Named: o.Named}
}

// keeps says what keeps an ended job from completing; "" is nothing.
func keeps(found *kubernetes.Found) string {
	if n := len(found.Attempts); n > 0 {
		return kubernetes.Keeps(found.Job.Namespace, found.Job.Name, found.Attempts[n-1].Others)
	}
	return ""
}

// chooseTunnel falls back to the container's log where the tunnel is forbidden.
func (o *Options) chooseTunnel(ctx context.Context, found *kubernetes.Found) (fallback bool, err error) {
	may, err := o.Finder.Cluster.MayTunnel(ctx)
	switch {
	case err != nil || may:
		return false, err
	case !found.Spec.ContainerLogs:
		return false, errNoTunnel(found)
	}
	return true, nil
}

// earlier returns the attempts that are over. What is missing of them is
// said; whether the job succeeded is for the one that runs to say.
func (o *Options) earlier(j *history.Job) (over []session.Earlier) {
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if a.Pod != nil && !a.Pod.Ended {
			continue
		}
		show := func(ctx context.Context) error { return o.Viewer.Loss(o.Viewer.ShowOver(ctx, j, a)) }
		over = append(over, session.Earlier{Attempt: a.Name, Show: show})
	}
	return over
}

// phases returns those of each attempt, by its name.
func phases(found *kubernetes.Found) map[string][]job.Event {
	known := map[string][]job.Event{}
	for _, a := range found.Attempts {
		known[a.Name] = a.Phases
	}
	return known
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
	return &job.Hinted{Err: err, Hint: "{hodei} logs " + shell.Quote(j.Name)}
}
