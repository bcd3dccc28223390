package top

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

const (
	// lookEvery is how often hodei top looks for jobs that have come or gone: two
	// requests, and not later than a person would look again.
	lookEvery = 2 * time.Second
	// onceWait is how long --once waits for the agents: a tunnel is there within a
	// second, unless it is not to be had.
	onceWait = 10 * time.Second
)

// topFlags are the flags of top that are more than an option.
type topFlags struct {
	all    bool
	output string
}

// New makes the command; run is (*topOptions).run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, signals: env.Signals,
		openLive: func() (*ui.Live, error) { return ui.OpenLive(env.In, env.Stdout()) },
	}
	var f topFlags
	cmd := &cobra.Command{
		Use:                   "top [NAME | -l SELECTOR] [flags]",
		DisableFlagsInUseLine: true,
		Short:                 "Show what jobs use while they run",
		Long: templates.LongDesc(`
			Show what jobs use now: CPU in cores, memory, disk and network per second,
			processes, how much of the time the CPU quota held them back, and what they wait for.
			The figures are the kernel's own for the job's container alone, sent by its agent.

			On a terminal the table is drawn in place, the busiest job first; q ends it. Elsewhere
			each interval adds its rows. Jobs appear when they start and go when they end; with a
			NAME it ends with the job. A figure that the node does not have is -.

			Up to 50 jobs are measured at once, the oldest first, each through a tunnel of its
			own. An agent serves eight followers at most. A job that can't be measured says why.`),
		Example: templates.Examples(`
			# All jobs that run
			hodei top

			# One job, twice a second
			hodei top --interval 500ms hodei-make-k3x9z

			# Once, for a script
			hodei top --once -o json -l build=1234 | jq .rate.cores`),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: env.CompleteJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, env, f, args); err != nil {
				return err
			}
			return run(o, cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "Show the jobs of all namespaces.")
	flags.StringVarP(&o.selector, "selector", "l", "", "Show the jobs with these labels: key=value,..., as in kubectl.")
	flags.DurationVar(&o.interval, "interval", follow.FollowedEvery, "Time between two samples, 100ms or more.")
	flags.BoolVar(&o.once, "once", false, "Show the jobs once, as soon as all are measured, after 10s at the latest.")
	flags.StringVarP(&f.output, "output", "o", "", "json: one object for each sample of a job. Default: a table.")
	env.AddProviderFlag(cmd, flags, "Where the jobs run")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// Options is which jobs are to be shown, how, and what that needs.
type Options struct {
	Out, ErrOut io.Writer
	signals     *signals.Set
	// list finds the jobs, and in gives who measures those of one namespace.
	list      *kubernetes.Provider
	in        func(namespace string) (*kubernetes.Provider, error)
	namespace string // empty: all
	where     string // for the title
	name      string // empty: all that the selector chooses
	selector  string
	interval  time.Duration
	once      bool
	events    *output.Events // nil: a table
	live      bool           // drawn in place
	// openLive opens the terminal to draw on.
	openLive func() (*ui.Live, error)
}

// complete turns what was typed into options.
func (o *Options) complete(cmd *cobra.Command, env *command.Env, f topFlags, args []string) error {
	if len(args) == 1 {
		o.name = args[0]
	}
	switch {
	case o.name != "" && (f.all || o.selector != ""):
		return command.Usagef(cmd, "a job is named by its NAME, or chosen by -A and -l, not both")
	case o.interval < follow.LeastEvery:
		return command.Usagef(cmd, "--interval %s: want %s or more", o.interval, follow.LeastEvery)
	case f.output != "" && f.output != "json":
		return command.Usagef(cmd, "-o %q: want json", f.output)
	}
	if _, err := labels.Parse(o.selector); err != nil {
		return command.Usagef(cmd, "--selector %q: %w", o.selector, err)
	}
	if f.output == "json" {
		o.events = &output.Events{Out: o.Out}
	}
	o.live = !o.once && o.events == nil && ui.Detect(env.Stdout(), env.Getenv).TTY
	return o.connect(env, f.all)
}

// connect finds the cluster. It does not talk to it yet.
func (o *Options) connect(env *command.Env, all bool) error {
	name, chosen, err := env.ChooseCluster()
	if err != nil {
		return err
	}
	config, err := command.RESTConfig(env.Kube)
	if err != nil {
		return err
	}
	o.in = func(namespace string) (*kubernetes.Provider, error) {
		c := chosen
		c.Namespace = namespace
		return kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
	}
	if o.namespace = chosen.Namespace; all {
		o.namespace = metav1.NamespaceAll
	}
	if o.list, err = o.in(o.namespace); err != nil {
		return err
	}
	if o.where = o.list.Describe(); all {
		o.where = "all namespaces"
	}
	return nil
}

// Run shows the jobs until a signal comes, the person leaves, or the job that was named ends.
func (o *Options) Run(ctx context.Context) error {
	ctx, stop := o.signals.UntilSignal(ctx, signals.StillHeard)
	defer stop()
	t := newTops(o)
	defer t.close()
	look := func(ctx context.Context) (struct{}, error) { return struct{}{}, t.look(ctx) }
	_, err := kubernetes.Ask(ctx, !o.once, o.say, look)
	switch {
	case ctx.Err() != nil:
		return t.interrupted(ctx)
	case err != nil:
		return err
	case o.once:
		return t.printOnce(ctx)
	case o.live:
		return t.draw(ctx)
	}
	return t.print(ctx)
}

// say tells a person something beside the table.
func (o *Options) say(text string) { fmt.Fprintln(o.ErrOut, ui.Printable(text)) }

// interrupted is the end of a top by a signal: one that was to show the jobs once has not.
func (t *tops) interrupted(ctx context.Context) error {
	if t.once {
		return signals.InterruptedBy(ctx, nil)
	}
	return nil
}
