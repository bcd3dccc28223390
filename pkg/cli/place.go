package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
)

// place is where jobs run: a provider, ready to use.
type place interface {
	// Describe and Namespace say where that is.
	Describe() string
	Namespace() string
	// Submit makes the job's worker.
	Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts) (submitted, error)
}

// submitted is a job that was made.
type submitted interface {
	// UID tells jobs of the same name apart.
	UID() string
	// Listener is where its agents arrive.
	Listener() net.Listener
	// Watch reports its start and returns its end. Called once.
	Watch(ctx context.Context, report func(job.Event)) (*job.Outcome, error)
	// StopRetrying makes the current attempt the last.
	StopRetrying(ctx context.Context) error
	// Delete removes a job that has not started.
	Delete(ctx context.Context) error
	// Close lets go of it. A job in a cluster goes on.
	Close()
}

// The two kinds of place. Their Submit returns their own type, these return ours.
type (
	cluster struct{ *kubernetes.Provider }
	machine struct{ *local.Provider }
)

func (c cluster) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts) (submitted, error) {
	return orNil(c.Provider.Submit(ctx, spec, id))
}

func (m machine) Submit(ctx context.Context, spec *job.Spec, id *certs.JobCerts) (submitted, error) {
	return orNil(m.Provider.Submit(ctx, spec, id))
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func orNil[T submitted](s T, err error) (submitted, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

// place resolves a provider by its name; "" is the one in use, else the
// kubeconfig's current context. It does not talk to a cluster.
func (a *app) place(name string) (place, error) {
	name, c, err := a.chooseProvider(name)
	if err != nil {
		return nil, err
	}
	if c.Type == provider.Local {
		worker, err := local.FindWorker()
		if err != nil {
			return nil, err
		}
		return machine{&local.Provider{Worker: worker}}, nil
	}
	k, err := a.kubernetesProvider(name, c)
	if err != nil {
		return nil, err
	}
	return cluster{k}, nil
}

// chooseProvider returns a provider's name and settings, with what flags and
// variables say instead. The kube flags are pointed at its cluster.
func (a *app) chooseProvider(name string) (string, provider.Config, error) {
	r, err := a.providers()
	if err != nil {
		return "", provider.Config{}, err
	}
	c := provider.Config{Type: provider.Kubernetes}
	elsewhere := *a.kube.Context != "" || *a.kube.KubeConfig != ""
	if name == "" && !elsewhere {
		if name = r.Current; name == "" && len(r.Providers) > 0 {
			return "", provider.Config{}, &hinted{err: errors.New("no provider is in use"), hint: "{hodei} provider use " + slices.Sorted(maps.Keys(r.Providers))[0]}
		}
	}
	if name != "" {
		if c, err = r.Get(name); err != nil {
			return "", c, providerHint(err)
		}
	}
	if c.Type == provider.Local {
		return name, c, nil
	}
	if !elsewhere {
		*a.kube.Context, *a.kube.KubeConfig = c.Context, c.Kubeconfig
	}
	c.Namespace = cmp.Or(*a.kube.Namespace, a.getenv("HODEI_K8S_NAMESPACE"), c.Namespace)
	c.ServiceAccount = cmp.Or(a.getenv("HODEI_K8S_SERVICE_ACCOUNT"), c.ServiceAccount)
	return name, c.WithDefaults(), nil
}

// chooseCluster is chooseProvider for commands that make no sense without one.
func (a *app) chooseCluster(name string) (string, provider.Config, error) {
	name, c, err := a.chooseProvider(name)
	if err == nil && c.Type == provider.Local {
		err = &hinted{
			err:  fmt.Errorf("provider %q keeps no jobs: they end with the command that runs them", name),
			hint: "{hodei} jobs --context CONTEXT, or {hodei} provider use NAME",
		}
	}
	return name, c, err
}

func (a *app) kubernetesProvider(name string, c provider.Config) (*kubernetes.Provider, error) {
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	return kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
}
