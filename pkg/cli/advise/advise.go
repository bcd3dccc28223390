// Package advise is the command hodei advise: it says what a job should ask for. [New] makes the command, [Options] is
// on which jobs to advise. How the advice is made is in pkg/advice, and how the runs are found in pkg/history.
package advise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/advice"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "advise NAME | -l SELECTOR [--patch KIND] [-o json|yaml]",
		Short: "Advise what a job should ask for, from what its runs have used",
		Long: templates.LongDesc(`
			Say what CPU and memory a job should ask for, and why. The advice is made from the
			last 100 attempts with the same image and command that the cluster or this machine
			still knows, of this job and of others. With -l, each command among the jobs that
			have these labels gets its own.

			Memory, request and limit: the highest peak and 20 % more. A run that was killed at
			its own limit counts twice that limit, unless a later run had enough. CPU: what was
			enough 95 % of the time (the mean of short runs). The CPU limit stays, unless it
			held the job back. If no attempt completed, the advice is never below what the job
			asked for. Attempts whose command never ran do not count. GPUs and disk are left as
			they are.

			To apply it, use the flags of 'hodei run' that are printed, or --patch: a strategic
			merge patch for a CronJob or for an object with a Pod template in spec.template and
			a container called job, or settings of a provider for jobs that ask for nothing. (A
			Job's own template can't be changed.)`),
		Example: templates.Examples(`
			# What a job should have asked for
			hodei advise hodei-make-k3x9z

			# Of each command of a build
			hodei advise -l build=1234

			# Put it into a CronJob
			hodei advise nightly --patch cronjob | kubectl patch cronjob nightly --patch-file /dev/stdin

			# Make it the default of a provider's jobs
			hodei advise nightly --patch provider | hodei provider set prod -f -`),
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
			defer o.store.Close(o.finder.Note)
			return env.UntilSignal(cmd.Context(), signals.NextEndsUs, func(ctx context.Context) error { return run(o, ctx) })
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.selector, "selector", "l", "", "Advise on the jobs with these labels: key=value,..., as in kubectl.")
	flags.StringVar(&f.patch, "patch", "",
		"Print only a patch: for a cronjob, a template (spec.template) or a provider. Default: the advice in words.")
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: print the advice or the patch as data. Default: words, a patch as yaml.")
	env.AddProviderFlag(cmd, flags, "Where the job ran")
	for flag, words := range map[string][]string{"output": {"json", "yaml"}, "patch": advice.Targets} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// typedFlags are the flags of advise, as they were typed.
type typedFlags struct {
	output, selector, patch string
}

// check returns what is wrong with the command line.
func (f typedFlags) check(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0 && f.selector == "":
		return command.Usagef(cmd, "no job: name it, or choose some with -l")
	case len(args) == 1 && f.selector != "":
		return command.Usagef(cmd, "a job is named by its NAME, or chosen by -l, not both")
	case !slices.Contains([]string{"", "json", "yaml"}, f.output):
		return command.Usagef(cmd, "-o %q: want json or yaml", f.output)
	case f.patch != "" && !slices.Contains(advice.Targets, f.patch):
		return command.Usagef(cmd, "--patch %q: want %s", f.patch, strings.Join(advice.Targets, ", "))
	case f.patch != "" && f.selector != "":
		return command.Usagef(cmd, "--patch takes one job: leave -l out")
	}
	if _, err := labels.Parse(f.selector); err != nil {
		return command.Usagef(cmd, "--selector %q: %w", f.selector, err)
	}
	return nil
}

// complete turns arguments and flags that check has passed into options. The caller closes their store.
func complete(env *command.Env, f typedFlags, args []string) (*Options, error) {
	o := &Options{
		out: env.Out, printData: env.PrintData, program: env.Name, selector: f.selector, format: f.output, patch: f.patch,
	}
	if len(args) == 1 {
		o.name = args[0]
	}
	var err error
	o.finder, o.store, err = env.Finder(false, command.NewScreen(env, false).Note)
	return o, err
}

// Options is on which jobs to advise, how to say it, and what that needs. [New] fills it in.
type Options struct {
	out            io.Writer
	printData      func(v any, format string) error // as json or yaml
	program        string                           // what hodei is called
	finder         *history.Finder
	store          *place.Store
	name, selector string // one of them is empty
	format         string // json or yaml; empty: words, or a patch as yaml
	patch          string // one of advice.Targets: print only that; empty: the advice
}

