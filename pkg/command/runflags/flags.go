// Package runflags are the flags of hodei run, which hodei rerun takes too, and what they mean: [New] adds them to a
// command, [Flags.Config] and [Flags.Complete] turn what was typed into what package submission does. flags.go has the
// flags, spec.go what they change of a job, options.go who hears what and where the job runs, and fields.go what is
// wrong with a job in the words of the command line.
package runflags

import (
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Flags are the flags of hodei run, as they were typed.
type Flags struct {
	env *command.Env
	cmd *cobra.Command

	follow, detach, quiet, mergeOutput bool
	remove, replace, stdin, tty, exec  bool
	detachKeys                         string
	image, name, user                  string
	workdir, certs, output, dryRun     string
	variables, envFrom                 []string
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

// New gives cmd the flags.
func New(env *command.Env, cmd *cobra.Command) *Flags {
	f := &Flags{env: env, cmd: cmd}
	flags := cmd.Flags()
	env.AddProviderFlag(cmd, flags, "Where to run")
	f.registerCommand(flags)
	f.registerAmounts(flags)
	f.registerTimes(flags)
	f.registerLogs(flags)
	f.registerFollowing(flags)
	for flag, words := range map[string][]string{
		"output": {"json", "yaml", "name"}, "dry-run": {"none", "client"}, "log-overflow": {job.OverflowBlock, job.OverflowDrop},
	} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return f
}

// registerCommand adds the flags of what runs, and as whom.
func (f *Flags) registerCommand(flags *pflag.FlagSet) {
	flags.StringVar(&f.image, "image", "", "Image to run the command in; any image works. Default: the worker's own.")
	flags.StringVar(&f.name, "name", "", "Name of the job. Default: made up from the command.")
	flags.BoolVar(&f.replace, "replace", false,
		"Delete a job of this --name first, even if it runs, and wait until it is gone.")
	flags.StringArrayVarP(&f.variables, "env", "e", nil,
		"Variable for the command, NAME=VALUE, or NAME for the value it has here. Can be repeated.")
	flags.StringArrayVar(&f.envFrom, "env-from", nil,
		"Take all keys of secret/NAME or configmap/NAME as variables. Can be repeated.")
	flags.BoolVarP(&f.stdin, "stdin", "i", false,
		"Send this terminal's or pipe's input to the command, which starts once that is possible. "+
			"Default: its input is empty; that of hodei rerun is as it was.")
	flags.BoolVarP(&f.tty, "tty", "t", false,
		"Give the command a terminal, shown in this one. Needs -i. Default: pipes.")
	command.DetachKeysFlag(flags, &f.detachKeys)
	flags.BoolVar(&f.exec, "exec", false,
		"Let 'hodei exec' run other commands beside this one; =false: not. Default: the provider's exec.")
	flags.StringVar(&f.workdir, "workdir", "",
		"Directory that the command starts in, from the root. Default: the image's, or a home of its own where the image has none.")
	flags.StringVar(&f.user, "user", "",
		"UID or UID:GID of the command, or image for the one that the image or the cluster (OpenShift) sets. "+
			"Default in a cluster: a UID of the job's own.")
	flags.StringVar(&f.certs, "certs", "",
		"Directory of 'hodei certs generate'. Default: ./certs or $XDG_CONFIG_HOME/hodei/certs if hodei made them "+
			"and they are yours; else a CA for this one run.")
}

// registerAmounts adds the flags of what the job gets of its node.
func (f *Flags) registerAmounts(flags *pflag.FlagSet) {
	flags.StringVar(&f.cpu, "cpu", "", "CPUs that the job gets, such as 500m or 2: request and limit.")
	flags.StringVar(&f.cpuLimit, "cpu-limit", "", "CPUs that the job may use at most. Default: --cpu.")
	flags.StringVar(&f.memory, "memory", "", "Memory that the job gets, such as 512Mi: request and limit.")
	flags.StringVar(&f.memoryLimit, "memory-limit", "", "Memory that the job may use at most. Default: --memory.")
	flags.StringVar(&f.ephemeralStorage, "ephemeral-storage", "",
		"Disk that the job may fill on its node. Default: "+kubernetes.DefaultEphemeralStorage+".")
	flags.Int32Var(&f.gpu, "gpu", 0,
		"GPUs that the job gets, of the provider's gpu_resource (default "+provider.DefaultGPUResource+").")
}

// registerTimes adds the flags of when the job starts, ends, and starts again.
func (f *Flags) registerTimes(flags *pflag.FlagSet) {
	flags.DurationVar(&f.timeout, "timeout", 0, "Stop the job this long after the command started. Default: never.")
	flags.DurationVar(&f.startTimeout, "start-timeout", job.DefaultStartTimeout,
		"Give up if the command has not started after this time. It does not start later.")
	flags.Int32Var(&f.retries, "retries", 0, "Run a command that failed again, in a new Pod, at most this many times.")
	flags.DurationVar(&f.grace, "grace", job.DefaultGrace, "Time between SIGTERM and SIGKILL when the job is stopped.")
	flags.DurationVar(&f.ttl, "ttl", job.DefaultTTL, "How long the finished job stays in the cluster.")
	flags.DurationVar(&f.linger, "linger", 0,
		"How long the Pod waits, after the command, for its output to be fetched. Default: 10m; "+
			"with --detach only if the container's log lacks some of it; with --follow=false 1s.")
}

// registerLogs adds the flags of what becomes of the output on the job's side.
func (f *Flags) registerLogs(flags *pflag.FlagSet) {
	flags.BoolVar(&f.mergeOutput, "merge-output", false,
		"Give the command one pipe for stdout and stderr: their order is exact, and all output is on stdout.")
	flags.StringVar(&f.logSpool, "log-spool", job.DefaultLogSpool, "How much output the job's node keeps on disk until it is fetched.")
	flags.StringVar(&f.logOverflow, "log-overflow", "",
		"When --log-spool is full: block pauses the job, drop discards the oldest output. "+
			"Default: block while somebody follows the job and for 5 minutes after that; drop with --detach or --follow=false.")
	flags.BoolVar(&f.containerLogs, "container-logs", false,
		"Copy the output to the container's log, for kubectl logs and the cluster's collectors. "+
			"Default: the provider's, else with --detach.")
}

// registerFollowing adds the flags of what is shown here.
func (f *Flags) registerFollowing(flags *pflag.FlagSet) {
	flags.BoolVar(&f.follow, "follow", true,
		"Show the command's output; with --follow=false wait for its end in silence, and keep no output.")
	flags.BoolVarP(&f.detach, "detach", "d", false,
		"Print the job's name and leave it running. Its Pod ends with the command if the container's log holds all output "+
			"(up to some 8 MiB), else after --linger. "+
			"If no node takes the job within its start timeout, the next 'hodei run' or 'hodei jobs' removes it.")
	flags.BoolVar(&f.remove, "rm", false,
		"Delete the job once it was followed to its end. Output that is shown is still stored on this machine.")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	flags.StringVarP(&f.output, "output", "o", "",
		"json or yaml: write events to stdout. With --detach or --dry-run: print the Job as json, yaml or name.")
	command.UsageIntervalFlag(f.cmd, &f.usageInterval)
	command.MetricsFlag(f.cmd, &f.metricsAddr)
	flags.StringVar(&f.dryRun, "dry-run", command.DryRunNone, "none, or client (only print the Job, as -o says). Without a value: client.")
	flags.Lookup("dry-run").NoOptDefVal = command.DryRunClient
}
