// Package report is the command hodei report: it writes a page, a picture or the data of one attempt of a job. [New]
// makes the command, [Options] is which report to write. What a report shows is in pkg/report.
package report

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/document"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/remedy"
	"github.com/hodei-jobs/hodei/pkg/report"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// formats are what a report can be, which is also how its files end.
var formats = []string{"html", "svg", "json"}

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typedFlags
	cmd := &cobra.Command{
		Use:   "report NAME [FILE] [-o html|svg|json]",
		Short: "Make a page or a picture of what a job was like",
		Long: templates.LongDesc(`
			Write one file about a job: how it went and why, its start as a timeline, CPU, memory,
			disk and network over time, and all figures. The file needs nothing else: no network,
			no script, no font. What is not known is named, with the reason.

			The figures are those that this machine stored when it followed the job; the job may
			be deleted. The figures of a job that runs come from its agent. Of a job that nobody
			followed it shows what the Pod tells, without curves.

			Without FILE the report goes to stdout; on a terminal html and svg go to NAME.html or
			NAME.svg. The end of FILE chooses the format: .html, .svg or .json. A FILE of - is
			stdout.

			The file shows the command as it was typed, but no values of variables.`),
		Example: templates.Examples(`
			# A page for a browser: hodei-make-k3x9z.html
			hodei report hodei-make-k3x9z

			# A picture for a wiki
			hodei report hodei-make-k3x9z run.svg

			# The first attempt's figures and samples, for a program
			hodei report hodei-make-k3x9z --attempt 1 -o json | jq '.outcome.usage'`),
		Args:              command.Names(0, 2),
		ValidArgsFunction: env.CompleteReport,
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
	flags.StringVarP(&f.output, "output", "o", "", "html, svg or json. Default: by FILE, else html.")
	flags.IntVar(&f.attempt, "attempt", 0,
		"Report this attempt: 1 is the first that the cluster or this machine still knows. Default: the last.")
	env.AddProviderFlag(cmd, flags, "Where the job ran")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// typedFlags are the flags of report, as they were typed.
type typedFlags struct {
	output  string
	attempt int
}

// target returns the FILE that was typed, and the format that its ending stands for. Empty: there is none.
func target(args []string) (file, ending string) {
	if len(args) < 2 {
		return "", ""
	}
	ending = strings.TrimPrefix(filepath.Ext(args[1]), ".")
	if !slices.Contains(formats, ending) {
		ending = ""
	}
	return args[1], ending
}

// check returns what is wrong with the command line. It sets output to the format that is meant.
func (f *typedFlags) check(cmd *cobra.Command, args []string) error {
	file, ending := target(args)
	format := cmp.Or(f.output, ending)
	if format == "" && (file == "" || file == "-") {
		format = formats[0]
	}
	switch {
	case len(args) == 0:
		return command.Usagef(cmd, "no job: name it")
	case len(args) == 2 && file == "":
		return command.Usagef(cmd, "the name of the file is empty")
	case format == "":
		return command.Usagef(cmd, "%s does not end in .html, .svg or .json, and -o does not say what it is to be", file)
	case !slices.Contains(formats, format):
		return command.Usagef(cmd, "-o %q: want html, svg or json", f.output)
	case ending != "" && ending != format:
		return command.Usagef(cmd, "%s ends in .%s, and -o says %s", file, ending, format)
	case f.attempt < 0 || cmd.Flags().Changed("attempt") && f.attempt == 0:
		return command.Usagef(cmd, "--attempt %d: the first one is 1", f.attempt)
	}
	f.output = format
	return nil
}

// complete turns arguments and flags that check has passed into options. The caller closes their store.
func complete(env *command.Env, f typedFlags, args []string) (*Options, error) {
	o := &Options{
		Out: env.Out, ErrOut: env.ErrOut, name: args[0], attempt: f.attempt, format: f.output,
		named: env.Named, version: env.Version,
	}
	switch file, _ := target(args); {
	case file == "-":
	case file != "":
		o.file = file
	case o.format != "json" && ui.Detect(env.Stdout(), env.Getenv).TTY:
		o.file = o.name + "." + o.format
	}
	var err error
	o.finder, o.store, err = env.Finder(false, command.NewScreen(env, false).Note)
	return o, err
}

// Options is which report to write, where, and what that needs. [New] fills it in.
type Options struct {
	Out, ErrOut io.Writer
	finder      *history.Finder
	store       *place.Store // the finder's
	name        string
	attempt     int                      // from 1; 0: the last
	format      string                   // one of formats
	file        string                   // empty: stdout
	named       func(hint string) string // makes a hint ready to be typed
	version     string                   // of hodei
}

// Run writes the report to the file or to stdout, unless ctx ends before all is known.
func (o *Options) Run(ctx context.Context) error {
	p, err := o.load(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return err
	}
	b, err := o.render(p, time.Now())
	if err != nil {
		return err
	}
	if o.file == "" {
		_, err := o.Out.Write(b)
		return err
	}
	if err := os.WriteFile(o.file, b, 0o666); err != nil { // as any program: the umask decides
		return &job.Hinted{Err: fmt.Errorf("write report: %w", err), Hint: "name another file, or - for stdout"}
	}
	fmt.Fprintln(o.ErrOut, "wrote", ui.Printable(o.file))
	return nil
}

// load finds the attempt and what is known of it. If it runs, its agent is asked.
func (o *Options) load(ctx context.Context) (*history.PastRun, error) {
	j, err := o.finder.FindRun(ctx, o.name)
	if err != nil {
		return nil, err
	}
	n := len(j.Attempts)
	switch {
	case n == 0:
		return nil, j.NoAttempt()
	case o.attempt > n:
		where := ""
		if o.finder.Cluster == nil {
			where = "--provider local "
		}
		return nil, &job.Hinted{Err: fmt.Errorf("job %s has no attempt %d: the last that is known is %d", j.Name, o.attempt, n),
			Hint: fmt.Sprintf("{hodei} report %s%s --attempt %d", where, j.Name, n)}
	case o.attempt > 0:
		n = o.attempt
	}
	a := &j.Attempts[n-1]
	p := o.finder.PastRun(j, a)
	p.NoteDamage(o.finder.Note)
	if p.Running && j.Found != nil {
		err = o.finder.Ask(ctx, j.Found, a, p)
	}
	return p, err
}

// render returns the content of the file.
func (o *Options) render(p *history.PastRun, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	if o.format == "json" {
		return document.JSON(p.Run, "  ")
	}
	r := &report.Report{Run: p.Run, Running: p.Running, Missing: p.Missing, Made: now, Version: o.version}
	if p.Spec != nil {
		r.Command = shell.Line(p.Spec.Command)
	}
	if p.Outcome != nil && p.Spec != nil {
		r.Hint = o.hint(p)
	}
	for _, err := range p.Damaged {
		r.Notes = append(r.Notes, "Not all that was stored can be read: "+err.Error())
	}
	if p.Coarse && len(p.Phases) > 0 {
		r.Notes = append(r.Notes, "The start is by the cluster's own times, which are whole seconds.")
	}
	write := r.HTML
	if o.format == "svg" {
		write = r.SVG
	}
	err := write(&b)
	return b.Bytes(), err
}

// hint returns what to type after a run that failed; empty: nothing helps.
func (o *Options) hint(p *history.PastRun) string {
	j := remedy.Job{Spec: p.Spec, Namespace: p.Namespace,
		Removed: p.Gone && len(p.Spec.Env) > 0} // the values of its variables are stored nowhere else
	if f := j.Explain(p.Outcome); f != nil {
		return o.named(f.Hint)
	}
	return ""
}
