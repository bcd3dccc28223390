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

func newProviderTest(a *command.Env) *cobra.Command {
	var output string
	timeout := 2 * time.Minute
	cmd := &cobra.Command{
		Use:                   "test NAME [--timeout DURATION] [-o json|yaml]",
		DisableFlagsInUseLine: true,
		Short:                 "Try a provider with real workers",
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
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.CompleteProvider,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case !slices.Contains([]string{"", "json", "yaml"}, output):
				return command.Usagef(cmd, "--output %q: want json or yaml", output)
			case timeout < time.Second:
				return command.Usagef(cmd, "--timeout %s: want a second or more", timeout)
			}
			t := &providerTest{Env: a, timeout: timeout, output: output}
			return t.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "How long each of the three jobs may take, including its start.")
	cmd.Flags().StringVarP(&output, "output", "o", "", "Output format: json or yaml (default: lines on stderr).")
	return cmd
}

// providerTest tries one provider.
type providerTest struct {
	*command.Env
	timeout time.Duration
	output  string

	name       string
	config     provider.Config // with its defaults
	place      place.Place
	authority  *certs.Authority
	certsNotes []string
	cluster    *check.Cluster // nil: there is none, or level 1 has not reached it
	screen     *output.Screen
	report     testReport
}

// testReport is what -o prints.
type testReport struct {
	Provider string        `json:"provider"`
	OK       bool          `json:"ok"`
	Levels   []levelReport `json:"levels"`
}

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

// errNoCluster is of a level that makes no sense on this machine, errNoShell of one that
// the worker's image can't have: both skip it. errInterrupted is of one that a signal has
// ended.
var (
	errNoCluster   = errors.New("provider local has no cluster")
	errNoShell     = errors.New("no sh where the command would run")
	errInterrupted = errors.New("interrupted")
)

func isSkipped(err error) bool { return errors.Is(err, errNoCluster) || errors.Is(err, errNoShell) }

func (t *providerTest) run(ctx context.Context, name string) error {
	if err := t.complete(name); err != nil {
		return err
	}
	// Whoever interrupts a job's run interrupts the test; it is heard to the end, so that
	// what was made is removed.
	ctx, stop := t.Signals.UntilSignal(ctx, signals.StillHeard)
	defer stop()
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
	for _, note := range t.certsNotes {
		t.screen.Note(note)
	}
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
		if err := t.PrintData(t.report, t.output); err != nil {
			return errors.Join(failed, err)
		}
	}
	if ctx.Err() != nil {
		return signals.InterruptedBy(ctx, failed)
	}
	return failed
}

// timedOut says what to do about a level that was ended by its time alone.
func (t *providerTest) timedOut(err error) error {
	if !errors.Is(err, context.DeadlineExceeded) || job.HintOf(err) != "" {
		return err
	}
	hint := fmt.Sprintf("{hodei} provider test %s --timeout %s", t.name, 5*t.timeout)
	if _, ok := t.place.(place.Cluster); ok {
		hint += "; or see: kubectl get events -n " + t.config.Namespace
	}
	return &job.Hinted{Err: fmt.Errorf("--timeout %s was not enough: %w", t.timeout, err), Hint: hint}
}

// complete finds the provider and what its jobs are made with.
func (t *providerTest) complete(name string) error {
	var err error
	t.ProviderFlag = name
	if t.place, err = t.Env.Place(); err != nil {
		return err
	}
	if t.name, t.config, err = t.ChooseProvider(); err != nil {
		return err
	}
	if t.authority, t.certsNotes, err = t.Env.Home().Authority("", "--certs"); err != nil {
		return err
	}
	t.screen = command.NewScreen(t.Env, t.output != "")
	t.report.Provider = t.name
	return nil
}

// show tells how a level went, and keeps it for the report.
func (t *providerTest) show(r *levelReport, err error) {
	label := fmt.Sprintf("level %d", r.Level)
	took := time.Duration(r.Seconds * float64(time.Second))
	t.screen.Stop()
	switch {
	case isSkipped(err):
		r.Status, r.Detail = check.Skipped, err.Error()
		t.screen.Marked(ui.Unchecked, fmt.Sprintf("%s skipped: %s", label, err))
	case err != nil:
		r.Status, r.Detail, r.Hint = check.Error, ui.Printable(err.Error()), t.Named(job.HintOf(err))
		t.screen.Marked(ui.Bad, fmt.Sprintf("%s failed: %s", label, r.Name))
	default:
		t.screen.Done(label, r.Name+": "+r.Detail, took)
	}
	first := check.Worst(r.Checks) // is what ends the test, and said there
	for i, c := range r.Checks {
		switch {
		case c.Status == check.Warning:
			t.screen.Note(fmt.Sprintf("warning: %s: %s", c.Name, c.Detail))
		case c.Status == check.Error && &r.Checks[i] != first:
			t.screen.Note(fmt.Sprintf("also: %s: %s", c.Name, c.Detail))
			if c.Hint != "" {
				t.screen.Note("hint: " + c.Hint)
			}
		}
	}
	t.report.Levels = append(t.report.Levels, *r)
}

// infrastructure is level 1: what can be known without making anything.
func (t *providerTest) infrastructure(ctx context.Context, r *levelReport) error {
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if _, here := t.place.(place.Machine); here {
		r.Checks = []check.Result{check.Worker()}
	} else {
		r.Checks, t.cluster = t.CheckCluster(ctx, t.name, t.config)
	}
	for i := range r.Checks {
		r.Checks[i].Hint = t.Named(r.Checks[i].Hint)
	}
	if c := check.Worst(r.Checks); c != nil {
		return &job.Hinted{Err: errors.New(c.Detail), Hint: c.Hint}
	}
	r.Detail = r.Checks[0].Detail
	return nil
}

// registration is level 2: the agent of a worker attaches.
func (t *providerTest) registration(ctx context.Context, r *levelReport) error {
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

// worker is a command that every job finds, be its image without a file: the worker's
// program, which prints its version.
func (t *providerTest) worker() []string {
	if here, ok := t.place.(place.Machine); ok {
		return []string{here.Worker, "version"}
	}
	return []string{kubernetes.LauncherPath, "version"}
}

// What the full flow's job prints and exits with: bytes that a terminal, a line reader or
// a text decoder would change, and more than one batch of them.
const (
	flowCommand = `printf 'out\000\377\r'; printf '%131072s' end; printf 'err\n' >&2; exit 7`
	flowSpaces  = 131072 - len("end")
	flowCode    = 7
)

// fullFlow is level 4: all that the command prints comes back, and its exit code.
func (t *providerTest) fullFlow(ctx context.Context, r *levelReport) error {
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

// newSpec is a job of the test's own.
func (t *providerTest) newSpec(command []string) *job.Spec {
	spec := &job.Spec{
		Name: "provider-test-" + rand.String(8), Command: command,
		StartTimeout: t.timeout, Timeout: t.timeout, Grace: time.Second, Linger: time.Second, TTL: t.timeout,
	}
	t.place.SetDefaults(spec)
	return spec
}
