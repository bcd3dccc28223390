package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/scheme"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// runFlags are the flags of run, as they were typed.
type runFlags struct {
	follow, detach, quiet, mergeOutput bool
	image, name, user                  string
	workdir, certs, output, dryRun     string
	env, envFrom                       []string
	cpu, cpuLimit, memory, memoryLimit string
	ephemeralStorage                   string
	logSpool, logOverflow              string
	containerLogs                      bool
	timeout, startTimeout, grace       time.Duration
	ttl, linger                        time.Duration
	retries, gpu                       int32
	usageInterval                      time.Duration
	metricsAddr                        string
}

func (a *app) newRun() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:                   "run [flags] -- COMMAND [ARG...]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a command in the cluster and give back its output and exit code",
		Long: templates.LongDesc(`
			Run a command in a Pod of its own and follow it: its stdout comes on stdout, its
			stderr on stderr, byte for byte, and hodei ends with its exit code.

			Any image works. The command runs as a UID of the job's own unless --user or the
			provider sets another; flags override the provider. Its stdin is empty.

			The job does not need this terminal: it starts and ends without it. Ctrl-C asks the
			command to stop, and hodei follows it to its end; a second Ctrl-C leaves it running,
			or, with --provider local, kills it. Ctrl-C before the command starts deletes the job.

			Exit codes besides the command's own: 124 the job's --timeout, 125 hodei or the
			cluster failed, 126 the command can't be executed, 127 it was not found, 128+n
			signal n killed it, 130 cancelled with Ctrl-C, 2 wrong usage.`),
		Example: templates.Examples(`
			# Run a command in the worker's own image
			hodei run -- uname -a

			# In an image of your own, with resources and a variable
			hodei run --image golang:1.26 --cpu 2 --memory 4Gi -e CGO_ENABLED=0 -- go test ./...

			# On this machine, without a cluster
			hodei run --provider local -- sh -c 'echo out; echo err >&2; exit 7'

			# Leave it running, and print its name
			hodei run --detach --timeout 2h --image registry.example.com/train:v1 -- ./train.sh

			# See the Job without making it
			hodei run --dry-run=client -o yaml -- true`),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("no command: write it after --")
			}
			if cmd.ArgsLenAtDash() < 0 {
				return a.noDash(cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := a.runOptions(cmd, f, args)
			if err == nil {
				err = o.run(cmd.Context())
			}
			return asRun(err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.follow, "follow", true, "Show the command's output; with --follow=false wait for its end in silence, and keep no output.")
	flags.BoolVarP(&f.detach, "detach", "d", false, "Print the job's name and leave it running. Its Pod ends with the command if the container's log holds all output (up to some 8 MiB), else after --linger. "+
		"If no node takes the job within its start timeout, the next 'hodei run' or 'hodei jobs' removes it.")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	a.addProviderFlag(cmd, flags, "Where to run")
	flags.StringVar(&f.image, "image", "", "Image to run the command in; any image works. Default: the worker's own.")
	flags.StringVar(&f.name, "name", "", "Name of the job. Default: made up from the command.")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "Variable for the command, NAME=VALUE, or NAME for the value it has here. Can be repeated.")
	flags.StringArrayVar(&f.envFrom, "env-from", nil, "Take all keys of secret/NAME or configmap/NAME as variables. Can be repeated.")
	flags.StringVar(&f.cpu, "cpu", "", "CPUs that the job gets, such as 500m or 2: request and limit.")
	flags.StringVar(&f.cpuLimit, "cpu-limit", "", "CPUs that the job may use at most. Default: --cpu.")
	flags.StringVar(&f.memory, "memory", "", "Memory that the job gets, such as 512Mi: request and limit.")
	flags.StringVar(&f.memoryLimit, "memory-limit", "", "Memory that the job may use at most. Default: --memory.")
	flags.StringVar(&f.ephemeralStorage, "ephemeral-storage", "", "Disk that the job may fill on its node. Default: "+kubernetes.DefaultEphemeralStorage+".")
	flags.Int32Var(&f.gpu, "gpu", 0, "GPUs that the job gets, of the provider's gpu_resource (default "+provider.DefaultGPUResource+").")
	flags.DurationVar(&f.timeout, "timeout", 0, "Stop the job this long after the command started. Default: never.")
	flags.DurationVar(&f.startTimeout, "start-timeout", job.DefaultStartTimeout, "Give up if the command has not started after this time. It does not start later.")
	flags.Int32Var(&f.retries, "retries", 0, "Run a command that failed again, in a new Pod, at most this many times.")
	flags.DurationVar(&f.grace, "grace", job.DefaultGrace, "Time between SIGTERM and SIGKILL when the job is stopped.")
	flags.DurationVar(&f.ttl, "ttl", job.DefaultTTL, "How long the finished job stays in the cluster.")
	flags.DurationVar(&f.linger, "linger", 0, "How long the Pod waits, after the command, for its output to be fetched. Default: 10m; with --detach only if the container's log lacks some of it; with --follow=false 1s.")
	flags.StringVar(&f.workdir, "workdir", "", "Directory that the command starts in, from the root. Default: the image's, or a home of its own where the image has none.")
	flags.StringVar(&f.user, "user", "", "UID or UID:GID of the command, or image for the one that the image or the cluster (OpenShift) sets. Default in a cluster: a UID of the job's own.")
	flags.BoolVar(&f.mergeOutput, "merge-output", false, "Give the command one pipe for stdout and stderr: their order is exact, and all output is on stdout.")
	flags.StringVar(&f.logSpool, "log-spool", job.DefaultLogSpool, "How much output the job's node keeps on disk until it is fetched.")
	flags.StringVar(&f.logOverflow, "log-overflow", "", "When --log-spool is full: block pauses the job, drop discards the oldest output. "+
		"Default: block while somebody follows the job and for 5 minutes after that; drop with --detach or --follow=false.")
	flags.BoolVar(&f.containerLogs, "container-logs", false, "Copy the output to the container's log, for kubectl logs and the cluster's collectors. Default: the provider's, else with --detach.")
	flags.StringVar(&f.certs, "certs", "", "Directory of 'hodei certs generate'. Default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them and they are yours; else a CA for this one run.")
	flags.StringVarP(&f.output, "output", "o", "", "json or yaml: write events to stdout. With --detach or --dry-run: print the Job as json, yaml or name.")
	usageIntervalFlag(cmd, &f.usageInterval)
	metricsFlag(cmd, &f.metricsAddr)
	flags.StringVar(&f.dryRun, "dry-run", dryRunNone, "none, or client (only print the Job, as -o says). Without a value: client.")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.SetInterspersed(false)
	for flag, words := range map[string][]string{"output": {"json", "yaml", "name"}, "dry-run": {"none", "client"}, "log-overflow": {job.OverflowBlock, job.OverflowDrop}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// noDash is of a command line without -- before the command, or whose -- a flag took.
func (a *app) noDash(cmd *cobra.Command, args []string) error {
	at := len(a.args) - len(args)
	if at >= 2 && a.args[at-1] == "--" {
		return usagef(cmd, "%s has no value", a.args[at-2])
	}
	if hint := a.valueApart(cmd, args); hint != "" {
		return &usageError{cmd: cmd, err: fmt.Errorf("%s takes its value after a =", a.args[at-1]), hint: hint}
	}
	words := append([]string{"--"}, args...)
	if forShell(args[0]) { // else the next hint would say so
		words = []string{"--", "sh", "-c", shellText(args)}
	}
	hint := (&typedLine{app: a}).retyped(at, len(args), "{hodei} run -- COMMAND", words...)
	return &usageError{cmd: cmd, err: errors.New("no -- before the command"), hint: hint}
}

// asRun gives an error of a command that ends as run does run's exit code.
func asRun(err error) error {
	_, usage := errors.AsType[*usageError](err)
	_, exit := errors.AsType[*job.ExitError](err)
	if err == nil || usage || exit {
		return err
	}
	return &job.ExitError{Code: job.ExitFailed, Err: err}
}

// runOptions turns flags into options. What is wrong with them is a usage error.
func (a *app) runOptions(cmd *cobra.Command, f runFlags, command []string) (*runOptions, error) {
	spec := job.Spec{
		Name: f.name, Image: f.image, Command: command, User: f.user, Workdir: f.workdir,
		Timeout: f.timeout, Grace: f.grace, Linger: f.linger,
		Retries: f.retries, GPU: f.gpu, MergeOutput: f.mergeOutput,
		LogOverflow: f.logOverflow, ContainerLogs: f.containerLogs, Detached: f.detach,
	}
	var unset []string
	for _, v := range f.env {
		name, value, given := strings.Cut(v, "=")
		if !given {
			if value, given = a.lookupEnv(name); !given {
				unset = append(unset, name)
				continue
			}
		}
		// Of one name the last one counts, and the command finds no other.
		spec.Env = slices.DeleteFunc(spec.Env, func(v job.EnvVar) bool { return v.Name == name })
		spec.Env = append(spec.Env, job.EnvVar{Name: name, Value: value})
	}
	for _, v := range f.envFrom {
		switch kind, name, _ := strings.Cut(v, "/"); kind {
		case "secret":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{Secret: name})
		case "configmap":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{ConfigMap: name})
		default:
			return nil, usagef(cmd, "--env-from %q: want secret/NAME or configmap/NAME", v)
		}
	}
	for _, q := range []struct {
		flag, text string
		amount     job.Amount
		to         **resource.Quantity
	}{
		{"cpu", f.cpu, job.CPUs, &spec.CPU}, {"cpu-limit", f.cpuLimit, job.CPUs, &spec.CPULimit},
		{"memory", f.memory, job.Memory, &spec.Memory}, {"memory-limit", f.memoryLimit, job.Memory, &spec.MemoryLimit},
		{"ephemeral-storage", f.ephemeralStorage, job.Disk, &spec.EphemeralStorage}, {"log-spool", f.logSpool, job.Spool, &spec.LogSpool},
	} {
		if q.text == "" {
			continue
		}
		quantity, err := q.amount.Parse(q.text)
		if err != nil {
			return nil, usagef(cmd, "--%s %w", q.flag, err)
		}
		*q.to = &quantity
	}
	for _, name := range []string{"grace", "linger"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "0s" {
			return nil, usagef(cmd, "--%s 0s: must be more than zero", name)
		}
	}
	// Their defaults may be the provider's.
	for _, d := range []struct {
		flag  string
		value time.Duration
		to    *time.Duration
	}{{"start-timeout", f.startTimeout, &spec.StartTimeout}, {"ttl", f.ttl, &spec.TTL}} {
		if !cmd.Flags().Changed(d.flag) {
			continue
		}
		if d.value < time.Second { // a Job counts in seconds
			return nil, usagef(cmd, "--%s %s: want 1s or more", d.flag, d.value)
		}
		*d.to = d.value
	}
	if f.detach && !f.follow {
		return nil, usagef(cmd, "--detach waits for nothing: leave --follow=false out")
	}
	if !f.follow && spec.Linger == 0 {
		spec.Linger = time.Second // nobody is to come for the output
	}
	if !f.follow && spec.LogOverflow == "" {
		spec.LogOverflow = job.OverflowDrop // so that a full spool waits for nobody
	}
	// Before the kubeconfig is read: what is wrong with the command line comes first.
	checked := spec
	checked.SetDefaults()
	if err := checked.Validate(); err != nil {
		return nil, specError(cmd, &checked, err)
	}
	o := &runOptions{app: a, spec: &spec, unset: unset, follow: f.follow, detach: f.detach, lingers: cmd.Flags().Changed("linger")}
	if err := o.chooseOutput(cmd, f); err != nil {
		return nil, err
	}
	var err error
	if o.place, err = a.place(); err != nil {
		return nil, err
	}
	switch place := o.place.(type) {
	case place.Cluster:
		place.SetDefaults(&spec)
		if err := place.CheckSpec(&spec); err != nil {
			return nil, specError(cmd, &spec, err)
		}
		if cmd.Flags().Changed("container-logs") {
			o.noFallback = !f.containerLogs
		} else {
			spec.ContainerLogs = place.ContainerLogs(f.detach)
			o.noFallback = !place.ContainerLogs(true) // the provider has ruled it out
		}
		spec.EndCopied = f.detach && spec.ContainerLogs && !o.lingers
	case place.Machine:
		spec.SetDefaults()
		for _, name := range []string{"ttl", "namespace", "context", "kubeconfig"} {
			if cmd.Flags().Changed(name) {
				return nil, usagef(cmd, "--%s needs a cluster; provider local runs processes of this machine", name)
			}
		}
		switch err := local.Check(&spec); {
		case err != nil:
			return nil, specError(cmd, &spec, err)
		case f.detach || o.dryRun:
			return nil, usagef(cmd, "--detach and --dry-run need a cluster; provider local runs processes of this machine")
		}
	}
	if o.authority, o.certsNotes, err = a.home().Authority(f.certs, "--certs"); err != nil {
		return nil, err
	}
	return o, nil
}

