// Package place gets from the settings of this machine to what a command works with: the cluster that
// it is about ([Target]), the provider on which jobs run ([Place]), the authority that signs for them
// and the log store that keeps their output ([Store]). Start with a [Home]. The package shows nothing
// and knows no flags.
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
	// Describe and Namespace say where that is.
	Describe() string
	Namespace() string
	// SetDefaults fills in what is zero in spec, and has a default there.
	SetDefaults(spec *job.Spec)
	// MayTunnel says whether we may reach the agents.
	MayTunnel(ctx context.Context) (bool, error)
	// EBPFHint is what helps where a job ended for want of eBPF; else it is "".
	EBPFHint(o *job.Outcome) string
	// Submit makes the job's worker, and follows it as o says where there is a choice.
	Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, o kubernetes.RunOptions) (Job, error)
}

// Job is a job that was made.
type Job interface {
	// UID tells jobs of the same name apart.
	UID() string
	// Listener is where its agents arrive, and TLS our side of their connections.
	Listener() net.Listener
	TLS() *tls.Config
	// Watch tells what becomes of it and returns its end. Called once.
	Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error)
	// Notes are what is to be said of it once it was made.
	Notes() []string
	// Keeps says what keeps it from completing, and what helps; "": nothing.
	Keeps() string
	// StopRetrying makes the current attempt the last.
	StopRetrying(ctx context.Context) error
	// Delete removes a job that has not started.
	Delete(ctx context.Context) error
	// Close lets go of it. A job in a cluster goes on.
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

// Submit starts the job's worker, whose agent dials us whatever the options say.
func (m Machine) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, _ kubernetes.RunOptions) (Job, error) {
	return orNil(m.Provider.Submit(ctx, spec, id))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[T Job](s T, err error) (Job, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}
