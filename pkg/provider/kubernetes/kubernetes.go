// Package kubernetes makes workers in a cluster: a Job, its Secret, and the
// tunnel to the agents of its Pods. Start with [New] and [Provider.Submit]; a
// [Run] watches one job. Everything that it leaves in the cluster is owned by
// the Job, and collected by Kubernetes.
package kubernetes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"path"
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
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/clock"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/forward"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/tasks"
	"github.com/hodei-jobs/hodei/pkg/provider/tunnel"
)

// requestTimeout bounds every single request to the API server.
const requestTimeout = 30 * time.Second

// Options say where and how. Config and, in Provider, Namespace, Image and
// ServiceAccount are required.
type Options struct {
	// Config is the way to the API server.
	Config *rest.Config
	// Name of the provider, a label of what it makes.
	Name string
	// Provider has the settings; its context and kubeconfig are not read.
	Provider provider.Config
}

// Provider makes workers in one namespace of one cluster.
type Provider struct {
	settings manifest.Settings
	client   client.Interface
	dialer   *forward.Dialer
	clock    *clock.Clock
}

// New returns a provider. It does not talk to the cluster yet.
func New(o Options) (*Provider, error) {
	config := rest.CopyConfig(o.Config)
	// A run is a handful of requests, and they are all on the way to the first
	// line of output; client-go's default of 5 a second would hold them back.
	config.QPS, config.Burst = 50, 100
	config.WarningHandlerWithContext = &warningLog{}
	if config.Dial == nil {
		config.Dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	api, clocked := &clock.Clock{}, rest.CopyConfig(config)
	clocked.Wrap(api.Wrap)
	c, err := client.NewForConfig(clocked)
	if err != nil {
		return nil, err
	}
	s := manifest.Settings{Provider: o.Name, Namespace: o.Provider.Namespace, Config: o.Provider}
	return &Provider{settings: s, client: c, dialer: &forward.Dialer{Config: config, Client: c}, clock: api}, nil
}

// Describe says in a few words where jobs go.
func (p *Provider) Describe() string {
	if p.settings.Provider == "" {
		return p.settings.Namespace
	}
	return fmt.Sprintf("%s (%s)", p.settings.Provider, p.settings.Namespace)
}

// Name is the provider's; empty: it has none, as that of a kube context.
func (p *Provider) Name() string { return p.settings.Provider }

// Namespace is where jobs go.
func (p *Provider) Namespace() string { return p.settings.Namespace }

// SetDefaults fills in what is zero in spec, and has a default here: of the provider's
// own, then of hodei's.
func (p *Provider) SetDefaults(spec *job.Spec) {
	p.settings.Config.SetDefaults(spec)
	spec.SetDefaults()
}

// ContainerLogs says whether a job of this provider copies its output to its
// container's log where nobody has said so.
func (p *Provider) ContainerLogs(detached bool) bool {
	if logs := p.settings.Config.ContainerLogs; logs != nil {
		return *logs
	}
	return detached // nobody follows it from its start: kubectl logs is the next best
}

// MayTunnel says whether we may open a tunnel to the agents. A server that answers
// that it can't say counts as yes, for dialling tells; an error is a *job.Failure:
// it was not reached, or ctx has ended.
func (p *Provider) MayTunnel(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	// Of the two rights it is the one that matters: SPDY takes it and nothing else, and
	// since 1.35 WebSocket takes it too. Who has get alone is taken for shut out, and
	// before 1.35 wrongly; hodei-user has both.
	answer, err := p.dialer.Review(ctx, p.settings.Namespace, "create")
	var status apierrors.APIStatus
	switch {
	case err == nil:
		return answer.Status.Allowed, nil
	case errors.As(err, &status):
		return true, nil
	}
	return false, explain.Error(err)
}

// Manifest is the Job that Submit would make, without asking the cluster: with ebpf: auto
// it is that of a namespace which allows it.
func (p *Provider) Manifest(spec *job.Spec) (*batchv1.Job, error) {
	return manifest.Job(spec, p.withServerName(spec))
}

// CheckSpec refuses a spec, with its defaults, that no cluster could take, before
// anything is made. It asks none. Where one field is wrong the error is a [job.FieldError], or has one in it.
func (p *Provider) CheckSpec(spec *job.Spec) error {
	if spec.Workdir != "" && !path.IsAbs(spec.Workdir) {
		return job.InvalidField("workdir", spec.Workdir, "want a path from the root, as it is in the image")
	}
	j, err := p.Manifest(spec)
	if err != nil {
		return err
	}
	return manifest.CheckSize(j)
}

func (p *Provider) withServerName(spec *job.Spec) manifest.Settings {
	s := p.settings
	s.ServerName = certs.ID{Namespace: s.Namespace, Job: spec.Name}.ServerName()
	return s
}

// RunOptions say how a Run follows its job. The zero value dials the agents.
type RunOptions struct {
	// NoTunnel keeps the Run from dialling the agents, for who may not, or need not: nothing arrives
	// at its Listener, and its TLS is nil if it was attached to. Its Watch reports of each attempt
	// that its command runs, with the Pod's name, since no agent says so.
	NoTunnel bool
	// Exec attaches with the certificate for commands beside the job's, to run one.
	Exec bool
	// ExecCerts are what who may do so has, of a job that is submitted and allows it; nil: it does not.
	ExecCerts *certs.JobCerts
}

// Run is a job that was submitted, or attached to.
type Run struct {
	provider *Provider
	spec     *job.Spec
	job      *batchv1.Job
	secrets  []*corev1.Secret // those that we know, of those that it owns
	exec     bool             // see RunOptions
	noTunnel bool
	certs    *certs.JobServer // nil: there is no tunnel
	tunnel   *tunnel.Tunnel
	updates  chan any
	found    *Found // what was attached to; nil: it was submitted
	ebpf     string // why the agent of what was submitted is left without it; "": it is not, or nobody asked

	work *tasks.Group // the informers and the tunnels, among others

	// completing is held by the one request that gives the Job its deadline.
	completing sync.Mutex

	met atomic.Bool // an agent has answered
	// doubting tells that it is looked into whether the API server still answers us.
	doubting atomic.Bool
	mu       sync.Mutex
	pods     map[string]bool // names of all the job's Pods seen
	deadline *int64          // that the Job is to have once it is complete; nil: none
	// others are the containers of others in the latest of them.
	others []string
	// renewal is why the certificates could not be read anew; nil: they could.
	renewal error
}

// Submit creates the Job and its Secret, and starts to watch them. An error is
// a *job.Failure, and nothing is left behind. A ctx that ends during the
// requests is honoured after them: what was made is then deleted.
func (p *Provider) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts, o RunOptions) (*Run, error) {
	wanted, without, err := p.Plan(ctx, spec)
	if err != nil {
		return nil, err
	}
	r := p.newRun(spec, o)
	r.ebpf = without
	if r.certs, err = certs.NewJobServer(id); err != nil {
		r.Close()
		return nil, explain.Error(err)
	}
	r.watch(ctx) // beforehand: the first events cost no round trip more
	if err := r.create(ctx, wanted, id, o.ExecCerts); err != nil {
		r.Close()
		return nil, p.nameWebhook(ctx, explain.Error(err))
	}
	return r, nil
}