// chooseOutput decides who hears what.
func (o *runOptions) chooseOutput(cmd *cobra.Command, f runFlags) error {
	switch f.dryRun {
	case "none":
	case "client":
		o.dryRun = true
	default:
		return usagef(cmd, "--dry-run %q: want none or client", f.dryRun)
	}
	allowed := []string{"", "json", "yaml"}
	if f.detach || o.dryRun {
		allowed = append(allowed, "name")
	}
	ok := false
	for _, format := range allowed {
		ok = ok || f.output == format
	}
	if !ok {
		return usagef(cmd, "-o %q: want json or yaml, or name with --detach", f.output)
	}
	o.format = f.output
	if f.output != "" && !f.detach && !o.dryRun {
		o.events = &output.Events{Out: o.Out, YAML: f.output == "yaml"}
	}
	o.screen = newScreen(o.app, f.quiet || o.events != nil)
	o.usageInterval = f.usageInterval
	if err := checkUsageInterval(cmd, f.usageInterval, o.events != nil); err != nil {
		return err
	}
	if f.metricsAddr != "" && (f.detach || o.dryRun) {
		return usagef(cmd, "--metrics-addr needs a job that is followed: leave --detach and --dry-run out")
	}
	var err error
	o.metricsAddr, err = metricsAddress(cmd, f.metricsAddr)
	return err
}