// advised is the advice on one command, as -o prints it.
type advised struct {
	Name    string   `json:"name"`
	Image   string   `json:"image,omitempty"`
	Command []string `json:"command"`
	*advice.Advice
	// Flags of hodei run that apply the advice.
	Flags string `json:"flags"`
}

// Run advises on each command that the job or the selector means. A selector that chooses no job is no error; that
// nothing was measured is one.
func (o *Options) Run(ctx context.Context) error {
	commands, err := o.finder.Runs(ctx, o.name, o.selector)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	case len(commands) == 0: // of -l
		o.finder.Note(fmt.Sprintf("No jobs found in %s namespace.", o.finder.Namespace))
		return nil
	}
	var all []*advised
	for _, c := range commands {
		if a := advice.From(c.Spec, c.Runs); a != nil {
			all = append(all, &advised{c.Name, c.Spec.Image, c.Spec.Command, a, a.Flags(c.Spec.MemoryLimit != nil)})
		} else if o.selector != "" {
			o.finder.Note(fmt.Sprintf("nothing was measured of %s: %s", c.Name, shell.Line(c.Spec.Command)))
		}
	}
	if len(all) == 0 {
		return o.nothing(commands[0])
	}
	return o.print(all)
}

// nothing returns why there is no advice on a command, and what to do.
func (o *Options) nothing(c history.Command) error {
	err := errors.New("nothing was measured of these jobs")
	switch {
	case c.Job == nil:
	case len(c.Runs) == 0 && len(c.Job.Attempts) == 0:
		return c.Job.NoAttempt()
	case len(c.Runs) == 0:
		return &job.Hinted{Err: fmt.Errorf("no run of the command of job %s is over", c.Name),
			Hint: "follow it to its end: {hodei} attach " + c.Name}
	case !slices.ContainsFunc(c.Runs, func(r job.Run) bool { return r.Outcome == nil || !r.Outcome.NeverRan() }):
		return fmt.Errorf("the command of job %s never ran: %s", c.Name, c.Runs[0].Outcome.Message)
	default:
		err = fmt.Errorf("nothing was measured of job %s, nor of another run of its command", c.Name)
	}
	return &job.Hinted{Err: err, Hint: "let it run to its end while you follow it: " + c.Spec.RunLine()}
}

// print prints a patch, data or words.
func (o *Options) print(all []*advised) error {
	format := o.format
	if o.patch != "" {
		patch, err := all[0].Patch(o.patch)
		if err != nil {
			return err
		}
		if format == "" {
			format = "yaml"
		}
		return o.printData(patch, format)
	}
	switch {
	case format != "" && o.selector != "":
		return o.printData(all, format)
	case format != "":
		return o.printData(all[0], format)
	}
	for i, a := range all {
		if i > 0 {
			fmt.Fprintln(o.out)
		}
		a.say(o)
	}
	return nil
}

// say writes the advice in words.
func (a *advised) say(o *Options) {
	image := a.Image
	if image == "" {
		image = "the worker's own image"
	}
	attempts := fmt.Sprintf("%d attempts", a.Attempts)
	if a.Attempts == 1 {
		attempts = "1 attempt"
	}
	fmt.Fprintf(o.out, "%s: %s\n%s at it in %s\n\n",
		ui.Printable(a.Name), ui.Printable(shell.Line(a.Command)), attempts, ui.Printable(image))
	table := tabwriter.NewWriter(o.out, 0, 0, 3, ' ', 0)
	row := func(name string, asked, advised *resource.Quantity, reason string) {
		text := func(q *resource.Quantity) string {
			if q == nil {
				return "none"
			}
			return q.String()
		}
		fmt.Fprintf(table, "%s\tasked %s\tadvised %s\t%s\n", name, text(asked), text(advised), ui.Printable(reason))
	}
	if m := a.Memory; m != nil {
		row("memory", m.Asked, &m.Request, m.Reason)
	}
	if c := a.CPU; c != nil {
		row("cpu", c.Asked, &c.Request, c.Reason)
		reason := c.LimitReason
		switch {
		case reason != "":
		case c.AskedLimit == nil:
			reason = "no limit needed"
			if c.Room != nil {
				reason += fmt.Sprintf("; --cpu would set one, so --cpu-limit %s is added", c.Room)
			}
		default:
			reason = "the job was not held back"
		}
		row("cpu limit", c.AskedLimit, c.Limit, reason)
	}
	_ = table.Flush() // env.Out remembers its first error
	fmt.Fprintf(o.out, "\nflags of %s run: %s\n", o.program, a.Flags)
	for _, note := range a.Notes {
		fmt.Fprintln(o.out, "note:", ui.Printable(note))
	}
}
