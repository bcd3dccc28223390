package followtest

import (
	"context"
	"crypto/tls"
	"net"
	"sync/atomic"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// Job is a job whose end the test decides. It keeps track of what is done to it.
type Job struct {
	*tunnel.Tunnel
	Ends     chan *job.Outcome // what Watch returns
	Deleted  atomic.Bool
	Stopped  chan struct{} // closed by StopRetrying
	Broken   error         // what Watch fails with; nil: it waits for Ends
	OnDelete func() error  // what Delete does; nil: nothing
}

// NewJob returns a job that runs.
func NewJob() *Job {
	return &Job{Tunnel: tunnel.New(), Ends: make(chan *job.Outcome, 1), Stopped: make(chan struct{})}
}

// UID returns "uid".
func (j *Job) UID() string { return "uid" }

// Listener returns the tunnel.
func (j *Job) Listener() net.Listener { return j.Tunnel }

// TLS returns a config with which nobody can attach; see IssuedJob.
func (j *Job) TLS() *tls.Config { return &tls.Config{} }

// Close closes the tunnel.
func (j *Job) Close() { j.Tunnel.Close() }

// Notes is nil: there is nothing to say of it.
func (j *Job) Notes() []string { return nil }

// Keeps is empty: nothing keeps it from completing.
func (j *Job) Keeps() string { return "" }

// Watch returns what Ends has, or fails with Broken.
func (j *Job) Watch(ctx context.Context, _ job.Observer) (*job.Outcome, error) {
	if j.Broken != nil {
		return nil, j.Broken
	}
	select {
	case o := <-j.Ends:
		return o, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Unhold is done at once.
func (j *Job) Unhold(context.Context) <-chan error {
	done := make(chan error, 1)
	done <- nil
	return done
}

// StopRetrying closes Stopped.
func (j *Job) StopRetrying(context.Context) error {
	close(j.Stopped) // once: a session stops a job once
	return nil
}

// Delete sets Deleted, and returns what OnDelete does.
func (j *Job) Delete(context.Context) error {
	j.Deleted.Store(true)
	if j.OnDelete != nil {
		return j.OnDelete()
	}
	return nil
}
