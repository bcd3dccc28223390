package provider

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// newTest makes the command; run is (*testOptions).run, or a test's.
func newTest(env *command.Env, run func(*testOptions, context.Context) error) *cobra.Command {
	t := &testOptions{timeout: 2 * time.Minute, signals: env.Signals, named: env.Named, printData: env.PrintData}
	cmd := &cobra.Command{
		Use:   "test NAME [--timeout DURATION] [-o json|yaml]",
		Short: "Try a provider with real workers",
		Long: templates.LongDesc(`
			Try a provider on four levels: the infrastructure (the cluster, your rights in it,
			what hodei install makes); worker registration (the agent of a real worker
			attaches); the life cycle (created, running, its log, gone without a trace); and
			the full flow (output comes back byte for byte, and the exit code).

			The first level that fails ends the test and says what to do. The full flow needs
			a shell in the worker's image, and is skipped where there is none. The jobs that
			it makes are removed, whatever happens.`),
		Example: templates.Examples(`
			# Try a provider that was just added
			hodei provider test k8s-local

			# Wait longer for a cluster that has to add a node first
			hodei provider test prod --timeout 10m

			# For a script
			hodei provider test k8s-local -o json | jq .ok`),
		Args:              command.Names(1, 1),
		ValidArgsFunction: env.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !slices.Contains([]string{"", "json", "yaml"}, t.output):
				return command.Usagef(cmd, "--output %q: want json or yaml", t.output)
			case t.timeout < time.Second:
				return command.Usagef(cmd, "--timeout %s: want a second or more", t.timeout)
			}
			if err := t.complete(env, args[0]); err != nil {
				return err
			}
			// A second signal must not keep us from removing the job that the first one interrupted.
			return env.UntilSignal(cmd.Context(), signals.StillHeard, func(ctx context.Context) error { return run(t, ctx) })
		},
	}
	cmd.Flags().DurationVar(&t.timeout, "timeout", t.timeout, "How long each of the three jobs may take, including its start.")
	cmd.Flags().StringVarP(&t.output, "output", "o", "", "Output format: json or yaml (default: lines on stderr).")
	return cmd
}

// testOptions is which provider to try, and what that needs.
type testOptions struct {
	timeout   time.Duration   // of each job, with its start
	output    string          // json or yaml; empty: lines on the screen
	name      string          // of the provider
	config    provider.Config // with its defaults
	place     place.Place     // the provider itself
	authority *certs.Authority
	// notes are what there is to say of the authority.
	notes  []string
	screen *output.Screen
	// examine makes all checks of the provider's cluster. There is no check.Cluster if it can't be asked.
	examine func(context.Context) ([]check.Result, *check.Cluster)
	// signals is what a job's session hears them from.
	signals *signals.Set
	// named makes a hint ready to be typed.
	named func(hint string) string
	// printData writes a value as json or yaml.
	printData func(v any, format string) error

	cluster *check.Cluster // nil: there is none, or level 1 has not reached it
	report  testReport
}

// complete finds the provider and what its jobs are made with.
func (t *testOptions) complete(env *command.Env, name string) error {
	var err error
	env.ProviderFlag = name
	if t.place, err = env.Place(); err != nil {
		return err
	}
	if t.name, t.config, err = env.ChooseProvider(); err != nil {
		return err
	}
	if t.authority, t.notes, err = env.Home().Authority("", "--certs"); err != nil {
		return err
	}
	t.examine = func(ctx context.Context) ([]check.Result, *check.Cluster) {
		return env.CheckCluster(ctx, t.name, t.config)
	}
	t.screen = command.NewScreen(env, t.output != "")
	return nil
}

// testReport is what -o prints.
type testReport struct {
	Provider string        `json:"provider"`
	OK       bool          `json:"ok"`
	Levels   []levelReport `json:"levels"`
}

// levelReport is how one level went.
type levelReport struct {
	Level  int          `json:"level"`
	Name   string       `json:"name"`
	Status check.Status `json:"status"`
	// Seconds that it took, with its cleaning up.
	Seconds float64        `json:"seconds"`
	Detail  string         `json:"detail,omitempty"`
	Hint    string         `json:"hint,omitempty"`
	Checks  []check.Result `json:"checks,omitempty"`
}

// A level that ends with one of these is skipped: it makes no sense on this machine, or the worker's image
// can't have it.
var (
	errNoCluster = errors.New("provider local has no cluster")
	errNoShell   = errors.New("no sh where the command would run")
)

func isSkipped(err error) bool { return errors.Is(err, errNoCluster) || errors.Is(err, errNoShell) }

// run tries one level after the other, up to the first that fails. It removes what it has made, also after ctx has
// ended, and then says at which level it was.
func (t *testOptions) run(ctx context.Context) error {
	defer t.screen.Stop()
	levels := []struct {
		name string
		try  func(context.Context, *levelReport) error
	}{
		{"infrastructure", t.infrastructure},
		{"worker registration", t.registration},
		{"life cycle", t.lifeCycle},
		{"full flow", t.fullFlow},
	}
	for _, note := range t.notes {
		t.screen.Note(note)
	}
	t.report.Provider = t.name
	var failed error
	for i, level := range levels {
		report := levelReport{Level: i + 1, Name: level.name, Status: check.OK}
		t.screen.Waiting(level.name)
		began := time.Now()
		failed = t.timedOut(level.try(ctx, &report))
		report.Seconds = time.Since(began).Seconds()
		t.show(&report, failed)
		if isSkipped(failed) {
			failed = nil
		}
		if failed != nil {
			failed = &job.Hinted{Err: fmt.Errorf("level %d, %s: %w", report.Level, level.name, failed), Hint: job.HintOf(failed)}
			break
		}
	}
	t.report.OK = failed == nil
	if t.output != "" {
		if err := t.printData(t.report, t.output); err != nil {
			return errors.Join(failed, err)
		}
	}
	if ctx.Err() != nil {
		return signals.InterruptedBy(ctx, failed)
	}
	return failed
}

