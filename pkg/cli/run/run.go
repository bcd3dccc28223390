package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/kubectl/pkg/scheme"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
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

func New(a *command.Env) *cobra.Command {
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
				return noDash(a, cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := runOptions(a, cmd, f, args)
			if err == nil {
				err = o.Run(cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.follow, "follow", true, "Show the command's output; with --follow=false wait for its end in silence, and keep no output.")
	flags.BoolVarP(&f.detach, "detach", "d", false, "Print the job's name and leave it running. Its Pod ends with the command if the container's log holds all output (up to some 8 MiB), else after --linger. "+
		"If no node takes the job within its start timeout, the next 'hodei run' or 'hodei jobs' removes it.")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	a.AddProviderFlag(cmd, flags, "Where to run")
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
	command.UsageIntervalFlag(cmd, &f.usageInterval)
	command.MetricsFlag(cmd, &f.metricsAddr)
	flags.StringVar(&f.dryRun, "dry-run", command.DryRunNone, "none, or client (only print the Job, as -o says). Without a value: client.")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
	flags.SetInterspersed(false)
	for flag, words := range map[string][]string{"output": {"json", "yaml", "name"}, "dry-run": {"none", "client"}, "log-overflow": {job.OverflowBlock, job.OverflowDrop}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// noDash is of a command line without -- before the command, or whose -- a flag took.
func noDash(a *command.Env, cmd *cobra.Command, args []string) error {
	at := len(a.Args) - len(args)
	if at >= 2 && a.Args[at-1] == "--" {
		return command.Usagef(cmd, "%s has no value", a.Args[at-2])
	}
	if hint := a.ValueApart(cmd, args); hint != "" {
		return &command.UsageError{Cmd: cmd, Err: fmt.Errorf("%s takes its value after a =", a.Args[at-1]), Hint: hint}
	}
	words := append([]string{"--"}, args...)
	if shell.Needs(args[0]) { // else the next hint would say so
		words = []string{"--", "sh", "-c", shell.Text(args)}
	}
	hint := (&command.TypedLine{Env: a}).Retyped(at, len(args), "{hodei} run -- COMMAND", words...)
	return &command.UsageError{Cmd: cmd, Err: errors.New("no -- before the command"), Hint: hint}
}

// runOptions turns flags into options. What is wrong with them is a usage error.
func runOptions(a *command.Env, cmd *cobra.Command, f runFlags, args []string) (*Options, error) {
	spec, unset, err := f.spec(cmd, args, a.LookupEnv)
	if err != nil {
		return nil, err
	}
	// Before the kubeconfig is read: what is wrong with the command line comes first.
	checked := *spec
	checked.SetDefaults()
	if err := checked.Validate(); err != nil {
		return nil, specError(cmd, &checked, err)
	}
	o := &Options{
		Config: a.Followed(session.Config{Spec: spec, Follow: f.follow}), env: a,
		unset: unset, detach: f.detach, lingers: cmd.Flags().Changed("linger"),
	}
	if err := o.chooseOutput(cmd, f); err != nil {
		return nil, err
	}
	if o.Place, err = a.Place(); err != nil {
		return nil, err
	}
	switch at := o.Place.(type) {
	case place.Cluster:
		err = o.forCluster(cmd, f, at)
	case place.Machine:
		err = o.forMachine(cmd)
	}
	if err != nil {
		return nil, err
	}
	if o.authority, o.certsNotes, err = a.Home().Authority(f.certs, "--certs"); err != nil {
		return nil, err
	}
	return o, nil
}

// spec makes a job of the flags, with the names of the variables that were to be taken from here and that lookupEnv
// does not find. Defaults that may be the provider's are left out.
func (f runFlags) spec(cmd *cobra.Command, command []string, lookupEnv func(string) (string, bool)) (*job.Spec, []string, error) {
	spec := &job.Spec{
		Name: f.name, Image: f.image, Command: command, User: f.user, Workdir: f.workdir,
		Timeout: f.timeout, Grace: f.grace, Linger: f.linger,
		Retries: f.retries, GPU: f.gpu, MergeOutput: f.mergeOutput,
		LogOverflow: f.logOverflow, ContainerLogs: f.containerLogs, Detached: f.detach,
	}
	var unset []string
	spec.Env, unset = variables(f.env, lookupEnv)
	for _, step := range []func(*cobra.Command, *job.Spec) error{f.setEnvFrom, f.setAmounts, f.setTimes, f.setFollowing} {
		if err := step(cmd, spec); err != nil {
			return nil, nil, err
		}
	}
	return spec, unset, nil
}

// variables are those of -e, and the names of those that lookupEnv does not find. Of one name the last one counts,
// and the command finds no other.
func variables(flags []string, lookupEnv func(string) (string, bool)) (env []job.EnvVar, unset []string) {
	for _, v := range flags {
		name, value, given := strings.Cut(v, "=")
		if !given {
			if value, given = lookupEnv(name); !given {
				unset = append(unset, name)
				continue
			}
		}
		env = slices.DeleteFunc(env, func(v job.EnvVar) bool { return v.Name == name })
		env = append(env, job.EnvVar{Name: name, Value: value})
	}
	return env, unset
}

// setEnvFrom takes --env-from.
func (f runFlags) setEnvFrom(cmd *cobra.Command, spec *job.Spec) error {
	for _, v := range f.envFrom {
		switch kind, name, _ := strings.Cut(v, "/"); kind {
		case "secret":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{Secret: name})
		case "configmap":
			spec.EnvFrom = append(spec.EnvFrom, job.EnvSource{ConfigMap: name})
		default:
			return command.Usagef(cmd, "--env-from %q: want secret/NAME or configmap/NAME", v)
		}
	}
	return nil
}

// setAmounts takes what the job gets of its node.
func (f runFlags) setAmounts(cmd *cobra.Command, spec *job.Spec) error {
	for _, q := range []struct {
		flag, text string
		amount     job.Amount
		to         **resource.Quantity
	}{
		{"cpu", f.cpu, job.CPUs, &spec.CPU},
		{"cpu-limit", f.cpuLimit, job.CPUs, &spec.CPULimit},
		{"memory", f.memory, job.Memory, &spec.Memory},
		{"memory-limit", f.memoryLimit, job.Memory, &spec.MemoryLimit},
		{"ephemeral-storage", f.ephemeralStorage, job.Disk, &spec.EphemeralStorage},
		{"log-spool", f.logSpool, job.Spool, &spec.LogSpool},
	} {
		if q.text == "" {
			continue
		}
		quantity, err := q.amount.Parse(q.text)
		if err != nil {
			return command.Usagef(cmd, "--%s %w", q.flag, err)
		}
		*q.to = &quantity
	}
	return nil
}

// setTimes takes the times whose zero is no choice, and those whose default may be the provider's.
func (f runFlags) setTimes(cmd *cobra.Command, spec *job.Spec) error {
	for _, name := range []string{"grace", "linger"} {
		if flag := cmd.Flags().Lookup(name); flag.Changed && flag.Value.String() == "0s" {
			return command.Usagef(cmd, "--%s 0s: must be more than zero", name)
		}
	}
	for _, d := range []struct {
		flag  string
		value time.Duration
		to    *time.Duration
	}{{"start-timeout", f.startTimeout, &spec.StartTimeout}, {"ttl", f.ttl, &spec.TTL}} {
		if !cmd.Flags().Changed(d.flag) {
			continue
		}
		if d.value < time.Second { // a Job counts in seconds
			return command.Usagef(cmd, "--%s %s: want 1s or more", d.flag, d.value)
		}
		*d.to = d.value
	}
	return nil
}

// setFollowing has a job whose output nobody wants wait for nobody.
func (f runFlags) setFollowing(cmd *cobra.Command, spec *job.Spec) error {
	switch {
	case f.follow:
		return nil
	case f.detach:
		return command.Usagef(cmd, "--detach waits for nothing: leave --follow=false out")
	}
	spec.Linger = cmp.Or(spec.Linger, time.Second)                // nobody is to come for the output
	spec.LogOverflow = cmp.Or(spec.LogOverflow, job.OverflowDrop) // so that a full spool waits for nobody
	return nil
}

// forCluster takes the defaults of a provider, and checks the job against it.
func (o *Options) forCluster(cmd *cobra.Command, f runFlags, at place.Cluster) error {
	at.SetDefaults(o.Spec)
	if err := at.CheckSpec(o.Spec); err != nil {
		return specError(cmd, o.Spec, err)
	}
	if cmd.Flags().Changed("container-logs") {
		o.noFallback = !f.containerLogs
	} else {
		o.Spec.ContainerLogs = at.ContainerLogs(f.detach)
		o.noFallback = !at.ContainerLogs(true) // the provider has ruled it out
	}
	o.Spec.EndCopied = f.detach && o.Spec.ContainerLogs && !o.lingers
	return nil
}

// forMachine checks a job of this machine.
func (o *Options) forMachine(cmd *cobra.Command) error {
	o.Spec.SetDefaults()
	for _, name := range []string{"ttl", "namespace", "context", "kubeconfig"} {
		if cmd.Flags().Changed(name) {
			return command.Usagef(cmd, "--%s needs a cluster; provider local runs processes of this machine", name)
		}
	}
	switch err := local.Check(o.Spec); {
	case err != nil:
		return specError(cmd, o.Spec, err)
	case o.detach || o.dryRun:
		return command.Usagef(cmd, "--detach and --dry-run need a cluster; provider local runs processes of this machine")
	}
	return nil
}

// chooseOutput decides who hears what.
func (o *Options) chooseOutput(cmd *cobra.Command, f runFlags) error {
	switch f.dryRun {
	case "none":
	case "client":
		o.dryRun = true
	default:
		return command.Usagef(cmd, "--dry-run %q: want none or client", f.dryRun)
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
		return command.Usagef(cmd, "-o %q: want json or yaml, or name with --detach", f.output)
	}
	o.format = f.output
	if f.output != "" && !f.detach && !o.dryRun {
		o.Events = &output.Events{Out: o.env.Out, YAML: f.output == "yaml"}
	}
	o.Screen = command.NewScreen(o.env, f.quiet || o.Events != nil)
	o.UsageInterval = f.usageInterval
	if err := command.CheckUsageInterval(cmd, f.usageInterval, o.Events != nil); err != nil {
		return err
	}
	if f.metricsAddr != "" && (f.detach || o.dryRun) {
		return command.Usagef(cmd, "--metrics-addr needs a job that is followed: leave --detach and --dry-run out")
	}
	var err error
	o.metricsAddr, err = command.MetricsAddress(cmd, f.metricsAddr)
	return err
}

// Options is a run, ready to go.
type Options struct {
	*session.Config
	env        *command.Env
	authority  *certs.Authority
	certsNotes []string
	unset      []string // variables that were to be taken from here, and are not set
	detach     bool
	dryRun     bool
	lingers    bool // for as long as somebody has said
	noFallback bool // the container's log was ruled out
	format     string
	// metricsAddr is where usage is shown to Prometheus; empty: nowhere.
	metricsAddr string
}

func (o *Options) Run(ctx context.Context) error {
	if o.dryRun {
		return o.printManifest("yaml")
	}
	stopMetrics, err := o.ServeMetrics("run", o.metricsAddr)
	if err != nil {
		return err
	}
	defer stopMetrics()
	o.noteChoices(time.Now())
	id, err := o.authority.IssueJob(certs.ID{Namespace: o.Place.Namespace(), Job: o.Spec.Name})
	if err != nil {
		return err
	}
	var store *place.Store
	if o.Follow && !o.detach {
		if store, err = o.env.Home().OpenStore(true); err != nil {
			return err
		}
		defer store.Close(o.Screen.Note)
	}
	// Before anything is made: a Ctrl-C from here on cleans up.
	heard, stop := o.env.Signals.ForSession()
	defer stop()
	if o.detach {
		defer o.StartSweep(ctx)()
	}
	defer o.Screen.Stop()
	made, err := o.submit(ctx, id, heard)
	if err != nil {
		return err
	}
	if err := o.noteInput(); err != nil {
		made.Close()
		return err
	}
	if o.detach {
		defer made.Close()
		return o.detached()
	}
	o.noteWay()
	defer o.StartSweep(ctx)() // while the Pod starts: the cluster is not kept from making it
	s := &session.Session{Config: o.Config, Job: made, Signals: heard, StopSignals: stop, Store: store}
	return s.Run(ctx, nil)
}

// noteChoices says what was left out of the command line, and what is to be known of the authority.
func (o *Options) noteChoices(now time.Time) {
	for _, name := range o.unset {
		o.Screen.Note("-e " + name + ": it is not set here, and is left out")
	}
	for _, note := range o.authorityNotes(now) {
		o.Screen.Note(note)
	}
}

// submission is what has come of the making of a job.
type submission struct {
	job         place.Job
	err         error
	interrupted bool // it was to be taken back
}

// submit makes the job, and takes it back when a signal asks for that: its error is then how the run ends.
func (o *Options) submit(ctx context.Context, id *certs.JobCerts, heard <-chan os.Signal) (place.Job, error) {
	o.Screen.Waiting("submitting " + o.Spec.Name)
	submitting, cancel := context.WithCancel(ctx)
	defer cancel()
	made := make(chan submission, 1)
	go func() {
		if err := o.chooseWay(submitting); err != nil {
			made <- submission{err: err}
			return
		}
		j, err := o.Place.Submit(submitting, o.Spec, id, kubernetes.RunOptions{NoTunnel: o.Fallback})
		made <- submission{job: j, err: err}
	}()
	result, answered := o.awaitMade(made, heard, cancel)
	if !answered {
		return nil, o.unanswered()
	}
	o.noteMade(result.job)
	switch result.end() {
	case goesAhead:
		return result.job, nil
	case nothingMade:
		return nil, o.TakenBack("nothing is left of it")
	case madeInVain:
		err := result.job.Delete(ctx)
		result.job.Close()
		if err != nil {
			return nil, &job.ExitError{Code: job.ExitCancelled, Err: err}
		}
		return nil, o.TakenBack("nothing is left of it")
	}
	return nil, o.Failed(result.err)
}

// awaitMade waits for a job that is being made. The first signal that asks us to end cancels that; answered is false
// if a second one comes, or takeBackWait passes, before there is a result.
func (o *Options) awaitMade(made <-chan submission, heard <-chan os.Signal, cancel func()) (result submission, answered bool) {
	var unanswered <-chan time.Time
	interrupted := false
	for {
		select {
		case result = <-made:
			result.interrupted = interrupted
			return result, true
		case sig := <-heard:
			switch {
			case !signals.AsksToEnd(sig):
				o.Screen.Note(signals.Name(sig) + " was not passed on: the command has not started")
				continue
			case interrupted:
				return submission{}, false
			}
			interrupted, unanswered = true, time.After(takeBackWait)
			cancel()
			o.Screen.Waiting("taking back " + o.Spec.Name)
		case <-unanswered:
			return submission{}, false
		}
	}
}

// noteMade says what the cluster can't do for the job as it was made; nil: it was not.
func (o *Options) noteMade(j place.Job) {
	if j == nil {
		return
	}
	for _, note := range j.Notes() {
		o.Screen.Note(note)
	}
}

// submitted is how a submission has ended.
type submitted string

const (
	goesAhead   submitted = "the job is followed"
	madeInVain  submitted = "the job was made before the cancel came through, and is removed"
	nothingMade submitted = "nothing was made"
	notMade     submitted = "the job could not be made"
)

// end decides what follows from what has come of it.
func (s submission) end() submitted {
	switch {
	case s.interrupted && s.err == nil:
		return madeInVain
	case s.interrupted && s.err.Error() == context.Canceled.Error(): // and nothing else went wrong
		return nothingMade
	case s.err != nil:
		return notMade
	}
	return goesAhead
}

// takeBackWait is how long an interrupted run waits for the cluster to answer its earlier
// requests, and to delete what they made.
const takeBackWait = 5 * time.Second

// unanswered is the end of a run that was interrupted while the cluster did not answer.
func (o *Options) unanswered() error {
	return &job.ExitError{Code: job.ExitCancelled, Err: &job.Hinted{
		Err:  fmt.Errorf("the cluster does not answer: job %s may have been made", o.Spec.Name),
		Hint: "{hodei} jobs " + o.Spec.Name,
	}}
}

// chooseWay finds out whether the agent can be reached through the tunnel, before
// the job is made: a job that does not copy its output to the container's log
// never will.
func (o *Options) chooseWay(ctx context.Context) error {
	if o.detach || o.Follow && o.noFallback {
		return nil
	}
	may, err := o.Place.MayTunnel(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil || may:
		return err
	}
	o.Fallback = true
	if !o.Follow {
		return nil // its end is in the Pod's status
	}
	o.Spec.ContainerLogs = true
	if !o.lingers {
		o.Spec.Linger = time.Second // nobody is to come for the output
	}
	return nil
}

// noteInput says that the command does not get the bytes that wait on stdin.
func (o *Options) noteInput() error {
	if !inputWaits(o.env.In) {
		return nil
	}
	o.Screen.Note(noInput)
	return o.Events.Note(noInput)
}

// noteWay says, once there is a job, that its output does not come through the tunnel.
func (o *Options) noteWay() {
	if o.Fallback && o.Follow {
		o.Screen.Note("the tunnel is forbidden (create pods/portforward): following the container's log instead")
	}
}

// detached says what was left running.
func (o *Options) detached() error {
	if o.format == "" {
		fmt.Fprintln(o.env.Out, o.Spec.Name)
		return nil
	}
	return o.printManifest(o.format)
}

// printManifest writes the Job as kubectl would, in o's format, or another if it has none.
func (o *Options) printManifest(other string) error {
	manifest, err := o.Place.(place.Cluster).Manifest(o.Spec)
	if err != nil {
		return err
	}
	format := cmp.Or(o.format, other)
	flags := genericclioptions.NewPrintFlags("").WithTypeSetter(scheme.Scheme).WithDefaultOutput(format)
	printer, err := command.NewPrinter(flags.OutputFormat, flags.ToPrinter)
	if err != nil {
		return err
	}
	return printer.PrintObj(manifest, o.env.Out)
}

// authorityNotes say where the CA is from, whether it ends soon, and whether others may read
// its key.
func (o *Options) authorityNotes(now time.Time) []string {
	notes := slices.Clone(o.certsNotes)
	if soon := certs.EndsSoon(o.authority.Cert, now); soon != "" {
		notes = append(notes, fmt.Sprintf("the CA that signs for jobs ends at %s; to replace it: {hodei} certs rotate --ca%s", soon, place.DirFlag(o.authority.Dir)))
	}
	if exposed := o.authority.Exposed(); exposed != "" {
		notes = append(notes, exposed+"; to mend it: chmod 600 "+shell.Quote(filepath.Join(o.authority.Dir, "ca.key")))
	}
	return notes
}
