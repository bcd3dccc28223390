package cli

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider"
)

// asked is what a command line says of the cluster that it is about.
type asked struct{ provider, context, kubeconfig string }

// target is the cluster that a command is about, with the settings for what it makes there.
type target struct {
	provider string // its name; "": none
	named    bool   // by --provider, or as the command's NAME
	// config is as the provider's owner wrote it, but for Context and Kubeconfig, which are
	// those that count; "" is the current context, and kubectl's own choice of a file.
	config provider.Config
	// rivals are the providers that name the context, if none of them is used because they
	// are several.
	rivals []string
}

// kubeconfig is what a file of contexts, or kubectl's own choice of files, has.
type kubeconfig struct {
	current  string            // context; "": none
	clusters map[string]string // of each context: what tells its cluster from others
}

// decide is the rule by which every command finds its cluster: the provider that is named;
// else the context or the kubeconfig that is named, with the settings of the provider that
// names the same, if there is exactly one; else the provider in use; else the current
// context. look reads a kubeconfig; "" is kubectl's own choice.
func decide(by asked, r *provider.Registry, look func(file string) (kubeconfig, error)) (target, error) {
	switch {
	case by.provider != "":
		c, err := r.Get(by.provider)
		c.Context, c.Kubeconfig = cmp.Or(by.context, c.Context), cmp.Or(by.kubeconfig, c.Kubeconfig)
		return target{provider: by.provider, named: true, config: c}, err
	case by.context != "" || by.kubeconfig != "":
		return byContext(by, r, look), nil
	case r.Current != "":
		c, err := r.Get(r.Current)
		return target{provider: r.Current, config: c}, err
	case len(r.Providers) > 0: // one was removed: jobs don't go elsewhere in silence
		return target{}, &job.Hinted{
			Err:  errors.New("no provider is in use"),
			Hint: "{hodei} provider use " + slices.Sorted(maps.Keys(r.Providers))[0],
		}
	}
	return target{config: provider.Config{Type: provider.Kubernetes}}, nil
}

// leadsTo reports whether two targets are the same provider, context and kubeconfig.
func (t target) leadsTo(to target) bool {
	return t.provider == to.provider && t.config.Context == to.config.Context && t.config.Kubeconfig == to.config.Kubeconfig
}

// byContext is decide where a context, a kubeconfig or both are named. A file that can't be
// read has no provider, and whoever connects says what is wrong with it.
func byContext(by asked, r *provider.Registry, look func(string) (kubeconfig, error)) target {
	t := target{config: provider.Config{Type: provider.Kubernetes, Context: by.context, Kubeconfig: by.kubeconfig}}
	file, err := look(by.kubeconfig)
	if err != nil {
		return t
	}
	context := cmp.Or(by.context, file.current)
	cluster, there := file.clusters[context]
	var of []string
	for _, name := range slices.Sorted(maps.Keys(r.Providers)) {
		c := r.Providers[name]
		if c.Type != provider.Kubernetes {
			continue
		}
		own, err := look(c.Kubeconfig)
		if err != nil || cmp.Or(c.Context, own.current) != context {
			continue
		}
		// The same name in another file may be another cluster: many tools call theirs
		// "default". A context that only the provider's own file has is meant to be that.
		elsewhere, known := own.clusters[context]
		if known && (there && elsewhere == cluster || !there && by.kubeconfig == "") {
			of = append(of, name)
		}
	}
	switch len(of) {
	case 0:
	case 1:
		t.provider, t.config = of[0], r.Providers[of[0]]
		t.config.Context = context
		if there {
			t.config.Kubeconfig = by.kubeconfig
		}
	default:
		t.rivals = of
	}
	return t
}

// readKubeconfig reads a file, or with "" those of kubectl's own choice.
func readKubeconfig(file string) (kubeconfig, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.WarnIfAllMissing = false
	rules.ExplicitPath = file
	raw, err := rules.Load()
	if err != nil {
		return kubeconfig{}, err
	}
	k := kubeconfig{current: raw.CurrentContext, clusters: map[string]string{}}
	for name, context := range raw.Contexts {
		k.clusters[name] = identity(raw.Clusters[context.Cluster])
	}
	return k, nil
}

// identity is what two entries of one cluster have in common: where it is, and who vouches for it.
func identity(c *clientcmdapi.Cluster) string {
	if c == nil {
		return ""
	}
	authority := string(c.CertificateAuthorityData)
	if len(authority) == 0 && c.CertificateAuthority != "" {
		if data, err := os.ReadFile(c.CertificateAuthority); err == nil {
			authority = string(data)
		}
	}
	return strings.Join([]string{strings.TrimSuffix(c.Server, "/"), c.TLSServerName, strings.TrimSpace(authority)}, "\n")
}

