// Package run is the command hodei run: it makes a job and follows it to its end, or leaves it running. Start with
// [New]; [Options.Run] is all that one run does. flags.go has the flags, options.go and spec.go what they mean,
// submit.go the making of the job, and said.go what is said beside its output. How a job is followed is pkg/session's.
package run

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/util/templates"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/command"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// New makes the command; run is (*Options).Run, or a test's.
func New(env *command.Env, run func(*Options, context.Context) error) *cobra.Command {
	var f typed
	cmd := &cobra.Command{
		Use:                   "run [flags] -- COMMAND [ARG...]",
		DisableFlagsInUseLine: true,
		Short:                 "Run a command in the cluster and give back its output and exit code",
		Long: templates.LongDesc(`
			Run a command in a Pod of its own and follow it: its stdout comes on stdout, its
			stderr on stderr, byte for byte, and hodei ends with its exit code.

			Any image works. The command runs as a UID of the job's own unless --user or the
			provider sets another; flags override the provider. Its stdin is empty unless -i
			sends it this one, to the end and byte for byte. A command whose input breaks off,
			because hodei is gone for longer than --start-timeout, is stopped: cut input never
			looks like its end.

			-it gives the command a terminal, which is this one while it runs: keys, the size and
			full-screen programs work as they do here, and Ctrl-C and Ctrl-Z are the command's. Its
			output is one stream, on stdout. --detach-keys (ctrl-] and d) leave it running, for
			'hodei attach -it'. To stop it is to hang up.

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

			# Send it the output of another command
			sort names.txt | hodei run -i -- uniq -c

			# A shell in a container
			hodei run -it --image debian:12 -- bash

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
				return noDash(env, cmd, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(env, cmd, args)
			if err == nil {
				err = run(o, cmd.Context())
			}
			return command.AsRun(err)
		},
	}
	f.register(env, cmd)
	return cmd
}

// Options is what one run does: a job, and how it is made and followed.
type Options struct {
	// Teller has the job's Spec and Place, and where is told how it goes.
	session.Teller
	// In is the command's input if the Spec has Stdin. Otherwise it is only asked whether bytes wait on it. Out takes
	// the Job's name or manifest.
	In  io.Reader
	Out io.Writer
	// TerminalOut shows the command's terminal if the Spec has TTY; In is where it is typed, and DetachKeys leave it.
	TerminalOut io.Writer
	DetachKeys  terminal.Keys
	// Format is how the Job is printed: json, yaml or name. Empty: its name alone, or with DryRun as yaml.
	Format string
	// DryRun prints the Job, and makes none. Detach leaves it running, and prints it.
	DryRun, Detach bool

	// Authority signs for the job; AuthorityNotes say where it is from.
	Authority      *certs.Authority
	AuthorityNotes []string
	// Unset are variables that were to be taken from here, and are not set.
	Unset []string
	// Lingers tells that the Spec's Linger was asked for.
	Lingers bool
	// NoFallback tells that the output may not come from the container's log in place of the tunnel.
	NoFallback bool

	// Follow, Sink and UsageInterval are those of a session.Config.
	Follow        bool
	Sink          output.Sink
	UsageInterval time.Duration
	// MetricsAddr is where usage is shown to Prometheus; empty: nowhere.
	MetricsAddr string

	// OpenStore opens the log store for writing.
	OpenStore func() (*place.Store, error)
	// Signals hears what the run is sent.
	Signals *signals.Set
	// Afterwards is that of a session.Config.
	Afterwards func(f func())
}

// input is what is sent to the command, and where its terminal is shown; nil: nothing, and nowhere. The func ends both.
func (o *Options) input() (*coordinator.Input, *terminal.Terminal, func(), error) {
	switch {
	case !o.Spec.Stdin:
		return nil, nil, func() {}, nil
	case !o.Spec.TTY:
		input, end, err := session.NewInput(o.In)
		return input, nil, end, err
	}
	shown, err := terminal.Open(o.In, o.TerminalOut, o.DetachKeys)
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

// Run makes the job and follows it. Its error is that of [session.Run], or says why there is no job.
func (o *Options) Run(ctx context.Context) error {
	if o.DryRun {
		return o.printManifest("yaml")
	}
	exporter, stopMetrics, err := session.ServeMetrics(ctx, "run", o.MetricsAddr, o.Screen.Note)
	if err != nil {
		return err
	}
	defer stopMetrics()
	o.noteChoices(time.Now())
	id, err := o.Authority.IssueJob(certs.ID{Namespace: o.Place.Namespace(), Job: o.Spec.Name})
	if err != nil {
		return err
	}
	var store *place.Store
	if o.Follow && !o.Detach {
		if store, err = o.OpenStore(); err != nil {
			return err
		}
		defer store.Close(o.Screen.Note)
	}
	// Before anything is made: a Ctrl-C from here on cleans up.
	heard, stop := o.Signals.ForSession()
	defer stop()
	if o.Detach {
		defer o.startSweep(ctx)()
	}
	defer o.Screen.Stop()
	made, err := o.submit(ctx, id, heard)
	if err != nil {
		return err
	}
	if err := o.noteInput(); err != nil {
		made.job.Close()
		return err
	}
	if o.Detach {
		defer made.job.Close()
		return o.detached()
	}
	input, shown, closeInput, err := o.input()
	if err != nil {
		made.job.Close()
		return err
	}
	defer closeInput()
	o.noteWay(made.fallback)
	defer o.startSweep(ctx)() // while the Pod starts: the cluster is not kept from making it
	return session.Run(ctx, session.Config{
		Teller: o.Teller, Job: made.job, Follow: o.Follow, Fallback: made.fallback, Sink: o.Sink, Store: store,
		Input: input, Terminal: shown,
		UsageInterval: o.UsageInterval, Exporter: exporter,
		Signals: heard, StopSignals: stop, Afterwards: o.Afterwards,
	})
}