// runOptions is a run, ready to go.
type runOptions struct {
	*app
	spec           *job.Spec
	place          place.Place
	authority      *certs.Authority
	certsNotes     []string
	unset          []string // variables that were to be taken from here, and are not set
	follow, detach bool
	dryRun         bool
	lingers        bool // for as long as somebody has said
	// noFallback: the container's log was ruled out. fallback: there is no tunnel to
	// the agent, and that log is followed in its place, if output is wanted.
	noFallback, fallback bool
	format               string
	screen               *output.Screen
	events               *output.Events // nil: the output goes to stdout and stderr as it is
	usageInterval        time.Duration  // between two events of it; 0: none
	metricsAddr          string         // where usage is shown to Prometheus; empty: nowhere
	exporter             *exporter.Exporter
	samples              []job.Sample // of the attempt that the summary is of
}

func (o *runOptions) run(ctx context.Context) error {
	if o.dryRun {
		manifest, err := o.place.(place.Cluster).Manifest(o.spec)
		if err != nil {
			return err
		}
		return o.print(manifest)
	}
	stopMetrics, err := o.serveMetrics("run")
	if err != nil {
		return err
	}
	defer stopMetrics()
	for _, name := range o.unset {
		o.screen.Note("-e " + name + ": it is not set here, and is left out")
	}
	for _, note := range o.authorityNotes(time.Now()) {
		o.screen.Note(note)
	}
	id, err := o.authority.IssueJob(certs.ID{Namespace: o.place.Namespace(), Job: o.spec.Name})
	if err != nil {
		return err
	}
	var store *place.Store
	if o.follow && !o.detach {
		if store, err = o.home().OpenStore(true); err != nil {
			return err
		}
		defer store.Close(o.screen.Note)
	}
	// Before anything is made: a Ctrl-C from here on cleans up.
	heard, stop := o.signals.ForSession()
	defer stop()
	if o.detach {
		defer o.startSweep(ctx)()
	}
	defer o.screen.Stop()
	o.screen.Waiting("submitting " + o.spec.Name)
	submitting, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		job place.Job
		err error
	}
	made := make(chan result, 1)
	go func() {
		if err := o.chooseWay(submitting); err != nil {
			made <- result{nil, err}
			return
		}
		j, err := o.place.Submit(submitting, o.spec, id, kubernetes.RunOptions{NoTunnel: o.fallback})
		made <- result{j, err}
	}()
	var r result
	var unanswered <-chan time.Time
	interrupted := false
	for done := false; !done; {
		select {
		case r = <-made:
			done = true
		case sig := <-heard:
			switch {
			case !asksToEnd(sig):
				o.screen.Note(signals.Name(sig) + " was not passed on: the command has not started")
				continue
			case interrupted:
				return o.unanswered()
			}
			interrupted, unanswered = true, time.After(takeBackWait)
			cancel()
			o.screen.Waiting("taking back " + o.spec.Name)
		case <-unanswered:
			return o.unanswered()
		}
	}
	if r.job != nil {
		for _, note := range r.job.Notes() {
			o.screen.Note(note)
		}
	}
	switch {
	case interrupted && r.err == nil: // it was made before the cancel came through
		err := r.job.Delete(ctx)
		r.job.Close()
		if err != nil {
			return &job.ExitError{Code: job.ExitCancelled, Err: err}
		}
		return o.takenBack("nothing is left of it")
	case interrupted && r.err.Error() == context.Canceled.Error(): // and nothing else went wrong
		return o.takenBack("nothing is left of it")
	case r.err != nil:
		return o.failed(r.err)
	}
	if err := o.noteInput(); err != nil {
		r.job.Close()
		return err
	}
	if o.detach {
		defer r.job.Close()
		return o.detached()
	}
	o.noteWay()
	defer o.startSweep(ctx)() // while the Pod starts: the cluster is not kept from making it
	s := &session{runOptions: o, job: r.job, signals: heard, stopSignals: stop, store: store}
	return s.follow(ctx, nil)
}

