// Package top is the command hodei top: it shows what jobs use while they run. [New] makes the command, [Options] is
// what one top shows. Run looks for the jobs (jobs.go), measures them onto a board (board.go), and shows the board:
// drawn in place (draw.go), or line by line (print.go), as a table (table.go) or as objects (events.go). How an agent
// is met and measured is in pkg/follow.
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
	// lookEvery is how often hodei top looks for jobs that have come or gone. Each look takes two requests; a person
	// would not look again sooner.
	lookEvery = 2 * time.Second
	// onceWait is how long --once waits for the agents. A tunnel is up within a second, or does not come up.
	onceWait = 10 * time.Second
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut,
		openLive: func() (*ui.Live, error) { return ui.OpenLive(env.In, env.Stdout()) },
	}
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "top [NAME | -l SELECTOR] [options]",
		Short: "Show what jobs use while they run",
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
		Args:              command.Names(0, 1),
		ValidArgsFunction: env.CompleteJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, env, f, args); err != nil {
				return err
			}
			// A second signal must not keep us from giving the terminal back.
			return env.UntilSignal(cmd.Context(), signals.StillHeard, func(ctx context.Context) error { return run(o, ctx) })
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

// typedFlags are the flags of top that complete turns into options.
type typedFlags struct {
	all    bool
	output string
}

// Options is which jobs to show, how, and what that needs. [New] fills it in.
type Options struct {
	Out, ErrOut io.Writer
	// list finds the jobs; in returns the provider that reaches those of one namespace.
	list      *kubernetes.Provider
	in        func(namespace string) (*kubernetes.Provider, error)
	namespace string // empty: all
	where     string // for the title
	name      string // empty: all that the selector chooses
	selector  string
	interval  time.Duration
	once      bool
	events    *output.Events // nil: a table
	live      bool           // the table is drawn in place
	// openLive opens the terminal to draw on.
	openLive func() (*ui.Live, error)
}

// complete turns arguments and flags into options.
func (o *Options) complete(cmd *cobra.Command, env *command.Env, f typedFlags, args []string) error {
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

// Run shows the jobs until ctx ends, the person leaves, the job that was named ends, or the cluster stays unreachable.
// The end of ctx is an error only for a top that was to show the jobs once, and has not.
func (o *Options) Run(ctx context.Context) error {
	t := newRunning(o)
	defer t.close()
	look := func(ctx context.Context) (struct{}, error) { return struct{}{}, t.look(ctx) }
	_, err := kubernetes.Ask(ctx, !o.once, o.say, look)
	switch {
	case ctx.Err() != nil && o.once:
		return context.Cause(ctx)
	case ctx.Err() != nil:
		return nil
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
