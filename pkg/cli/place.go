package cli

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

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// addProviderFlag adds --provider. Every command has it; those whose help shows it say
// what it means there.
func (a *app) addProviderFlag(cmd *cobra.Command, flags *pflag.FlagSet, means string) {
	flags.StringVar(&a.providerFlag, "provider", "", means+
		": a name of 'hodei provider list'. Default: the one of --context, else the one in use, else the current kube context.")
	_ = cmd.RegisterFlagCompletionFunc("provider", a.completeProvider)
}

// place is where this command's job is to run. It does not talk to a cluster.
func (a *app) place() (place.Place, error) {
	name, c, err := a.chooseProvider()
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
	k, err := a.kubernetesProvider(name, c)
	if err != nil {
		return nil, err
	}
	return place.Cluster{Provider: k}, nil
}

// wanted is what the command line says of the cluster. It is kept, because chooseProvider points the
// kube flags elsewhere.
func (a *app) wanted() place.Asked {
	if a.asked == nil {
		a.asked = &place.Asked{Provider: a.providerFlag, Context: *a.kube.Context, Kubeconfig: *a.kube.KubeConfig}
	}
	return *a.asked
}

// chooseProvider returns the name and the settings of the provider that this command is
// about, with what flags and variables say instead. The kube flags are pointed at its
// cluster, and what is to be said of the choice is said.
func (a *app) chooseProvider() (string, provider.Config, error) {
	by := a.wanted()
	t, err := a.home().Decide(by)
	if err != nil {
		return "", provider.Config{}, err
	}
	first := a.target == nil
	a.target = &t
	if t.Config.Type == provider.Local {
		return t.Provider, t.Config, nil
	}
	*a.kube.Context, *a.kube.KubeConfig = t.Config.Context, t.Config.Kubeconfig
	if t.Config.Kubeconfig == "" && a.home().KubeconfigHome() == "" {
		*a.kube.KubeConfig = os.DevNull
	}
	c, err := t.Settings(a.getenv)
	if err != nil {
		return "", provider.Config{}, err
	}
	c.Namespace = cmp.Or(c.Namespace, a.home().PodNamespace())
	c = c.WithDefaults()
	if n := *a.kube.Namespace; n != "" && n != c.Namespace {
		a.otherNamespace, c.Namespace = n, n
	}
	if first && !a.quiet {
		a.sayTarget(t, by)
	}
	return t.Provider, c, nil
}

// sayTarget says what somebody might not expect of the chosen cluster and settings.
func (a *app) sayTarget(t place.Target, by place.Asked) {
	r, err := a.home().Providers()
	if err != nil {
		return
	}
	s := t.Say(by, r, a.home().Look)
	if s.Elsewhere != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable("using "+s.Context+"; "+s.Elsewhere))
	}
	if s.Settings != "" {
		fmt.Fprintln(a.ErrOut, ui.Printable(s.Settings))
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
	if a.home().PodNamespace() != "" {
		line += ", as this Pod's own service account"
	}
	s := a.target.Say(a.wanted(), &provider.Registry{}, a.home().Look)
	for _, more := range []struct{ before, text string }{{", ", s.Context}, {"; ", s.Elsewhere}} {
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

// captureContext stores in c which cluster it and the kubeconfig mean now.
func (a *app) captureContext(c *provider.Config) error {
	*a.kube.Context, *a.kube.KubeConfig = c.Context, c.Kubeconfig
	kubeconfig, err := a.kube.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return kubernetes.Explain(err)
	}
	if c.Context == "" {
		c.Context = kubeconfig.CurrentContext
	}
	switch _, ok := kubeconfig.Contexts[c.Context]; {
	case c.Context == "" && c.Kubeconfig == "" && a.home().PodNamespace() != "": // our own account's
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
	if k, err := a.home().Look(""); err == nil && k.Current != "" {
		return shell.Quote(k.Current)
	}
	return "CONTEXT"
}

// providerAt returns the provider of a name and settings that need not be this command's. The kube
// flags are pointed at its cluster.
func (a *app) providerAt(name string, c provider.Config) (*kubernetes.Provider, error) {
	*a.kube.Context, *a.kube.KubeConfig = c.Context, c.Kubeconfig
	return a.kubernetesProvider(name, c)
}

// kubernetesProvider returns the provider of a name and settings at the cluster that the kube flags
// mean.
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

// client returns a client of the cluster that this command is about.
func (a *app) client() (clientset.Interface, error) {
	if a.target == nil {
		if _, _, err := a.chooseCluster(); err != nil {
			return nil, err
		}
	}
	config, err := restConfig(a.kube)
	if err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Burst = 50, 100 // a Secret for each of many jobs, at client-go's 5 a second
	return clientset.NewForConfig(config)
}
