package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/hodei-jobs/hodei/pkg/check"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// AddProviderFlag adds --provider to flags of cmd, with a help text that begins with what it means there. All commands
// inherit it from the root command; those whose help is to show it add it again.
func (a *Env) AddProviderFlag(cmd *cobra.Command, flags *pflag.FlagSet, means string) {
	flags.StringVar(&a.ProviderFlag, "provider", "", means+
		": a name of 'hodei provider list'. Default: the one of --context, else the one in use, else the current kube context.")
	_ = cmd.RegisterFlagCompletionFunc("provider", a.CompleteProvider)
}

// Place returns where this command's job is to run. It does not talk to a cluster.
func (a *Env) Place() (place.Place, error) {
	name, c, err := a.ChooseProvider()
	if err != nil {
		return nil, err
	}
	if c.Type == provider.Local {
		worker, err := local.FindWorker()
		if err != nil {
			return nil, err
		}
		return place.Machine{Provider: &local.Provider{Worker: worker}}, nil
	}
	k, err := a.KubernetesProvider(name, c)
	if err != nil {
		return nil, err
	}
	return place.Cluster{Provider: k}, nil
}

// wanted returns what the command line says of the cluster. The first call reads the flags, before ChooseProvider
// points them elsewhere.
func (a *Env) wanted() place.Asked {
	if a.asked == nil {
		a.asked = &place.Asked{Provider: a.ProviderFlag, Context: *a.Kube.Context, Kubeconfig: *a.Kube.KubeConfig}
	}
	return *a.asked
}

// ChooseProvider returns the name and the settings of the provider that this command is about. Flags and variables
// overrule its settings. The name is empty if only a kube context was chosen. It points the kube flags at the
// provider's cluster; the first call tells on stderr what might be unexpected of the choice. It does not talk to a
// cluster.
func (a *Env) ChooseProvider() (string, provider.Config, error) {
	by := a.wanted()
	t, err := a.Home().Decide(by)
	if err != nil {
		return "", provider.Config{}, err
	}
	first := a.target == nil
	a.target = &t
	if t.Config.Type == provider.Local {
		return t.Provider, t.Config, nil
	}
	*a.Kube.Context, *a.Kube.KubeConfig = t.Config.Context, t.Config.Kubeconfig
	if t.Config.Kubeconfig == "" && a.Home().KubeconfigHome() == "" {
		*a.Kube.KubeConfig = os.DevNull
	}
	c, err := t.Settings(a.Getenv)
	if err != nil {
		return "", provider.Config{}, err
	}
	c.Namespace = cmp.Or(c.Namespace, a.Home().PodNamespace())
	c = c.WithDefaults()
	if n := *a.Kube.Namespace; n != "" && n != c.Namespace {
		a.otherNamespace, c.Namespace = n, n
	}
	if first && !a.quiet {
		a.sayTarget(t, by)
	}
	return t.Provider, c, nil
}

// sayTarget tells what somebody might not expect of the chosen cluster and settings.
func (a *Env) sayTarget(t place.Target, by place.Asked) {
	r, err := a.Home().Providers()
	if err != nil {
		return
	}
	s := t.Say(by, r, a.Home().Look)
	if s.Elsewhere != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable("using "+s.Context+"; "+s.Elsewhere))
	}
	if s.Settings != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable(s.Settings))
	}
}

// NameCluster chooses the cluster, for commands that change it for everybody. If the command acts, NameCluster says on
// stderr which cluster it is, in a line that begins with verb. It does not talk to the cluster.
func (a *Env) NameCluster(verb string, acts bool) error {
	a.quiet = acts // the line below says all that ChooseProvider would
	if _, _, err := a.ChooseCluster(); err != nil || !acts {
		return err
	}
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return err
	}
	line := verb + " the cluster at " + config.Host
	if a.Home().PodNamespace() != "" {
		line += ", as this Pod's own service account"
	}
	s := a.target.Say(a.wanted(), &provider.Registry{}, a.Home().Look)
	for _, more := range []struct{ before, text string }{{", ", s.Context}, {"; ", s.Elsewhere}} {
		if more.text != "" {
			line += more.before + more.text
		}
	}
	fmt.Fprintln(a.ErrOut, ui.Printable(line))
	return nil
}

// ChooseCluster is ChooseProvider for commands that need a cluster: the provider of this machine is an error.
func (a *Env) ChooseCluster() (string, provider.Config, error) {
	name, c, err := a.ChooseProvider()
	if err == nil && c.Type == provider.Local {
		err = a.notHere(name)
	}
	return name, c, err
}

// CaptureContext sets the context of c, if it is empty, to the kubeconfig's current one. So c goes on meaning the same
// cluster when the current context changes. A context that does not exist is an error. It points the kube flags at c.
func (a *Env) CaptureContext(c *provider.Config) error {
	*a.Kube.Context, *a.Kube.KubeConfig = c.Context, c.Kubeconfig
	kubeconfig, err := a.Kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return kubernetes.Explain(err)
	}
	if c.Context == "" {
		c.Context = kubeconfig.CurrentContext
	}
	switch _, ok := kubeconfig.Contexts[c.Context]; {
	case c.Context == "" && c.Kubeconfig == "" && a.Home().PodNamespace() != "": // our own account's
	case len(kubeconfig.Contexts) == 0:
		return kubernetes.Explain(clientcmd.ErrEmptyConfig)
	case c.Context == "":
		return &job.Hinted{
			Err:  errors.New("the kubeconfig has no current context"),
			Hint: "kubectl config get-contexts, then add --context NAME",
		}
	case !ok:
		return &job.Hinted{
			Err:  fmt.Errorf("context %q does not exist in the kubeconfig", c.Context),
			Hint: "kubectl config get-contexts",
		}
	}
	return nil
}

