package kubernetes

import (
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// renewWait bounds the reading of the Secret when a connection is made anew: the
	// agent has said its hello and gives us 5 s for the handshake.
	renewWait = 2 * time.Second
	// clockTolerance is how far the API server's clock may be off ours unmentioned.
	// Certificates begin 5 minutes back, and a node may be a little off the API server.
	clockTolerance = 4 * time.Minute
)

// TLS is our side of the connections to the job's agents: with the certificates that
// the job's Secret held when the connection was made, as far as we may read it. It
// is nil with NoTunnel.
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
	id, _, err := r.provider.serverCerts(ctx, r.job)
	if err == nil {
		err = r.certs.Replace(id)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewal = err // we go on with what we have; Refused tells, if it does not do
}

// jobSecret reads the Secret of a job. The error is the API server's where it is not
// there, else a *job.Failure, or that it is another job's.
func (p *Provider) jobSecret(ctx context.Context, j *batchv1.Job) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	secret, err := p.client.CoreV1().Secrets(j.Namespace).Get(ctx, j.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, err
	case err != nil:
		return nil, Explain(err)
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
		"certificates are refused between the agent of %s and us: %s; ours is valid from %s to %s, and this machine's clock says %s",
		r.spec.Name, oneLine(err.Error()), stamp(cert.NotBefore), stamp(cert.NotAfter), stamp(time.Now()))}
	if r.found == nil {
		f.Message += fmt.Sprintf(", the API server's %s", stamp(time.Now().Add(r.ahead)))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.renewal != nil {
		f.Message += "; the job's Secret could not be read anew: " + oneLine(r.renewal.Error())
	}
	f.Hint = fmt.Sprintf("compare the clocks; if they agree: {hodei} certs inspect --job %[1]s -n %[2]s, {hodei} certs rotate --job %[1]s -n %[2]s", r.spec.Name, r.job.Namespace)
	return f
}

// ClockNote says both clocks if the API server's is too far off ours, by the time
// that it gave the Job; else it is "".
func (r *Run) ClockNote() string {
	if r.ahead.Abs() <= clockTolerance {
		return ""
	}
	now := time.Now()
	return fmt.Sprintf("the clocks differ: the API server's says %s and this machine's %s; an agent refuses certificates that are not valid by its own",
		stamp(now.Add(r.ahead)), stamp(now))
}

// ClockHint is what helps against an agent's last words, if they are about the time
// of a certificate; else it is "".
func ClockHint(message string) string {
	for _, err := range []error{certs.ErrNotYetValid, certs.ErrExpired} {
		if strings.Contains(message, err.Error()) {
			return "compare the clocks of this machine and of the job's node; chronyc tracking, or timedatectl, tells whether they are kept"
		}
	}
	return ""
}

// clockAhead is how far a clock by which something was made, in whole seconds, is
// ahead of ours, which saw the request and the answer; below 0 it is behind.
func clockAhead(made, asked, answered time.Time) time.Duration {
	switch {
	case made.Before(asked.Truncate(time.Second)):
		return made.Sub(asked.Truncate(time.Second))
	case made.After(answered):
		return made.Sub(answered)
	}
	return 0
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// jobCerts are the certificates that a job's Secret holds.
func jobCerts(s *corev1.Secret) *certs.JobCerts {
	return &certs.JobCerts{
		CA:         s.Data["ca.crt"],
		ClientCert: s.Data["client.crt"], ClientKey: s.Data["client.key"],
		ServerCert: s.Data["server.crt"], ServerKey: s.Data["server.key"],
	}
}
