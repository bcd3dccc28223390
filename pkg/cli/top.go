package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/util/templates"

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

// topFlags are the flags of top, as they were typed.
type topFlags struct {
	all, once        bool
	interval         time.Duration
	selector, output string
}

func (a *app) newTop() *cobra.Command {
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
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.topOptions(cmd, f, args)
			if err != nil {
				return err
			}
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.all, "all-namespaces", "A", false, "Show the jobs of all namespaces.")
	flags.StringVarP(&f.selector, "selector", "l", "", "Show the jobs with these labels: key=value,..., as in kubectl.")
	flags.DurationVar(&f.interval, "interval", follow.FollowedEvery, "Time between two samples, 100ms or more.")
	flags.BoolVar(&f.once, "once", false, "Show the jobs once, as soon as all are measured, after 10s at the latest.")
	flags.StringVarP(&f.output, "output", "o", "", "json: one object for each sample of a job. Default: a table.")
	a.addProviderFlag(cmd, flags, "Where the jobs run")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// topOptions is which jobs are to be shown, and how.
type topOptions struct {
	*app
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
}

func (a *app) topOptions(cmd *cobra.Command, f topFlags, args []string) (*topOptions, error) {
	o := &topOptions{app: a, selector: f.selector, interval: f.interval, once: f.once}
	if len(args) == 1 {
		o.name = args[0]
	}
	switch {
	case o.name != "" && (f.all || f.selector != ""):
		return nil, usagef(cmd, "a job is named by its NAME, or chosen by -A and -l, not both")
	case f.interval < follow.LeastEvery:
		return nil, usagef(cmd, "--interval %s: want %s or more", f.interval, follow.LeastEvery)
	case f.output != "" && f.output != "json":
		return nil, usagef(cmd, "-o %q: want json", f.output)
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return nil, usagef(cmd, "--selector %q: %w", f.selector, err)
	}
	if f.output == "json" {
		o.events = &output.Events{Out: a.Out}
	}
	o.live = !f.once && o.events == nil && ui.Detect(a.stdout(), a.getenv).TTY
	name, chosen, err := a.chooseCluster()
	if err != nil {
		return nil, err
	}
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	o.in = func(namespace string) (*kubernetes.Provider, error) {
		c := chosen
		c.Namespace = namespace
		return kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
	}
	if o.namespace = chosen.Namespace; f.all {
		o.namespace = metav1.NamespaceAll
	}
	if o.list, err = o.in(o.namespace); err != nil {
		return nil, err
	}
	if o.where = o.list.Describe(); f.all {
		o.where = "all namespaces"
	}
	return o, nil
}

func (o *topOptions) run(ctx context.Context) error {
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
func (o *topOptions) say(text string) { fmt.Fprintln(o.ErrOut, ui.Printable(text)) }

// interrupted is the end of a top by a signal: one that was to show the jobs once has not.
func (t *tops) interrupted(ctx context.Context) error {
	if t.once {
		return signals.InterruptedBy(ctx, nil)
	}
	return nil
}

// canvas is what a picture is drawn on.
type canvas interface {
	Size() (width, height int)
	Draw(lines []string) error
	Resized() <-chan os.Signal
	Quit() <-chan struct{}
}

// draw shows the jobs in place until the person leaves, or the one that was named ends.
func (t *tops) draw(ctx context.Context) error {
	live, err := ui.OpenLive(t.In, t.stdout())
	if err != nil {
		return err
	}
	defer live.Close()
	if over, err := t.drawOn(ctx, live); err != nil || !over {
		return err
	}
	live.Close()
	return t.rows()
}

// drawOn tells whether the job that was named has ended; else the person has left.
func (t *tops) drawOn(ctx context.Context, screen canvas) (over bool, err error) {
	looked, stop := t.looking(ctx)
	defer stop()
	redraw := time.NewTicker(t.interval)
	defer redraw.Stop()
	var trouble error // with the cluster: what is measured goes on
	for !t.over() {
		select { // also where there is always something to draw
		case <-screen.Quit():
			return false, nil
		default:
		}
		if err := screen.Draw(t.picture(screen, trouble)); err != nil {
			return false, err
		}
		select {
		case <-redraw.C:
		case <-screen.Resized():
		case trouble = <-looked:
			if _, lost := t.contact.Next(time.Now(), trouble); lost != nil {
				return false, lost
			}
		case <-screen.Quit():
			return false, nil
		case <-ctx.Done():
			return false, nil
		}
	}
	return true, nil
}

// picture is the table with a title, as much of it as the terminal has room for.
func (t *tops) picture(screen canvas, trouble error) []string {
	width, height := screen.Size()
	title := fmt.Sprintf("hodei top   %s   %s   q: quit", t.where, time.Now().Format(time.TimeOnly))
	if trouble != nil {
		title = "the cluster was not asked: " + trouble.Error()
	}
	lines := append(ui.Table([]ui.Column{{Title: title}}, nil, width), "")
	rows := t.board.shown()
	if len(rows) == 0 {
		return append(lines, "no jobs run")
	}
	lines = append(lines, topTable(rows, "", t.namespace == "", true, width)...)
	if above := len(lines) - len(rows); len(lines) > height && height > above {
		shown := height - above - 1
		lines = append(lines[:above+shown], fmt.Sprintf("and %d more", len(rows)-shown))
	}
	return lines
}

// print adds what is new each interval, until it is told to end, or the job that was
// named does.
func (t *tops) print(ctx context.Context) error {
	looked, stop := t.looking(ctx)
	defer stop()
	tick := time.NewTicker(t.interval)
	defer tick.Stop()
	said := ""
	for {
		select {
		case err := <-looked:
			if _, lost := t.contact.Next(time.Now(), err); lost != nil {
				return lost
			}
			trouble := ""
			if err != nil {
				trouble = "the cluster was not asked: " + ui.Printable(err.Error())
			}
			if trouble != "" && trouble != said {
				fmt.Fprintln(t.ErrOut, trouble)
			}
			said = trouble
		case <-tick.C:
			over := t.over()
			if err := t.rows(); err != nil || over {
				return err
			}
		case <-t.board.changed:
			if t.over() {
				return t.rows()
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// printOnce shows the jobs as soon as all are measured.
func (t *tops) printOnce(ctx context.Context) error {
	patience := time.After(onceWait)
	for !t.board.measured() {
		select {
		case <-t.board.changed:
		case <-patience:
			return t.rows()
		case <-ctx.Done():
			return t.interrupted(ctx)
		}
	}
	return t.rows()
}

// rows writes a table, or what is new as objects.
func (t *tops) rows() error {
	rows := t.board.shown()
	if t.events != nil {
		for i := range rows {
			if err := t.objects(&rows[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if len(rows) == 0 {
		return t.nothing()
	}
	t.idle = false
	for _, line := range topTable(rows, time.Now().Format(time.TimeOnly), t.namespace == "", false, 0) {
		if _, err := fmt.Fprintln(t.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// nothing says that no job runs, once.
func (t *tops) nothing() error {
	switch {
	case t.idle:
	case t.namespace == "":
		fmt.Fprintln(t.ErrOut, "No running jobs found.")
	default:
		fmt.Fprintf(t.ErrOut, "No running jobs found in %s namespace.\n", t.namespace)
	}
	t.idle = true
	return nil
}