// newRun makes a Run without a job. It ends with Close.
func (p *Provider) newRun(spec *job.Spec, o RunOptions) *Run {
	return &Run{
		provider: p, spec: spec, noTunnel: o.NoTunnel, exec: o.Exec, tunnel: tunnel.New(),
		work: &tasks.Group{}, updates: make(chan any), pods: map[string]bool{},
	}
}

func (r *Run) create(ctx context.Context, wanted *batchv1.Job, id, exec *certs.JobCerts) error {
	c := r.provider.client
	// An answer that we did not wait for could be "created".
	request, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(deleteWait, cancel) })()
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(request, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})
	wanted.Annotations[manifest.AnnotationRun] = rand.Text()
	made, err := c.BatchV1().Jobs(wanted.Namespace).Create(traced, unfinished(wanted), metav1.CreateOptions{})
	if err != nil {
		if request.Err() != nil && ctx.Err() != nil { // the cause, not that we gave up
			err = ctx.Err()
		}
		if sent.Load() && !refused(err) {
			return also(err, r.takeBack(ctx, wanted))
		}
		return err
	}
	r.job = made
	// At once, on the same connection: the kubelet looks for it 300 ms later,
	// and if it is not there, again only after 1.5 s.
	if err = r.createSecret(request, manifest.Secret(made, r.spec, id)); err == nil {
		err = ctx.Err()
	}
	if err == nil && exec != nil {
		if err = r.createSecret(request, manifest.ExecSecret(made, exec)); err == nil {
			err = ctx.Err()
		}
	}
	switch {
	case err != nil:
	case r.spec.Detached: // nobody is there afterwards
		err = r.complete(request, wanted.Spec.ActiveDeadlineSeconds)
	case r.spec.Stdin: // see Unhold
		r.keepCompleting(ctx, manifest.HeldDeadline(r.spec), nil)
	default: // its start needs not wait for it
		r.keepCompleting(ctx, wanted.Spec.ActiveDeadlineSeconds, nil)
	}
	if err != nil {
		return also(err, r.Delete(ctx))
	}
	return nil
}

