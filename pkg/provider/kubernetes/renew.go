package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/forward"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

const (
	// syncWait is how long an agent's files are given to follow the Secret: the
	// kubelet looks at it once a minute or so, sooner where we may change the Pod.
	syncWait = 3 * time.Minute
	// syncEvery is the time between two looks, each of them a port-forward.
	syncEvery = 2 * time.Second
	// annotationRenewed is changed to have the kubelet look at the Secret at once.
	annotationRenewed = "hodei.io/certificates-renewed"
)

// RenewCerts replaces the certificates of a job that has not finished by new ones
// of a, in its Secret, from which agents and coordinators take them when they next
// connect. Connections that are open stay.
//
// If the job's certificates are of another CA than a, the coordinator's is replaced
// once the agents know a: that takes until the kubelets have brought them the
// Secret, up to 3 minutes, and is told to say. Until then, and should it fail, old
// and new agents can be met. The error is a *job.Failure, or that the Secret is
// another job's.
//
// The certificate for commands beside the job's comes last, if the job allows them and
// its Secret is there. RenewCerts returns the names of the Secrets that have new ones.
func (p *Provider) RenewCerts(ctx context.Context, found *Found, a *certs.Authority, say func(string)) (renewed []string, err error) {
	ca, err := p.renewFirst(ctx, found, a, say)
	if err != nil {
		return nil, err
	}
	renewed = []string{found.Job.Name}
	if !found.Spec.Exec {
		return renewed, nil
	}
	second, err := p.renewExec(ctx, found.Job, a, ca)
	if err != nil {
		f := *explain.Error(err)
		f.Message = fmt.Sprintf("secret %q is renewed, and %q is not: %s", found.Job.Name, manifest.ExecName(found.Job.Name), f.Message)
		return nil, &f
	}
	return append(renewed, second...), nil
}

// renewFirst replaces the certificates in the Secret that every job has, and returns the authorities in it.
func (p *Provider) renewFirst(ctx context.Context, found *Found, a *certs.Authority, say func(string)) (ca []byte, err error) {
	secret, err := p.jobSecret(ctx, found.Job, found.Job.Name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, explain.Error(err)
	case err != nil:
		return nil, err
	}
	id := certs.ID{Namespace: found.Job.Namespace, Job: found.Job.Name}
	renewal, err := a.RenewJob(id, manifest.CertsOf(secret))
	if err != nil {
		return nil, &job.Failure{Cause: job.ConfigError, Err: err, Message: fmt.Sprintf("secret %q: %v", secret.Name, err),
			Hint: fmt.Sprintf("{hodei} certs inspect --job %s -n %s", id.Job, id.Namespace)}
	}
	again := fmt.Sprintf("{hodei} certs rotate --job %s -n %s", id.Job, id.Namespace)
	if a.Dir != "" {
		again += " --dir " + shell.Quote(a.Dir)
	}
	agents := withAgent(found)
	if renewal.Overlap != nil && len(agents) > 0 {
		if secret, err = p.storeCerts(ctx, secret, renewal.Overlap); err != nil {
			return nil, err
		}
		p.hasten(ctx, id.Namespace, agents, secret.ResourceVersion)
		say("waiting until the agent has the new certificates")
		if err := p.awaitAgents(ctx, id.Namespace, agents, renewal); err != nil {
			f := *explain.Error(err)
			f.Message = "the worker's certificates are renewed and the coordinator's is not: " + f.Message
			f.Hint = "the job can be attached to as before; again: " + again
			return nil, &f
		}
	}
	if secret, err = p.storeCerts(ctx, secret, renewal.Final); err != nil {
		return nil, err
	}
	p.hasten(ctx, id.Namespace, agents, secret.ResourceVersion)
	return renewal.Final.CA, nil
}

// renewExec replaces the certificate in a job's second Secret, once its agents know a, and returns that Secret's name. ca is
// what the job's first one has of authorities.
func (p *Provider) renewExec(ctx context.Context, j *batchv1.Job, a *certs.Authority, ca []byte) (renewed []string, err error) {
	secret, err := p.jobSecret(ctx, j, manifest.ExecName(j.Name))
	if apierrors.IsNotFound(err) { // somebody has taken the right away that it gives
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fresh, err := a.IssueExec(certs.ID{Namespace: j.Namespace, Job: j.Name})
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{"ca.crt": ca, "server.crt": fresh.ServerCert, "server.key": fresh.ServerKey}
	if _, err := p.store(ctx, secret, j.Name, data); err != nil {
		return nil, err
	}
	return []string{secret.Name}, nil
}

// withAgent are the Pods whose agents may have read the Secret: they do so a second
// or two before they are said to run.
func withAgent(found *Found) []string {
	var pods []string
	for _, a := range found.Attempts {
		if a.bound {
			pods = append(pods, a.Name)
		}
	}
	return pods
}

// DialsServer tells that the job's agents dial a coordinator that stays, whose
// certificates are not those of the job's Secret. Variables that come from elsewhere
// count, since nobody here knows them.
func (f *Found) DialsServer() bool {
	for _, c := range f.Job.Spec.Template.Spec.Containers {
		if c.Name == manifest.AgentContainer {
			return len(c.EnvFrom) > 0 ||
				slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == contract.EnvServerAddress })
		}
	}
	return false
}

