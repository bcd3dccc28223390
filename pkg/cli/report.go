package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/document"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/remedies"
	"github.com/hodei-jobs/hodei/pkg/report"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// reportFormats are what a report can be, and the endings of its files.
var reportFormats = []string{"html", "svg", "json"}

// reportFlags are the flags of report, as they were typed.
type reportFlags struct {
	output  string
	attempt int
}

func (a *app) newReport() *cobra.Command {
	var f reportFlags
	cmd := &cobra.Command{
		Use:                   "report NAME [FILE] [-o html|svg|json]",
		DisableFlagsInUseLine: true,
		Short:                 "Make a page or a picture of what a job was like",
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
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeReport,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.reportOptions(cmd, f, args)
			if err != nil {
				return err
			}
			defer o.logs.store.Close(o.logs.screen.Note)
			return o.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.output, "output", "o", "", "html, svg or json. Default: by FILE, else html.")
	flags.IntVar(&f.attempt, "attempt", 0, "Report this attempt: 1 is the first that the cluster or this machine still knows. Default: the last.")
	a.addProviderFlag(cmd, flags, "Where the job ran")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(reportFormats, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completeReport completes a job's name, and then a file's.
func (a *app) completeReport(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeLog(cmd, args, toComplete)
}

// reportOptions is what of which job is to be made, and where it goes.
type reportOptions struct {
	*app
	logs   *logsOptions
	format string
	file   string // empty: stdout
}

// reportOptions turns flags into options. The caller closes their store.
func (a *app) reportOptions(cmd *cobra.Command, f reportFlags, args []string) (*reportOptions, error) {
	o := &reportOptions{app: a, format: f.output}
	given := ""
	if len(args) == 2 {
		given = args[1]
	}
	ending := strings.TrimPrefix(filepath.Ext(given), ".")
	says := slices.Contains(reportFormats, ending)
	switch {
	case o.format != "":
	case says:
		o.format = ending
	case given == "" || given == "-":
		o.format = reportFormats[0]
	}
	switch {
	case len(args) == 0:
		return nil, usagef(cmd, "no job: name it")
	case len(args) == 2 && given == "":
		return nil, usagef(cmd, "the name of the file is empty")
	case o.format == "":
		return nil, usagef(cmd, "%s does not end in .html, .svg or .json, and -o does not say what it is to be", given)
	case !slices.Contains(reportFormats, o.format):
		return nil, usagef(cmd, "-o %q: want html, svg or json", f.output)
	case says && ending != o.format:
		return nil, usagef(cmd, "%s ends in .%s, and -o says %s", given, ending, o.format)
	case f.attempt < 0 || cmd.Flags().Changed("attempt") && f.attempt == 0:
		return nil, usagef(cmd, "--attempt %d: the first one is 1", f.attempt)
	}
	switch {
	case given == "-":
	case given != "":
		o.file = given
	case o.format != "json" && ui.Detect(a.stdout(), a.getenv).TTY:
		o.file = args[0] + "." + o.format
	}
	o.logs = &logsOptions{app: a, name: args[0], attempt: f.attempt, screen: newScreen(a, false)}
	if err := o.logs.choose(); err != nil {
		return nil, err
	}
	var err error
	o.logs.store, err = a.home().OpenStore(false)
	return o, err
}

func (o *reportOptions) run(ctx context.Context) error {
	ctx, stop := o.signals.UntilSignal(ctx, signals.NextEndsUs)
	defer stop()
	p, err := o.load(ctx)
	switch {
	case ctx.Err() != nil:
		return signals.InterruptedBy(ctx, nil)
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

// load finds the attempt, and what is known of it.
func (o *reportOptions) load(ctx context.Context) (*pastRun, error) {
	j, err := o.logs.findRun(ctx)
	if err != nil {
		return nil, err
	}
	n, where := len(j.attempts), ""
	if o.logs.cluster == nil {
		where = "--provider local "
	}
	switch {
	case n == 0:
		return nil, noAttempt(j)
	case o.logs.attempt > n:
		return nil, &job.Hinted{Err: fmt.Errorf("job %s has no attempt %d: the last that is known is %d", j.name, o.logs.attempt, n), Hint: fmt.Sprintf("{hodei} report %s%s --attempt %d", where, j.name, n)}
	case o.logs.attempt > 0:
		n = o.logs.attempt
	}
	a := &j.attempts[n-1]
	p := o.logs.pastRun(j, a)
	p.noteDamage(o.logs.screen)
	if p.running {
		err = o.logs.current(ctx, j.found, a, p)
	}
	return p, err
}

// findRun is find for who wants no output.
func (o *logsOptions) findRun(ctx context.Context) (*knownJob, error) {
	j, err := o.find(ctx)
	if err != nil && o.cluster == nil && o.unreachable == nil {
		err = &job.Hinted{Err: fmt.Errorf("no run of a job %q is stored on this machine", o.name), Hint: "{hodei} run --provider local --name " + shell.Quote(o.name) + " -- COMMAND"}
	}
	return j, err
}

// render makes the file.
func (o *reportOptions) render(p *pastRun, now time.Time) ([]byte, error) {
	var b bytes.Buffer
	if o.format == "json" {
		return document.JSON(p.Run, "  ")
	}
	r := &report.Report{Run: p.Run, Running: p.running, Missing: p.missing, Made: now, Version: readClientVersion().Version}
	if p.Spec != nil {
		r.Command = shell.Line(p.Spec.Command)
	}
	if p.Outcome != nil && p.Spec != nil {
		r.Hint = o.hint(p)
	}
	for _, err := range p.damaged {
		r.Notes = append(r.Notes, "Not all that was stored can be read: "+err.Error())
	}
	if p.coarse && len(p.Phases) > 0 {
		r.Notes = append(r.Notes, "The start is by the cluster's own times, which are whole seconds.")
	}
	write := r.HTML
	if o.format == "svg" {
		write = r.SVG
	}
	err := write(&b)
	return b.Bytes(), err
}

// hint is what a run that failed says that can be typed.
func (o *reportOptions) hint(p *pastRun) string {
	if f := (remedies.Job{Spec: p.Spec, Namespace: p.Namespace}).Explain(p.Outcome); f != nil {
		return o.named(f.Hint)
	}
	return ""
}