// refused tells an answer by which nothing was made. A server that is in trouble
// may have made it all the same, and one that was asked again by client-go finds
// that it is there.
func refused(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) || apierrors.IsAlreadyExists(err) {
		return false
	}
	code := status.Status().Code
	return code >= 400 && code < 500
}

// takeBack deletes the Job of a request whose answer got lost, and only that: a
// Job of the same name may be somebody else's.
func (r *Run) takeBack(ctx context.Context, wanted *batchv1.Job) error {
	request, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWait)
	defer cancel()
	found, err := r.provider.client.BatchV1().Jobs(wanted.Namespace).Get(request, wanted.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("job %s may have been made all the same: %w", wanted.Name, err)
	case found.Annotations[manifest.AnnotationRun] != wanted.Annotations[manifest.AnnotationRun]:
		return nil
	}
	r.job = found
	return r.Delete(ctx)
}

// also adds what went wrong while cleaning up after err to its message.
func also(err, cleanup error) error {
	f := explain.Error(err)
	if cleanup != nil {
		f.Message += "; " + explain.OneLine(cleanup.Error())
	}
	return f
}

// UID is the Job's.
func (r *Run) UID() string { return string(r.job.UID) }

// Listener is where the agents of this job arrive.
func (r *Run) Listener() net.Listener { return r.tunnel }

// Unhold gives a job whose start is held the deadline of one that runs. The channel gets nil when
// that is done; where it is refused, Watch returns why.
func (r *Run) Unhold(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	r.keepCompleting(ctx, manifest.Deadline(r.spec), func() { done <- nil })
	return done
}

// StopRetrying makes the attempt that runs the last one, within 2 s.
func (r *Run) StopRetrying(ctx context.Context) error {
	if r.spec.Retries == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deleteWait) // the next Ctrl-C waits for it
	defer cancel()
	_, err := r.provider.client.BatchV1().Jobs(r.job.Namespace).Patch(ctx, r.job.Name, types.MergePatchType,
		[]byte(`{"spec":{"backoffLimit":0}}`), metav1.PatchOptions{})
	if err != nil {
		return explain.Error(err)
	}
	return nil
}

// Close stops watching and closes the tunnels. The job goes on.
func (r *Run) Close() {
	r.work.Stop()
	r.tunnel.Close()
	r.work.Close()
}