// namespaceFile has the namespace of the Pod that we may be in.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// podNamespace returns the namespace of the Pod in which hodei runs, if there is no kubeconfig;
// "": it runs in none.
func (a *app) podNamespace() string {
	file, err := a.look("")
	if err != nil || len(file.clusters) > 0 || a.getenv("KUBERNETES_SERVICE_HOST") == "" {
		return ""
	}
	data, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// look reads a kubeconfig, each once.
func (a *app) look(file string) (kubeconfig, error) {
	if file == "" && a.kubeconfigHome() == "" {
		return kubeconfig{}, nil
	}
	if k, ok := a.looked[file]; ok {
		return k, nil
	}
	k, err := readKubeconfig(file)
	if err != nil {
		return k, err
	}
	if a.looked == nil {
		a.looked = map[string]kubeconfig{}
	}
	a.looked[file] = k
	return k, nil
}

// kubeconfigHome is the setting that kubectl's own choice of a file depends on; "": none is
// set. Without a home client-go would take .kube/config of the working directory, whoever wrote
// it.
func (a *app) kubeconfigHome() string {
	home := a.getenv("HOME")
	if !filepath.IsAbs(home) {
		home = ""
	}
	return cmp.Or(a.getenv(clientcmd.RecommendedConfigPathEnvVar), home)
}

// variables are settings that the environment may have, and where they go.
var variables = []struct {
	name string
	to   func(*provider.Config) *string
}{
	{"HODEI_K8S_NAMESPACE", func(c *provider.Config) *string { return &c.Namespace }},
	{"HODEI_K8S_SERVICE_ACCOUNT", func(c *provider.Config) *string { return &c.ServiceAccount }},
	{"HODEI_K8S_IMAGE", func(c *provider.Config) *string { return &c.Image }},
	{"HODEI_K8S_IMAGE_PULL_POLICY", func(c *provider.Config) *string { return &c.ImagePullPolicy }},
}

// settings returns the settings of t and of the environment. A variable gives way to a provider
// that was named, and overrides one that was not. The defaults are not filled in yet.
func (t target) settings(getenv func(string) string) (provider.Config, error) {
	c := t.config
	if c.Type == provider.Local {
		return c, nil
	}
	for _, v := range variables {
		value, alone := getenv(v.name), provider.Config{Type: provider.Kubernetes}
		*v.to(&alone) = value
		if err := alone.Validate(); err != nil {
			_, wrong, _ := strings.Cut(err.Error(), ": ")
			return c, &job.Hinted{Err: fmt.Errorf("%s: %s", v.name, wrong), Hint: "unset " + v.name}
		}
		if to := v.to(&c); t.named {
			*to = cmp.Or(*to, value)
		} else {
			*to = cmp.Or(value, *to)
		}
	}
	return c, nil
}

// said is what there is to say of a target.
type said struct {
	context   string // with its provider; "": there is no context
	elsewhere string // what is to be known of it: that the kubeconfig's current one is another
	settings  string // that settings which one might count on are not used
}

// say names t, which by has led to.
func (t target) say(by asked, r *provider.Registry, look func(string) (kubeconfig, error)) said {
	current, err := look(by.kubeconfig)
	own, ownErr := look(t.config.Kubeconfig)
	context := cmp.Or(t.config.Context, own.current)
	var s said
	if context != "" {
		s.context = fmt.Sprintf("context %q", context)
		if t.provider != "" {
			s.context += fmt.Sprintf(" of provider %q", t.provider)
		}
	}
	switch {
	case err != nil || ownErr != nil || current.current == "" || context == "":
	case context != current.current:
		s.elsewhere = fmt.Sprintf("the kubeconfig's current context is %q", current.current)
	case own.clusters[context] != current.clusters[context]:
		s.elsewhere = fmt.Sprintf("it is from %s; the current kubeconfig has another cluster under that name", t.config.Kubeconfig)
	}
	switch {
	case t.provider != "" || context == "" || len(r.Providers) == 0:
	case len(t.rivals) > 0:
		s.settings = fmt.Sprintf("no provider's settings are used: %s have context %q; to choose one: --provider NAME", job.Words(t.rivals), context)
	default:
		s.settings = fmt.Sprintf("no provider's settings are used: none has context %q", context)
	}
	return s
}
