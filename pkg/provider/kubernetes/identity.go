package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
)

// renewWait bounds the reading of the Secret when a connection is made anew: the
// agent has said its hello and gives us 5 s for the handshake.
const renewWait = 2 * time.Second

// TLS is our side of the connections to the job's agents: with the certificates that
// the job's Secret held when the connection was made, as far as we may read it. It
// is nil of a job that was attached to with NoTunnel.
func (r *Run) TLS() *tls.Config {
	if r.certs == nil {
		return nil
	}
	return r.certs.Config()
}

// meet is told of every connection to an agent, before it is used. For the first
// one the certificates that we came with are fresh; it is the one that is waited
// for.
func (r *Run) meet(ctx context.Context) {
	if !r.met.Swap(true) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, renewWait)
	defer cancel()
	id, _, err := r.provider.serverCerts(ctx, r.job, r.exec)
	if err == nil {
		err = r.certs.Replace(id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewal = err // we go on with what we have; Refused tells, if it does not do
}

// jobSecret reads a Secret that a job owns, by its name. The error is the API server's where it is not
// there, else a *job.Failure, or that it is another job's.
func (p *Provider) jobSecret(ctx context.Context, j *batchv1.Job, name string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	secret, err := p.client.CoreV1().Secrets(j.Namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, err
	case err != nil:
		return nil, explain.Error(err)
	case !metav1.IsControlledBy(secret, j):
		return nil, fmt.Errorf("secret %q does not belong to job %q", secret.Name, j.Name)
	}
	return secret, nil
}

// Refused says what there is to say of handshakes that end with err, in which one
// side refuses the other's certificate: of the agent's reason we learn no more than
// an alert, but it is often the time.
func (r *Run) Refused(err error) *job.Failure {
	cert := r.certs.Certificate()
	f := &job.Failure{Cause: job.ConfigError, Err: err, Message: fmt.Sprintf(
		"certificates are refused between the agent of %s and us: %s; ours is valid from %s to %s, and %s",
		r.spec.Name, explain.OneLine(err.Error()), stamp(cert.NotBefore), stamp(cert.NotAfter), r.provider.clock.Both())}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.renewal != nil {
		f.Message += "; the job's Secret could not be read anew: " + explain.OneLine(r.renewal.Error())
	}
	f.Hint = fmt.Sprintf("compare the clocks; if they agree: {hodei} certs inspect --job %[1]s -n %[2]s, "+
		"{hodei} certs rotate --job %[1]s -n %[2]s", r.spec.Name, r.job.Namespace)
	return f
}