// takeBackWait is how long an interrupted run waits for the cluster to answer its earlier
// requests, and to delete what they made.
const takeBackWait = 5 * time.Second

// unanswered is the end of a run that was interrupted while the cluster did not answer.
func (o *runOptions) unanswered() error {
	return &job.ExitError{Code: job.ExitCancelled, Err: &job.Hinted{
		Err:  fmt.Errorf("the cluster does not answer: job %s may have been made", o.spec.Name),
		Hint: "{hodei} jobs " + o.spec.Name,
	}}
}

// chooseWay finds out whether the agent can be reached through the tunnel, before
// the job is made: a job that does not copy its output to the container's log
// never will.
func (o *runOptions) chooseWay(ctx context.Context) error {
	if o.detach || o.follow && o.noFallback {
		return nil
	}
	may, err := o.place.MayTunnel(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || may:
		return err
	}
	o.fallback = true
	if !o.follow {
		return nil // its end is in the Pod's status
	}
	o.spec.ContainerLogs = true
	if !o.lingers {
		o.spec.Linger = time.Second // nobody is to come for the output
	}
	return nil
}

// noteInput says that the command does not get the bytes that wait on stdin.
func (o *runOptions) noteInput() error {
	if !inputWaits(o.In) {
		return nil
	}
	o.screen.Note(noInput)
	return o.events.Note(noInput)
}

