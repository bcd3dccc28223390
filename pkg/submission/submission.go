// Package submission makes a job and follows it to its end, or leaves it running, as hodei run and rerun do. Start with
// [Run]; its [Config] says what. submit.go has the making of the job, and said.go what is said beside its output.
//
// The package knows no flags and no environment: what a person typed ends above it. How a job is followed is
// pkg/session's.
package submission

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/session"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// Config says which job is made, and how it is made and followed. Teller, Authority, OpenStore and Sink are needed, and
// Print with DryRun or Detach; everything else may be zero.
type Config struct {
	// Teller has the job's Spec, with its defaults, and Place, and where is told how it goes.
	session.Teller
	// In is the command's input if the Spec has Stdin. Otherwise it is only asked whether bytes wait on it.
	In io.Reader
	// TerminalOut shows the command's terminal if the Spec has TTY; In is where it is typed, and DetachKeys leave it.
	TerminalOut io.Writer
	DetachKeys  terminal.Keys
	// DryRun prints the Job, and makes none. Detach leaves it running, and prints it.
	DryRun, Detach bool
	// Replace deletes a job of the same name first.
	Replace bool
	// Print prints the Job.
	Print func() error

	// Authority signs for the job; AuthorityNotes say where it is from.
	Authority      *certs.Authority
	AuthorityNotes []string
	// Unset are variables that were to be taken from here, and are not set.
	Unset []string
	// Lingers tells that the Spec's Linger was asked for.
	Lingers bool
	// NoFallback tells that the output may not come from the container's log in place of the tunnel.
	NoFallback bool
	// NoExec tells that no commands may be run beside the job's, whatever its Place has for a default.
	NoExec bool

	// Follow, Sink and UsageInterval are those of a session.Config.
	Follow        bool
	Sink          output.Sink
	UsageInterval time.Duration
	// MetricsAddr is where usage is shown to Prometheus; empty: nowhere.
	MetricsAddr string

	// OpenStore opens the log store for writing.
	OpenStore func() (*place.Store, error)
	// Signals hears what the process is sent.
	Signals *signals.Set
	// Afterwards is that of a session.Config.
	Afterwards func(f func())
}

// Run makes the job and follows it. Its error is that of [session.Run], or says why there is no job.
func Run(ctx context.Context, c *Config) error {
	if c.DryRun {
		return c.Print()
	}
	if err := c.checkInput(); err != nil {
		return err
	}
	exporter, stopMetrics, err := session.ServeMetrics(ctx, "run", c.MetricsAddr, c.Screen.Note)
	if err != nil {
		return err
	}
	defer stopMetrics()
	c.noteChoices(time.Now())
	id, err := c.Authority.IssueJob(certs.ID{Namespace: c.Place.Namespace(), Job: c.Spec.Name})
	if err != nil {
		return err
	}
	var store *place.Store
	if c.Follow && !c.Detach {
		if store, err = c.OpenStore(); err != nil {
			return err
		}
		defer store.Close(c.Screen.Note)
	}
	// Before anything is made: a Ctrl-C from here on cleans up.
	heard, stop := c.Signals.ForSession()
	defer stop()
	if c.Detach {
		defer c.startSweep(ctx)()
	}
	defer c.Screen.Stop()
	var exec *certs.JobCerts
	if c.Spec.Exec {
		if exec, err = c.Authority.IssueExec(certs.ID{Namespace: c.Place.Namespace(), Job: c.Spec.Name}); err != nil {
			return err
		}
	}
	made, err := c.submit(ctx, id, exec, heard)
	if err != nil {
		return err
	}
	if err := c.noteInput(); err != nil {
		made.job.Close()
		return err
	}
	if c.Detach {
		defer made.job.Close()
		return c.Print()
	}
	input, shown, closeInput, err := c.input()
	if err != nil {
		made.job.Close()
		return err
	}
	defer closeInput()
	c.noteWay(made.fallback)
	defer c.startSweep(ctx)() // while the Pod starts: the cluster is not kept from making it
	return session.Run(ctx, session.Config{
		Teller: c.Teller, Job: made.job, Follow: c.Follow, Fallback: made.fallback, Sink: c.Sink, Store: store,
		Input: input, Terminal: shown,
		UsageInterval: c.UsageInterval, Exporter: exporter,
		Signals: heard, StopSignals: stop, Afterwards: c.Afterwards,
	})
}

// checkInput refuses an input that can't be read, before there is a job that waits for it.
func (c *Config) checkInput() error {
	file, ok := c.In.(*os.File)
	if !ok || !c.Spec.Stdin {
		return nil
	}
	if info, err := file.Stat(); err != nil || !info.IsDir() {
		return nil //nolint:nilerr // reading tells
	}
	return &job.Hinted{Err: errors.New("stdin is a directory, and has no input"), Hint: "name a file: {hodei} run -i -- COMMAND <FILE"}
}

// input is what is sent to the command, and where its terminal is shown; nil: nothing, and nowhere. The func ends both.
func (c *Config) input() (*coordinator.Input, *terminal.Terminal, func(), error) {
	switch {
	case !c.Spec.Stdin:
		return nil, nil, func() {}, nil
	case !c.Spec.TTY:
		input, end, err := session.NewInput(c.In)
		return input, nil, end, err
	}
	shown, err := terminal.Open(c.In, c.TerminalOut, c.DetachKeys)
	if err != nil {
		return nil, nil, nil, err
	}
	resized, stop := c.Signals.Resized()
	input, end := session.NewTerminalInput(shown, resized, false)
	return input, shown, func() {
		stop()
		end()
	}, nil
}
