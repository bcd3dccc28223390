package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
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
	// Listener is where its agents arrive, and TLS our side of their connections.
	Listener() net.Listener
	TLS() *tls.Config
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

// place is where this command's job is to run. It does not talk to a cluster.
func (a *app) place() (place, error) {
	name, c, err := a.chooseProvider()
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

// wanted is what the command line says of the cluster, before anything is decided.
func (a *app) wanted() asked {
	if a.asked == nil {
		a.asked = &asked{provider: a.providerFlag, context: *a.kube.Context, kubeconfig: *a.kube.KubeConfig}
	}
	return *a.asked
}

// decide finds the cluster that by means.
func (a *app) decide(by asked) (target, error) {
	r, err := a.providers()
	if err != nil {
		return target{}, err
	}
	t, err := decide(by, r, a.look)
	return t, providerHint(err)
}

// chooseProvider returns the name and the settings of the provider that this command is
// about, with what flags and variables say instead. The kube flags are pointed at its
// cluster, and what is to be said of the choice is said.
func (a *app) chooseProvider() (string, provider.Config, error) {
	by := a.wanted()
	t, err := a.decide(by)
	if err != nil {
		return "", provider.Config{}, err
	}
	first := a.target == nil
	a.target = &t
	if t.config.Type == provider.Local {
		return t.provider, t.config, nil
	}
	*a.kube.Context, *a.kube.KubeConfig = t.config.Context, t.config.Kubeconfig
	if t.config.Kubeconfig == "" && a.kubeconfigHome() == "" {
		*a.kube.KubeConfig = os.DevNull
	}
	c, err := t.settings(a.getenv)
	if err != nil {
		return "", provider.Config{}, err
	}
	c.Namespace = cmp.Or(c.Namespace, a.podNamespace())
	c = c.WithDefaults()
	if n := *a.kube.Namespace; n != "" && n != c.Namespace {
		a.otherNamespace, c.Namespace = n, n
	}
	if first && !a.quiet {
		a.sayTarget(t, by)
	}
	return t.provider, c, nil
}

// sayTarget says what somebody might not expect of the chosen cluster and settings.
func (a *app) sayTarget(t target, by asked) {
	r, err := a.providers()
	if err != nil {
		return
	}
	s := t.say(by, r, a.look)
	if s.elsewhere != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable("using "+s.context+"; "+s.elsewhere))
	}
	if s.settings != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable(s.settings))
	}
}

// nameCluster chooses the cluster for commands that change it for everybody. If the command is
// to act, nameCluster first names the cluster, after verb.
func (a *app) nameCluster(verb string, acts bool) error {
	a.quiet = acts // all is said here
	if _, _, err := a.chooseCluster(); err != nil || !acts {
		return err
	}
	config, err := restConfig(a.kube)
	if err != nil {
		return err
	}
	line := verb + " the cluster at " + config.Host
	if a.podNamespace() != "" {
		line += ", as this Pod's own service account"
	}
	s := a.target.say(a.wanted(), &provider.Registry{}, a.look)
	for _, more := range []struct{ before, text string }{{", ", s.context}, {"; ", s.elsewhere}} {
		if more.text != "" {
			line += more.before + more.text
		}
	}
	fmt.Fprintln(a.ErrOut, ui.Printable(line))
	return nil
}

// chooseCluster is chooseProvider for commands that make no sense without one.
func (a *app) chooseCluster() (string, provider.Config, error) {
	name, c, err := a.chooseProvider()
	if err == nil && c.Type == provider.Local {
		err = a.notHere(name)
	}
	return name, c, err
}

// notHere says that the provider of this machine is no cluster, and how to name one.
func (a *app) notHere(name string) error {
	command := "jobs"
	if a.cmd != nil {
		_, command, _ = strings.Cut(a.cmd.CommandPath(), a.cmd.Root().CommandPath()+" ")
	}
	return &job.Hinted{
		Err:  fmt.Errorf("provider %q is this machine and no cluster: it keeps no jobs", name),
		Hint: "{hodei} " + command + " --context " + a.currentContext() + ", or {hodei} provider use NAME",
	}
}

// currentContext is the kubeconfig's, as it is typed, or what stands for one.
func (a *app) currentContext() string {
	if k, err := a.look(""); err == nil && k.current != "" {
		return shell.Quote(k.current)
	}
	return "CONTEXT"
}

func (a *app) kubernetesProvider(name string, c provider.Config) (*kubernetes.Provider, error) {
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	return kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
}

// restConfig is the way to the cluster that the kube flags, the environment and
// the kubeconfig mean. Where none of them means any, kubectl would go on to
// localhost:8080 and complain of that.
func restConfig(kube genericclioptions.RESTClientGetter) (*rest.Config, error) {
	config, err := kube.ToRESTConfig()
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	raw, err := kube.ToRawKubeConfigLoader().RawConfig()
	if err == nil && len(raw.Clusters) == 0 && config.Host == clientcmd.ClusterDefaults.Server {
		return nil, kubernetes.Explain(clientcmd.ErrEmptyConfig)
	}
	return config, nil
}

// setupClient returns a client that installs in the chosen cluster, which has answered.
func (a *app) setupClient(ctx context.Context) (*setup.Client, error) {
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	return setup.NewClient(ctx, config)
}
