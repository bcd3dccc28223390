// Package kubernetes makes workers in a cluster: a Job, its Secret, and the
// tunnel to the agents of its Pods. Start with [New] and [Provider.Submit]; a
// [Run] watches one job. Everything that it leaves in the cluster is owned by
// the Job, and collected by Kubernetes.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// requestTimeout bounds every single request to the API server.
const requestTimeout = 30 * time.Second

// Options are a provider's settings. Config, Namespace, WorkerImage and
// ServiceAccount are required.
type Options struct {
	// Config is the way to the API server.
	Config *rest.Config
	// Name of the provider, a label of what it makes.
	Name      string
	Namespace string
	// WorkerImage has hodei-worker at /usr/local/bin.
	WorkerImage string
	// PullPolicy of both images: Always, IfNotPresent, Never or "" (Kubernetes' choice).
	PullPolicy     string
	PullSecrets    []string
	ServiceAccount string
}

// Provider makes workers in one namespace of one cluster.
type Provider struct {
	settings settings
	client   client.Interface
	dialer   *dialer
}

// New returns a provider. It does not talk to the cluster yet.
func New(o Options) (*Provider, error) {
	config := rest.CopyConfig(o.Config)
	// A run is a handful of requests, and they are all on the way to the first
	// line of output; client-go's default of 5 a second would hold them back.
	config.QPS, config.Burst = 50, 100
	// What the API server warns of, it refuses later with a better message.
	config.WarningHandlerWithContext = rest.NoWarnings{}
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	c, err := client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	s := settings{
		provider: o.Name, namespace: o.Namespace, workerImage: o.WorkerImage,
		pullPolicy: corev1.PullPolicy(o.PullPolicy), pullSecrets: o.PullSecrets, serviceAccount: o.ServiceAccount,
	}
	return &Provider{settings: s, client: c, dialer: &dialer{config: config, client: c.CoreV1().RESTClient()}}, nil
}

// Describe says in a few words where jobs go.
func (p *Provider) Describe() string {
	if p.settings.provider == "" {
		return p.settings.namespace
	}
	return fmt.Sprintf("%s (%s)", p.settings.provider, p.settings.namespace)
}

// Namespace is where jobs go.
func (p *Provider) Namespace() string { return p.settings.namespace }

// Manifest is the Job that Submit would make.
func (p *Provider) Manifest(spec *job.Spec) (*batchv1.Job, error) {
	return renderJob(spec, p.withServerName(spec))
}

func (p *Provider) withServerName(spec *job.Spec) settings {
	s := p.settings
	s.serverName = certs.ID{Namespace: s.namespace, Job: spec.Name}.ServerName()
	return s
}

// Run is a job that was submitted.
type Run struct {
	provider *Provider
	spec     *job.Spec
	job      *batchv1.Job
	tunnel   *coordinator.Tunnel
	updates  chan any

	ctx  context.Context // of the informers and the tunnels; ends with Close
	stop context.CancelFunc
	work sync.WaitGroup

	met  atomic.Bool // an agent has answered
	mu   sync.Mutex
	pods map[string]bool // names of all Pods seen
}

// Submit creates the Job and its Secret, and starts to watch them. An error is
// a *job.Failure, and nothing is left behind. A ctx that ends during the
// requests is honoured after them: what was made is then deleted.
func (p *Provider) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts) (*Run, error) {
	manifest, err := p.Manifest(spec)
	if err != nil {
		return nil, err
	}
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	r := &Run{
		provider: p, spec: spec, tunnel: coordinator.NewTunnel(),
		ctx: runCtx, stop: stop, updates: make(chan any), pods: map[string]bool{},
	}
	r.watch() // beforehand: the first events cost no round trip more
	if err := r.create(ctx, manifest, id); err != nil {
		r.Close()
		return nil, Explain(err)
	}
	return r, nil
}

func (r *Run) create(ctx context.Context, manifest *batchv1.Job, id *certs.JobCerts) error {
	c := r.provider.client
	// An answer that we did not wait for could be "created".
	request, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	made, err := c.BatchV1().Jobs(manifest.Namespace).Create(request, manifest, metav1.CreateOptions{})
	if err != nil {
		if !isAnswer(err) { // it may have arrived, and only the answer got lost
			r.job = manifest
			_ = r.Delete(ctx)
		}
		return err
	}
	r.job = made
	// At once, on the same connection: the kubelet looks for it 300 ms later,
	// and if it is not there, again only after 1.5 s.
	if _, err = c.CoreV1().Secrets(manifest.Namespace).Create(request, renderSecret(made, id), metav1.CreateOptions{}); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return errors.Join(err, r.Delete(ctx))
	}
	return nil
}

// isAnswer tells an error that the API server sent from one on the way to it.
func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// Listener is where the agents of this job arrive.
func (r *Run) Listener() net.Listener { return r.tunnel }

// StopRetrying makes the attempt that runs the last one.
func (r *Run) StopRetrying(ctx context.Context) error {
	if r.spec.Retries == 0 {
		return nil
	}
	_, err := r.provider.client.BatchV1().Jobs(r.job.Namespace).Patch(ctx, r.job.Name, types.MergePatchType,
		[]byte(`{"spec":{"backoffLimit":0}}`), metav1.PatchOptions{})
	if err != nil {
		return Explain(err)
	}
	return nil
}

// Delete removes the Job and all that belongs to it, at once: it is for jobs
// that have not started, whose Pods have nothing to save. It works with a ctx
// that has ended, within 30 s.
func (r *Run) Delete(ctx context.Context) error {
	if r.job == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	c, namespace, name := r.provider.client, r.job.Namespace, r.job.Name
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background}
	if r.job.UID != "" { // never somebody else's of the same name
		options.Preconditions = metav1.NewUIDPreconditions(string(r.job.UID))
	}
	if err := ignoreNotFound(c.BatchV1().Jobs(namespace).Delete(ctx, name, options)); err != nil {
		return Explain(fmt.Errorf("delete job %s: %w", name, err))
	}
	if r.job.UID == "" {
		return nil
	}
	// Kubernetes collects the rest by itself; this is sooner, and a Pod whose
	// postStart hook hangs would keep the collector waiting. Rights to it are not
	// needed for a clean end.
	_ = c.CoreV1().Secrets(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	r.mu.Lock()
	defer r.mu.Unlock()
	for pod := range r.pods {
		_ = c.CoreV1().Pods(namespace).Delete(ctx, pod, *metav1.NewDeleteOptions(0))
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// Close stops watching and closes the tunnels. The job goes on.
func (r *Run) Close() {
	r.stop()
	r.tunnel.Close()
	r.work.Wait()
}
