// Package place turns the settings of this machine into what a command works with: the cluster that it is about
// ([Target]), the provider on which jobs run ([Place]), the authority that signs for them, and the log store that
// keeps their output ([Store]). Start with a [Home]. The package parses no flags and writes to no stream.
package place

import (
	"context"
	"crypto/tls"
	"net"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
)

// Place is where jobs run: a provider, ready to use.
type Place interface {
	// Describe returns where that is, in words; Namespace returns the namespace of its jobs.
	Describe() string
	Namespace() string
	// SetDefaults fills in the fields of spec that are zero and have a default here.
	SetDefaults(spec *job.Spec)
	// MayTunnel reports whether we may reach the agents.
	MayTunnel(ctx context.Context) (bool, error)
	// EBPFHint returns what to do about a job that ended because it could not have eBPF; empty: it ended otherwise.
	EBPFHint(o *job.Outcome) string
	// Submit makes the job's worker. The options say how to follow it, where there is a choice.
	Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, o kubernetes.RunOptions) (Job, error)
}

// Job is a job that was submitted.
type Job interface {
	// UID returns an identifier that no other job of the same name has.
	UID() string
	// Listener returns where the connections of its agents arrive; TLS is our side of them.
	Listener() net.Listener
	TLS() *tls.Config
	// Watch tells what becomes of the job until it ends, and returns how it ended. It may be called once.
	Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error)
	// Notes returns what a person should know of the job after it was submitted.
	Notes() []string
	// Unhold prepares a job whose start is held for the start of its command, which must not be let go
	// on before. The channel gets nil, or why that failed, once.
	Unhold(ctx context.Context) <-chan error
	// Keeps returns what keeps the job from completing, and what to do about it; empty: nothing does.
	Keeps() string
	// StopRetrying makes the current attempt the last.
	StopRetrying(ctx context.Context) error
	// Delete removes a job that has not started or has ended, at once.
	Delete(ctx context.Context) error
	// Close releases what the Job uses here. A job in a cluster goes on.
	Close()
}

// Cluster is a Place in Kubernetes.
type Cluster struct{ *kubernetes.Provider }

// Machine is this machine as a Place.
type Machine struct{ *local.Provider }

// Submit makes the job's worker.
func (c Cluster) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, o kubernetes.RunOptions) (Job, error) {
	return orNil(c.Provider.Submit(ctx, spec, id, o))
}

// Submit starts the job's worker, whose agent dials us whether the options say so or not.
func (m Machine) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, o kubernetes.RunOptions) (Job, error) {
	return orNil(m.Provider.Submit(ctx, spec, id, o.ExecCerts))
}

// orNil returns a nil Job with an error: a nil pointer in an interface would not be nil.
func orNil[T Job](s T, err error) (Job, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
