// Package exec is the command hodei exec: it runs a command beside the one of a job that runs. [New] makes the command,
// and [Options.Run] finds the job, meets its agent and has it run the command. What happens to a command is told in
// conclude.go.
package exec

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/submission"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typed
	cmd := &cobra.Command{
		Use:   "exec [options] NAME -- COMMAND [ARG...]",
		Short: "Run another command beside the one of a job that runs",
		Long: templates.LongDesc(`
			Run another command in the container of a job whose command runs: as the same user,
			with the same environment and in the same directory. What it prints comes here, and
			is no part of the job's output; hodei ends with its exit code. It ends with the job.

			A job allows it if it was run with --exec, or if its provider says so: 'hodei provider
			set NAME --exec'. The two commands can see, trace and kill each other, and share the
			job's memory and CPU. What it uses counts as the job's.

			The command gets an empty stdin unless -i sends it this one. -it gives it a terminal,
			which is this one while it runs; --detach-keys (ctrl-] and d) hang it up. Ctrl-C is
			passed on to it, and a second one hangs it up. So does a connection that breaks: the
			command gets SIGHUP and SIGTERM, and SIGKILL if it still runs 5 s later.

			Exit codes besides the command's own: 125 hodei, the cluster or the agent failed, 126
			the command can't be executed, 127 it was not found, 128+n signal n killed it, 2 wrong
			usage.`),
		Example: templates.Examples(`
			# Look at a file of a job that runs
			hodei exec hodei-make-k3x9z -- cat /proc/meminfo

			# A shell beside it
			hodei exec -it hodei-make-k3x9z -- sh

			# Send it a file
			hodei exec -i hodei-make-k3x9z -- tar x -C /tmp <data.tar`),
		Args: func(cmd *cobra.Command, args []string) error {
			switch dash := cmd.ArgsLenAtDash(); {
			case len(args) == 0:
				return errors.New("no job: want NAME -- COMMAND")
			case dash < 0 && len(args) > 1, dash > 1:
				return errors.New("the command stands after --: NAME -- COMMAND")
			case dash == 0:
				return errors.New("no job before --: want NAME -- COMMAND")
			case len(args) == 1:
				return errors.New("no command: write it after NAME --")
			}
			return nil
		},
		ValidArgsFunction: env.CompleteLiveJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(env, cmd, args[0], args[1:])
			if err == nil {
				err = run(o, cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	f.register(env, cmd)
	return cmd
}

// typed are the flags of exec, as they were typed.
type typed struct {
	quiet, stdin, tty   bool
	workdir, detachKeys string
	variables           []string
}

// register gives cmd the flags.
func (f *typed) register(env *command.Env, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "Write nothing but the command's own output and errors.")
	flags.BoolVarP(&f.stdin, "stdin", "i", false, "Send this terminal's or pipe's input to the command.")
	flags.BoolVarP(&f.tty, "tty", "t", false, "Give the command a terminal, which is this one. Needs -i.")
	flags.StringVar(&f.workdir, "workdir", "", "Directory of the command, from the job's own. Default: that one.")
	flags.StringArrayVarP(&f.variables, "env", "e", nil,
		"Variable of the command, NAME=VALUE, beside or in place of the job's; NAME alone takes it from here; may be repeated.")
	command.DetachKeysFlag(flags, &f.detachKeys)
	flags.Lookup("detach-keys").Usage =
		"With -t: keys that hang up the command, characters and ctrl-X with commas in between. Empty: none."
	env.AddProviderFlag(cmd, flags, "Where the job runs")
}

// options turns flags and arguments into options.
func (f *typed) options(env *command.Env, cmd *cobra.Command, name string, words []string) (*Options, error) {
	detachKeys, err := env.Terminal(cmd, f.stdin, f.tty, f.detachKeys)
	if err != nil {
		return nil, err
	}
	o := &Options{
		JobName: name, Command: words, Workdir: f.workdir, Out: env.Stdout(), ErrOut: env.ErrOut, Signals: env.Signals,
		Screen: command.NewScreen(env, f.quiet),
	}
	o.Env, o.Unset = command.Variables(nil, f.variables, env.LookupEnv)
	if f.stdin {
		o.In = env.In
	} else {
		o.InputWaits = submission.InputWaits(env.In)
	}
	if f.tty {
		o.TTY, o.DetachKeys = true, detachKeys
		o.Env = command.WithTerm(o.Env, o.Unset, env.LookupEnv)
	}
	if err := o.check(); err != nil {
		return nil, command.Usagef(cmd, "%w", err)
	}
	if o.Cluster, err = env.ClusterOrMachine(); err != nil {
		return nil, err
	}
	return o, nil
}

// Options is which command is run beside which job, and what it is connected to.
type Options struct {
	JobName string
	// Cluster is where the job runs; nil: on this machine.
	Cluster *kubernetes.Provider
	Command []string
	Env     []job.EnvVar
	// Unset are variables that were to be taken from here and are not set, which is told.
	Unset []string
	// Workdir is where the command starts, from the directory of the job's own; empty: there.
	Workdir string
	// In is sent to the command; nil: its stdin is empty. With TTY it is typed at In and shown on Out, which are a
	// terminal, and DetachKeys leave it.
	In          io.Reader
	InputWaits  bool // bytes wait on stdin, and are not sent
	TTY         bool
	DetachKeys  terminal.Keys
	Out, ErrOut io.Writer
	Screen      *output.Screen
	Signals     *signals.Set
}

// target is a job that a command can be run beside.
type target interface {
	follow.Job
	Close()
}

// Run has the command run, and waits for its end. Its error is a *job.ExitError unless the command exits 0.
func (o *Options) Run(ctx context.Context) error {
	at, namespace, err := o.find(ctx)
	if err != nil {
		return err
	}
	defer at.Close()
	heard, stop := o.Signals.ForSession()
	defer stop()
	input, shown, end, err := o.input()
	if err != nil {
		return err
	}
	defer end()
	defer o.Screen.Stop()
	o.noteChoices()
	e := &execution{Options: o, input: input, shown: shown, signals: heard, entered: make(chan struct{})}
	out := o.Out
	if shown != nil {
		out = &gated{to: out, open: e.entered}
	}
	e.Execution = coordinator.NewExecution(o.start(), input, out, o.ErrOut)
	meeting := &follow.Attachment{
		Job: at, Namespace: namespace, Name: o.JobName, Exec: e.Execution,
		TurnedAway: func(f *coordinator.Fault) { o.Screen.Note(follow.FaultNote(f)) },
	}
	return meeting.Run(ctx, e.conduct)
}

// noteChoices says what the command does not get.
func (o *Options) noteChoices() {
	for _, name := range o.Unset {
		o.Screen.Note(submission.UnsetNote(name))
	}
	if o.InputWaits {
		o.Screen.Note(submission.InputNote("exec"))
	}
}

// find finds the job, and a way to its agent.
func (o *Options) find(ctx context.Context) (at target, namespace string, err error) {
	if o.Cluster == nil {
		at, err := local.Attach(o.JobName)
		if err != nil {
			return nil, "", err
		}
		return at, local.Namespace, nil
	}
	found, err := o.Cluster.Find(ctx, o.JobName)
	if err == nil {
		err = refusal(found)
	}
	if err != nil {
		return nil, "", err
	}
	run, err := o.Cluster.Attach(ctx, found, kubernetes.RunOptions{Exec: true})
	if err != nil {
		return nil, "", err
	}
	return run, o.Cluster.Namespace(), nil
}

// refusal says why no command can be run beside a job, as it was found; nil: one may.
func refusal(found *kubernetes.Found) error {
	name := shell.Quote(found.Spec.Name)
	var last kubernetes.Attempt
	if n := len(found.Attempts); n > 0 {
		last = found.Attempts[n-1]
	}
	switch {
	case found.Finished:
		return fmt.Errorf("job %s has ended: %s", name, found.Outcome.Summary())
	case !found.Spec.Exec:
		return errNotAllowed(name)
	case found.Suspended() != nil:
		return found.Suspended()
	case last.Ended || last.Left:
		return fmt.Errorf("the command of job %s has ended", name)
	case !last.Running && !last.MayRun:
		return errNotStarted(name)
	}
	return nil
}

func errNotAllowed(name string) error {
	return &job.Hinted{
		Err:  fmt.Errorf("job %s was made without --exec: no command may be run beside it", name),
		Hint: "allow it for the next one: {hodei} run --exec -- COMMAND",
	}
}

func errNotStarted(name string) error {
	return &job.Hinted{
		Err:  fmt.Errorf("the command of job %s has not started: there is nothing to run beside yet", name),
		Hint: "{hodei} wait --for running " + name,
	}
}

// start is the order to the agent.
func (o *Options) start() *hodeipb.ExecStart {
	start := &hodeipb.ExecStart{Directory: []byte(o.Workdir), Tty: o.TTY}
	for _, word := range o.Command {
		start.Command = append(start.Command, []byte(word))
	}
	for _, v := range o.Env {
		start.Environment = append(start.Environment, []byte(v.Name+"="+v.Value))
	}
	return start
}

// check says why an agent would not take the command.
func (o *Options) check() error {
	size := len(o.Workdir)
	for _, word := range o.Command {
		size += len(word)
	}
	for _, v := range o.Env {
		if v.Name == "" {
			return errors.New("-e: a variable without a name: want NAME=VALUE")
		}
		size += len(v.Name) + len(v.Value)
	}
	switch {
	case o.Command[0] == "":
		return errors.New("the command is empty: write it after NAME --")
	case size > hodeipb.MaxExecBytes:
		return fmt.Errorf("the command and its variables have %d bytes, at most %d can be sent: send a file with -i",
			size, hodeipb.MaxExecBytes)
	}
	return nil
}

// input is what is sent to the command, and its terminal here; nil: nothing, and none. The func ends both.
func (o *Options) input() (*coordinator.Input, *terminal.Terminal, func(), error) {
	switch {
	case o.In == nil:
		return nil, nil, func() {}, nil
	case !o.TTY:
		input, end, err := session.NewInput(o.In)
		return input, nil, end, err
	}
	shown, err := terminal.Open(o.In, o.Out, o.DetachKeys)
	if err != nil {
		return nil, nil, nil, err
	}
	resized, stop := o.Signals.Resized()
	input, end := session.NewTerminalInput(shown, resized, false)
	return input, shown, func() {
		stop()
		end()
	}, nil
}