// timedOut adds a hint to the error of a level that took too long, unless it has one.
func (t *testOptions) timedOut(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || job.HintOf(err) != "" {
		return err
	}
	hint := fmt.Sprintf("{hodei} provider test %s --timeout %s", t.name, 5*t.timeout)
	if _, ok := t.place.(place.Cluster); ok {
		hint += "; or see: kubectl get events -n " + t.config.Namespace
	}
	return &job.Hinted{Err: fmt.Errorf("--timeout %s was not enough: %w", t.timeout, err), Hint: hint}
}

// show tells how a level went, and adds it to the report.
func (t *testOptions) show(r *levelReport, err error) {
	label := fmt.Sprintf("level %d", r.Level)
	took := time.Duration(r.Seconds * float64(time.Second))
	t.screen.Stop()
	switch {
	case isSkipped(err):
		r.Status, r.Detail = check.Skipped, err.Error()
		t.screen.Marked(ui.Unchecked, fmt.Sprintf("%s skipped: %s", label, err))
	case err != nil:
		r.Status, r.Detail, r.Hint = check.Error, ui.Printable(err.Error()), t.named(job.HintOf(err))
		t.screen.Marked(ui.Bad, fmt.Sprintf("%s failed: %s", label, r.Name))
	default:
		t.screen.Done(label, r.Name+": "+r.Detail, took)
	}
	worst := check.Worst(r.Checks) // ends the test, whose error has it
	for i, c := range r.Checks {
		switch {
		case c.Status == check.Warning:
			t.screen.Note(fmt.Sprintf("warning: %s: %s", c.Name, c.Detail))
		case c.Status == check.Error && &r.Checks[i] != worst:
			t.screen.Note(fmt.Sprintf("also: %s: %s", c.Name, c.Detail))
			if c.Hint != "" {
				t.screen.Note("hint: " + c.Hint)
			}
		}
	}
	t.report.Levels = append(t.report.Levels, *r)
}

// infrastructure is level 1: it checks what can be checked without making anything.
func (t *testOptions) infrastructure(ctx context.Context, r *levelReport) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	_, here := t.place.(place.Machine)
	if here {
		r.Checks = []check.Result{check.Worker()}
	} else {
		r.Checks, t.cluster = t.examine(ctx)
	}
	for i := range r.Checks {
		r.Checks[i].Hint = t.named(r.Checks[i].Hint)
	}
	if c := check.Worst(r.Checks); c != nil {
		return &job.Hinted{Err: errors.New(c.Detail), Hint: c.Hint}
	}
	if r.Detail = r.Checks[0].Detail; !here && t.cluster == nil { // we may not ask it anything
		return errors.New(r.Detail)
	}
	return nil
}

// registration is level 2: the agent of a worker attaches.
func (t *testOptions) registration(ctx context.Context, r *levelReport) error {
	tried, err := t.try(ctx, t.worker())
	switch {
	case err != nil:
		return err
	case tried.code != 0:
		return fmt.Errorf("the command exits 0, and %d came back", tried.code)
	case tried.attempt == "":
		return errors.New("the job ended, and its agent was not met")
	}
	r.Detail = "the agent of " + tried.attempt + " attached"
	return nil
}

// worker returns a command that runs in every image, even in one without files: the worker's program, which
// prints its version.
func (t *testOptions) worker() []string {
	if here, ok := t.place.(place.Machine); ok {
		return []string{here.Worker, "version"}
	}
	return []string{kubernetes.LauncherPath, "version"}
}

// The full flow's job prints bytes that a terminal, a line reader or a text decoder would change, and more than
// one batch of them.
const (
	flowCommand = `printf 'out\000\377\r'; printf '%131072s' end; printf 'err\n' >&2; exit 7`
	flowSpaces  = 131072 - len("end")
	flowCode    = 7
)

// fullFlow is level 4: all output of the command comes back, and its exit code.
func (t *testOptions) fullFlow(ctx context.Context, r *levelReport) error {
	tried, err := t.try(ctx, []string{"sh", "-c", flowCommand})
	if err != nil {
		return err
	}
	out, errOut := tried.out.String(), tried.errOut.String()
	switch want := "out\x00\xff\r" + strings.Repeat(" ", flowSpaces) + "end"; {
	case tried.code == job.ExitNotFound:
		return errNoShell
	case tried.code != flowCode:
		return fmt.Errorf("the command exits %d, and %d came back", flowCode, tried.code)
	case out != want:
		return fmt.Errorf("stdout is not what the command printed: %d bytes, %d were printed", len(out), len(want))
	case errOut != "err\n":
		return fmt.Errorf("stderr is not what the command printed: %q", errOut)
	}
	r.Detail = fmt.Sprintf("%d bytes and exit code %d came back", len(out)+len(errOut), flowCode)
	return nil
}

// newSpec returns a job that runs command, under a name of its own.
func (t *testOptions) newSpec(command []string) *job.Spec {
	spec := &job.Spec{
		Name: "provider-test-" + rand.String(8), Command: command,
		StartTimeout: t.timeout, Timeout: t.timeout, Grace: time.Second, Linger: time.Second, TTL: t.timeout,
	}
	t.place.SetDefaults(spec)
	return spec
}
