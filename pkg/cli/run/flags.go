package run

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// typed are the flags of run, as they were typed.
type typed struct {
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

// register gives cmd the flags.
func (f *typed) register(env *command.Env, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.follow, "follow", true, "Show the command's output; with --follow=false wait for its end in silence, and keep no output.")
	flags.BoolVarP(&f.detach, "detach", "d", false, "Print the job's name and leave it running. Its Pod ends with the command if the container's log holds all output (up to some 8 MiB), else after --linger. "+
		"If no node takes the job within its start timeout, the next 'hodei run' or 'hodei jobs' removes it.")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	env.AddProviderFlag(cmd, flags, "Where to run")
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
}

// options turns flags into options. What is wrong with them is a usage error.
func (f *typed) options(env *command.Env, cmd *cobra.Command, args []string) (*Options, error) {
	spec, unset, err := f.spec(cmd, args, env.LookupEnv)
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
		Teller: session.Teller{Spec: spec, Named: env.Named, Again: env.RunAgain()},
		In:     env.In, Out: env.Out, Format: f.output, Detach: f.detach,
		Unset: unset, Lingers: cmd.Flags().Changed("linger"), Follow: f.follow, UsageInterval: f.usageInterval,
		OpenStore: func() (*place.Store, error) { return env.Home().OpenStore(true) },
		Signals:   env.Signals, Afterwards: env.Afterwards,
	}
	if err := o.chooseOutput(env, cmd, f); err != nil {
		return nil, err
	}
	if o.Place, err = env.Place(); err != nil {
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
	if o.Authority, o.AuthorityNotes, err = env.Home().Authority(f.certs, "--certs"); err != nil {
		return nil, err
	}
	return o, nil
}

// forCluster takes the defaults of a provider, and checks the job against it.
func (o *Options) forCluster(cmd *cobra.Command, f *typed, at place.Cluster) error {
	at.SetDefaults(o.Spec)
	if err := at.CheckSpec(o.Spec); err != nil {
		return specError(cmd, o.Spec, err)
	}
	if cmd.Flags().Changed("container-logs") {
		o.NoFallback = !f.containerLogs
	} else {
		o.Spec.ContainerLogs = at.ContainerLogs(f.detach)
		o.NoFallback = !at.ContainerLogs(true) // the provider has ruled it out
	}
	o.Spec.EndCopied = f.detach && o.Spec.ContainerLogs && !o.Lingers
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
	case o.Detach || o.DryRun:
		return command.Usagef(cmd, "--detach and --dry-run need a cluster; provider local runs processes of this machine")
	}
	return nil
}

// chooseOutput decides who hears what.
func (o *Options) chooseOutput(env *command.Env, cmd *cobra.Command, f *typed) error {
	switch f.dryRun {
	case "none":
	case "client":
		o.DryRun = true
	default:
		return command.Usagef(cmd, "--dry-run %q: want none or client", f.dryRun)
	}
	allowed := []string{"", "json", "yaml"}
	if f.detach || o.DryRun {
		allowed = append(allowed, "name")
	}
	if !slices.Contains(allowed, f.output) {
		return command.Usagef(cmd, "-o %q: want json or yaml, or name with --detach", f.output)
	}
	if f.output != "" && !f.detach && !o.DryRun {
		o.Events = &output.Events{Out: env.Out, YAML: f.output == "yaml"}
	}
	o.Screen = command.NewScreen(env, f.quiet || o.Events != nil)
	o.Sink = env.Streams().Sinks(output.Options{Events: o.Events})(o.Spec.Name)
	if err := command.CheckUsageInterval(cmd, f.usageInterval, o.Events != nil); err != nil {
		return err
	}
	if f.metricsAddr != "" && (f.detach || o.DryRun) {
		return command.Usagef(cmd, "--metrics-addr needs a job that is followed: leave --detach and --dry-run out")
	}
	var err error
	o.MetricsAddr, err = command.MetricsAddress(cmd, f.metricsAddr)
	return err
}

// noDash is of a command line without -- before the command, or whose -- a flag took.
func noDash(env *command.Env, cmd *cobra.Command, args []string) error {
	at := len(env.Args) - len(args)
	if at >= 2 && env.Args[at-1] == "--" {
		return command.Usagef(cmd, "%s has no value", env.Args[at-2])
	}
	if hint := env.ValueApart(cmd, args); hint != "" {
		return &command.UsageError{Cmd: cmd, Err: fmt.Errorf("%s takes its value after a =", env.Args[at-1]), Hint: hint}
	}
	words := append([]string{"--"}, args...)
	if shell.Needs(args[0]) { // else the next hint would say so
		words = []string{"--", "sh", "-c", shell.Text(args)}
	}
	hint := (&command.TypedLine{Env: env}).Retyped(at, len(args), "{hodei} run -- COMMAND", words...)
	return &command.UsageError{Cmd: cmd, Err: errors.New("no -- before the command"), Hint: hint}
}
