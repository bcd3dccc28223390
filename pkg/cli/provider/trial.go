package provider

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/session"
)

// trial is what came of one of the test's jobs. It is the sink of the job's output.
type trial struct {
	attempt     string // that sent output; empty: none did
	out, errOut bytes.Buffer
	code        int // of the command
}

// Record keeps what the command has printed.
func (t *trial) Record(attempt string, _ uint64, r *hodeipb.Record, data []byte) error {
	t.attempt = attempt
	to := &t.out
	if r.Stream == hodeipb.Stream_STDERR {
		to = &t.errOut
	}
	_, err := to.Write(data)
	return err
}

// Gap returns an error: the test looks for missing output.
func (t *trial) Gap(g output.Gap) error { return errors.New(g.String()) }

// Flush has nothing to do.
func (t *trial) Flush() error { return nil }

// try runs a command in a job, follows it to its end, and removes the job.
func (t *testOptions) try(ctx context.Context, command []string) (tried *trial, err error) {
	spec := t.newSpec(command)
	who := certs.ID{Namespace: t.place.Namespace(), Job: spec.Name}
	id, err := t.authority.IssueJob(who)
	if err != nil {
		return nil, err
	}
	var o kubernetes.RunOptions
	if spec.Exec { // its provider says so
		if o.ExecCerts, err = t.authority.IssueExec(who); err != nil {
			return nil, err
		}
	}
	store, err := trialStore()
	if err != nil {
		return nil, err
	}
	defer store.Close(func(string) {})
	defer func() { err = errors.Join(err, t.remove(ctx, spec.Name)) }()
	submitting, cancel := context.WithTimeout(ctx, 2*t.timeout) // an API server may accept connections and not answer
	defer cancel()
	made, err := t.place.Submit(submitting, spec, id, o)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	tried = &trial{}
	err = t.follow(ctx, spec, made, store, tried)
	if exit, ok := errors.AsType[*job.ExitError](err); ok && (exit.Err == nil || exit.Code == job.ExitNotFound) {
		tried.code, err = exit.Code, nil
	}
	return tried, causeOf(ctx, err)
}

// follow follows a job as hodei run does, but says nothing. It hears signals by itself, and acts on
// them after ctx has ended.
func (t *testOptions) follow(ctx context.Context, spec *job.Spec, made place.Job, store *place.Store, to output.Sink) error {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*t.timeout)
	defer cancel()
	heard, stop := t.signals.ForSession()
	defer stop()
	streams := &output.Streams{Out: io.Discard, Err: io.Discard}
	var after []func()
	err := session.Run(bounded, session.Config{
		Teller: session.Teller{Spec: spec, Place: t.place, Screen: output.NewScreen(streams, true, t.named), Named: t.named},
		Job:    made, Follow: true, Sink: to, Store: store,
		Signals: heard, StopSignals: stop, Afterwards: func(f func()) { after = append(after, f) },
	})
	for _, f := range after {
		f()
	}
	return err
}

// trialStore opens a store that Close removes: the user has no use for the output of the test's jobs.
func trialStore() (*place.Store, error) {
	dir, err := os.MkdirTemp("", "hodei-provider-test-")
	if err != nil {
		return nil, err
	}
	store, err := logstore.Open(dir, logstore.Limits{})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &place.Store{Store: store, Dir: dir, Temporary: errors.New("it is a test's")}, nil
}