// notHere returns the error that the provider of this machine is no cluster, with a hint how to name one.
func (a *Env) notHere(name string) error {
	command := "jobs"
	if a.cmd != nil {
		_, command, _ = strings.Cut(a.cmd.CommandPath(), a.cmd.Root().CommandPath()+" ")
	}
	return &job.Hinted{
		Err:  fmt.Errorf("provider %q is this machine and no cluster: it keeps no jobs", name),
		Hint: "{hodei} " + command + " --context " + a.currentContext() + ", or {hodei} provider use NAME",
	}
}

// currentContext returns the kubeconfig's current context as it is typed, or CONTEXT if there is none.
func (a *Env) currentContext() string {
	if k, err := a.Home().Look(""); err == nil && k.Current != "" {
		return shell.Quote(k.Current)
	}
	return "CONTEXT"
}

// ProviderAt returns the provider with a name and settings that need not be those of this command. It points the kube
// flags at the provider's cluster, and does not talk to it.
func (a *Env) ProviderAt(name string, c provider.Config) (*kubernetes.Provider, error) {
	*a.Kube.Context, *a.Kube.KubeConfig = c.Context, c.Kubeconfig
	return a.KubernetesProvider(name, c)
}

// ClusterOrMachine returns the cluster in which the chosen provider has its jobs; nil: they are this machine's. It does
// not talk to a cluster.
func (a *Env) ClusterOrMachine() (*kubernetes.Provider, error) {
	name, c, err := a.ChooseProvider()
	if err != nil || c.Type == provider.Local {
		return nil, err
	}
	return a.KubernetesProvider(name, c)
}

// Finder returns what finds jobs of the chosen provider, and the log store that it looks into, opened for writing or
// only for reading; the caller closes it. Without a way to the cluster the Finder looks into the store alone. note is
// called with what the Finder has to tell; its hints are ready to be typed.
func (a *Env) Finder(writing bool, note func(string)) (*history.Finder, *place.Store, error) {
	name, c, err := a.ChooseProvider()
	if err != nil {
		return nil, nil, err
	}
	f := &history.Finder{Namespace: c.Namespace, Note: note, Context: a.currentContext}
	f.Hint = func(text string) { note("hint: " + a.Named(text)) }
	if c.Type == provider.Local {
		f.Namespace = local.Namespace
	} else {
		f.Cluster, f.Unreachable = a.KubernetesProvider(name, c)
	}
	store, err := a.Home().OpenStore(writing)
	if err != nil {
		return nil, nil, err
	}
	f.Store = store.Store
	return f, store, nil
}

// Clientset returns a client of the cluster that the kube flags mean. Unlike [Env.Client] it does not choose one.
func (a *Env) Clientset() (clientset.Interface, error) {
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil, err
	}
	return clientset.NewForConfig(config)
}

// KubernetesProvider returns the provider with this name and these settings, at the cluster that the kube flags mean.
// It does not talk to the cluster.
func (a *Env) KubernetesProvider(name string, c provider.Config) (*kubernetes.Provider, error) {
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil, err
	}
	return kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
}

// RESTConfig returns the way to the cluster that the kube flags, the environment and the kubeconfig mean. If none of
// them names one, that is the error; kubectl would go on to localhost:8080 and complain about that.
func RESTConfig(kube genericclioptions.RESTClientGetter) (*rest.Config, error) {
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

// SetupClient returns a client that installs into the cluster that the kube flags mean. It asks the cluster something,
// so the cluster has answered.
func (a *Env) SetupClient(ctx context.Context) (*setup.Client, error) {
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil, err
	}
	return setup.NewClient(ctx, config)
}

// CheckCluster looks at the cluster of a provider, at which the kube flags point. The check.Cluster is nil if nothing
// more can be asked of it.
func (a *Env) CheckCluster(ctx context.Context, name string, c provider.Config) ([]check.Result, *check.Cluster) {
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return []check.Result{check.Failed("cluster", err)}, nil
	}
	return check.OfCluster(ctx, config, name, c)
}

// ClusterConfig chooses the cluster as [Env.ChooseCluster] does, and returns the way to it.
func (a *Env) ClusterConfig() (*rest.Config, error) {
	if _, _, err := a.ChooseCluster(); err != nil {
		return nil, err
	}
	return RESTConfig(a.Kube)
}

// Client returns a client of the cluster that this command is about, which it chooses if that was not done yet. It may
// send 50 requests a second.
func (a *Env) Client() (clientset.Interface, error) {
	if a.target == nil {
		if _, _, err := a.ChooseCluster(); err != nil {
			return nil, err
		}
	}
	config, err := RESTConfig(a.Kube)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 50, 100 // a Secret for each of many jobs, at client-go's 5 a second
	return clientset.NewForConfig(config)
}