// storeCerts puts c into a job's first Secret, if nobody has changed that meanwhile.
func (p *Provider) storeCerts(ctx context.Context, secret *corev1.Secret, c *certs.JobCerts) (*corev1.Secret, error) {
	return p.store(ctx, secret, secret.Name, map[string][]byte{
		"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey,
		"server.crt": c.ServerCert, "server.key": c.ServerKey,
	})
}

// store puts data into a Secret of a job, if nobody has changed that meanwhile.
func (p *Provider) store(ctx context.Context, secret *corev1.Secret, name string, data map[string][]byte) (*corev1.Secret, error) {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": secret.UID, "resourceVersion": secret.ResourceVersion},
		"data":     data,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stored, err := p.client.CoreV1().Secrets(secret.Namespace).Patch(ctx, secret.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsConflict(err) {
		return nil, &job.Failure{Cause: job.ConfigError, Err: err,
			Message: fmt.Sprintf("secret %q was changed by somebody else meanwhile", secret.Name),
			Hint:    fmt.Sprintf("again: {hodei} certs rotate --job %s -n %s", name, secret.Namespace)}
	}
	if apierrors.IsNotFound(err) {
		return nil, &job.Failure{Cause: job.ConfigError, Err: err, Message: fmt.Sprintf("job %q was deleted meanwhile", name),
			Hint: "{hodei} jobs -n " + secret.Namespace}
	}
	if err != nil {
		f := explain.Error(err)
		if f.Cause == job.Forbidden { // no role of ours has this right
			f.Hint = fmt.Sprintf("an administrator has to do this: {hodei} certs rotate --job %s -n %s", name, secret.Namespace)
		}
		return nil, f
	}
	return stored, nil
}

// hasten has the kubelets look at the Secret now. Without the right to change Pods
// they do so within a minute or two.
func (p *Provider) hasten(ctx context.Context, namespace string, pods []string, version string) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, annotationRenewed, version)
	for _, pod := range pods {
		_, _ = p.client.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{})
	}
}

// errOldFiles is an agent's that has not got the new certificates yet.
var errOldFiles = errors.New("the agent shows its old certificate")

// awaitAgents waits until the agents of the Pods have the certificates of a renewal:
// until each takes the new certificate for its coordinator's, and shows its own new
// one. Those that end meanwhile are not waited for.
func (p *Provider) awaitAgents(ctx context.Context, namespace string, pods []string, r *certs.Renewal) error {
	probe := *r.Final
	probe.CA = r.Overlap.CA // who is still the old one is known by it
	config, err := probe.ServerConfig()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, syncWait) // for all of them: they are synced side by side
	defer cancel()
	for _, pod := range pods {
		if err := p.awaitAgent(ctx, namespace, pod, func() error {
			return p.shakeHands(ctx, namespace, pod, config, r.Final.ClientCert)
		}); err != nil {
			return err
		}
	}
	return nil
}

// awaitAgent tries until it works, or there is no agent.
func (p *Provider) awaitAgent(ctx context.Context, namespace, pod string, try func() error) error {
	began := time.Now()
	for refused := 0; ; {
		err := try()
		switch {
		case err == nil:
			return nil
		case !forward.IsForbidden(err):
			refused = 0
		default: // WebSocket and SPDY take different rights, as in forward.Dialer.Keep
			if refused++; refused == 2 {
				return p.dialer.Forbidden(ctx, namespace, err)
			}
		}
		now, e := p.client.CoreV1().Pods(namespace).Get(ctx, pod, metav1.GetOptions{})
		switch { // who may not look goes on trying
		case apierrors.IsNotFound(e), e == nil && hasEnded(now):
			return nil
		case e == nil && !explain.AgentRuns(now):
			if v := explain.Pod(now); v.Failure != nil && time.Since(began) >= v.Grace {
				return v.Failure
			}
		}
		select {
		case <-time.After(syncEvery):
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return errors.New("interrupted")
			}
			return &job.Failure{Cause: job.ConfigError, Err: err,
				Message: fmt.Sprintf("the agent of %s has not taken them within %s: %s", pod, syncWait, explain.OneLine(err.Error()))}
		}
	}
}

// shakeHands is one look at the agent's certificates. The agent finds that there is
// no coordinator behind the handshake, and waits for the next.
func (p *Provider) shakeHands(ctx context.Context, namespace, pod string, config *tls.Config, want []byte) error {
	conn, err := p.dialer.Dial(ctx, namespace, pod)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, forward.GreetingWait)
	defer cancel()
	secure := tls.Server(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return err
	}
	block, _ := pem.Decode(want)
	if block == nil || !bytes.Equal(block.Bytes, secure.ConnectionState().PeerCertificates[0].Raw) {
		return errOldFiles
	}
	return nil
}