// noteWay says, once there is a job, that its output does not come through the tunnel.
func (o *runOptions) noteWay() {
	if o.fallback && o.follow {
		o.screen.Note("the tunnel is forbidden (create pods/portforward): following the container's log instead")
	}
}

// detached says what was left running.
func (o *runOptions) detached() error {
	if o.format == "" {
		fmt.Fprintln(o.Out, o.spec.Name)
		return nil
	}
	manifest, err := o.place.(place.Cluster).Manifest(o.spec)
	if err != nil {
		return err
	}
	return o.print(manifest)
}

// print writes a Job as kubectl would.
func (o *runOptions) print(manifest runtime.Object) error {
	format := o.format
	if format == "" {
		format = "yaml"
	}
	flags := genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme).WithDefaultOutput(format)
	printer, err := newPrinter(flags.OutputFormat, flags.ToPrinter)
	if err != nil {
		return err
	}
	return printer.PrintObj(manifest, o.Out)
}

// takenBack is the end of a run that was interrupted before its command started; left
// says what becomes of its job.
func (o *runOptions) takenBack(left string) error {
	return o.cancelled("the command had not started; " + left)
}

// cancelled is the end of a run that ends its job by force.
func (o *runOptions) cancelled(message string) error {
	outcome := &job.Outcome{Cause: job.Cancelled, Message: message}
	o.screen.Summary(outcome, nil)
	if err := o.events.Exit(outcome, ""); err != nil && !errors.Is(err, syscall.EPIPE) { // its reader heard the Ctrl-C too
		return err
	}
	return &job.ExitError{Code: job.ExitCancelled}
}

// failed is the end of a run whose command never ran, or of which nothing more
// is known.
func (o *runOptions) failed(err error) error {
	var f *job.Failure
	if !errors.As(err, &f) {
		f = kubernetes.Explain(err)
	}
	o.screen.Stop()
	if e := o.events.Exit(f.Outcome(), o.named(f.Hint)); e != nil {
		return e
	}
	return f
}

// authorityNotes say where the CA is from, whether it ends soon, and whether others may read
// its key.
func (o *runOptions) authorityNotes(now time.Time) []string {
	notes := slices.Clone(o.certsNotes)
	if soon := certs.EndsSoon(o.authority.Cert, now); soon != "" {
		notes = append(notes, fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s", soon, place.DirFlag(o.authority.Dir)))
	}
	if exposed := o.authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shell.Quote(filepath.Join(o.authority.Dir, "ca.key")))
	}
	return notes
}
