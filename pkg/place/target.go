package place

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

// Asked is what a command line says of the cluster that it is about.
type Asked struct{ Provider, Context, Kubeconfig string }

// Target is the cluster that a command is about, with the settings for what it makes there.
type Target struct {
	Provider string // its name; "": none
	named    bool   // by --provider, or as the command's NAME
	// Config is as the provider's owner wrote it, but for Context and Kubeconfig, which are
	// those that count; "" is the current context, and kubectl's own choice of a file.
	Config provider.Config
	// rivals are the providers that name the context, if none of them is used because they
	// are several.
	rivals []string
}

// Kubeconfig is what a file of contexts, or kubectl's own choice of files, has.
type Kubeconfig struct {
	Current  string            // context; "": none
	clusters map[string]string // of each context: what tells its cluster from others
}

// decide is the rule by which every command finds its cluster: the provider that is named;
// else the context or the kubeconfig that is named, with the settings of the provider that
// names the same, if there is exactly one; else the provider in use; else the current
// context. look reads a kubeconfig; "" is kubectl's own choice.
func decide(by Asked, r *provider.Registry, look func(file string) (Kubeconfig, error)) (Target, error) {
	switch {
	case by.Provider != "":
		c, err := r.Get(by.Provider)
		c.Context, c.Kubeconfig = cmp.Or(by.Context, c.Context), cmp.Or(by.Kubeconfig, c.Kubeconfig)
		return Target{Provider: by.Provider, named: true, Config: c}, err
	case by.Context != "" || by.Kubeconfig != "":
		return byContext(by, r, look), nil
	case r.Current != "":
		c, err := r.Get(r.Current)
		return Target{Provider: r.Current, Config: c}, err
	case len(r.Providers) > 0: // one was removed: jobs don't go elsewhere in silence
		return Target{}, &job.Hinted{
			Err:  errors.New("no provider is in use"),
			Hint: "{hodei} provider use " + slices.Sorted(maps.Keys(r.Providers))[0],
		}
	}
	return Target{Config: provider.Config{Type: provider.Kubernetes}}, nil
}

// LeadsTo reports whether two targets are the same provider, context and kubeconfig.
func (t Target) LeadsTo(to Target) bool {
	return t.Provider == to.Provider && t.Config.Context == to.Config.Context && t.Config.Kubeconfig == to.Config.Kubeconfig
}

// byContext is decide where a context, a kubeconfig or both are named. A file that can't be
// read has no provider, and whoever connects says what is wrong with it.
func byContext(by Asked, r *provider.Registry, look func(string) (Kubeconfig, error)) Target {
	t := Target{Config: provider.Config{Type: provider.Kubernetes, Context: by.Context, Kubeconfig: by.Kubeconfig}}
	file, err := look(by.Kubeconfig)
	if err != nil {
		return t
	}
	context := cmp.Or(by.Context, file.Current)
	cluster, there := file.clusters[context]
	var of []string
	for _, name := range slices.Sorted(maps.Keys(r.Providers)) {
		c := r.Providers[name]
		if c.Type != provider.Kubernetes {
			continue
		}
		own, err := look(c.Kubeconfig)
		if err != nil || cmp.Or(c.Context, own.Current) != context {
			continue
		}
		// The same name in another file may be another cluster: many tools call theirs
		// "default". A context that only the provider's own file has is meant to be that.
		elsewhere, known := own.clusters[context]
		if known && (there && elsewhere == cluster || !there && by.Kubeconfig == "") {
			of = append(of, name)
		}
	}
	switch len(of) {
	case 0:
	case 1:
		t.Provider, t.Config = of[0], r.Providers[of[0]]
		t.Config.Context = context
		if there {
			t.Config.Kubeconfig = by.Kubeconfig
		}
	default:
		t.rivals = of
	}
	return t
}

// readKubeconfig reads a file, or with "" those of kubectl's own choice.
func readKubeconfig(file string) (Kubeconfig, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.WarnIfAllMissing = false
	rules.ExplicitPath = file
	raw, err := rules.Load()
	if err != nil {
		return Kubeconfig{}, err
	}
	k := Kubeconfig{Current: raw.CurrentContext, clusters: map[string]string{}}
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

// PodNamespace returns the namespace of the Pod in which hodei runs, if there is no kubeconfig;
// "": it runs in none.
func (h *Home) PodNamespace() string {
	file, err := h.Look("")
	if err != nil || len(file.clusters) > 0 || h.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return ""
	}
	data, err := os.ReadFile(namespaceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Look reads a kubeconfig, each once.
func (h *Home) Look(file string) (Kubeconfig, error) {
	if file == "" && h.KubeconfigHome() == "" {
		return Kubeconfig{}, nil
	}
	if k, ok := h.looked[file]; ok {
		return k, nil
	}
	k, err := readKubeconfig(file)
	if err != nil {
		return k, err
	}
	if h.looked == nil {
		h.looked = map[string]Kubeconfig{}
	}
	h.looked[file] = k
	return k, nil
}

// KubeconfigHome is the setting that kubectl's own choice of a file depends on; "": none is
// set. Without a home client-go would take .kube/config of the working directory, whoever wrote
// it.
func (h *Home) KubeconfigHome() string {
	home := h.Getenv("HOME")
	if !filepath.IsAbs(home) {
		home = ""
	}
	return cmp.Or(h.Getenv(clientcmd.RecommendedConfigPathEnvVar), home)
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

// Settings returns the settings of t and of the environment. A variable gives way to a provider
// that was named, and overrides one that was not. The defaults are not filled in yet.
func (t Target) Settings(getenv func(string) string) (provider.Config, error) {
	c := t.Config
	if c.Type == provider.Local {
		return c, nil
	}
	for _, v := range variables {
		value, alone := getenv(v.name), provider.Config{Type: provider.Kubernetes}
		*v.to(&alone) = value
		if err := alone.Validate(); err != nil {
			return c, &job.Hinted{Err: ofVariable(v.name, err), Hint: "unset " + v.name}
		}
		if to := v.to(&c); t.named {
			*to = cmp.Or(*to, value)
		} else {
			*to = cmp.Or(value, *to)
		}
	}
	return c, nil
}

// ofVariable returns an error about a setting as one about the variable that it is from.
func ofVariable(name string, err error) error {
	e, ok := errors.AsType[*job.FieldError](err)
	if !ok {
		return err
	}
	variable := *e
	variable.Path = name
	return &variable
}

// Notes is what there is to say of a target.
type Notes struct {
	Context   string // with its provider; "": there is no context
	Elsewhere string // what is to be known of it: that the kubeconfig's current one is another
	Settings  string // that settings which one might count on are not used
}

// Say names t, which by has led to.
func (t Target) Say(by Asked, r *provider.Registry, look func(string) (Kubeconfig, error)) Notes {
	current, err := look(by.Kubeconfig)
	own, ownErr := look(t.Config.Kubeconfig)
	context := cmp.Or(t.Config.Context, own.Current)
	var s Notes
	if context != "" {
		s.Context = fmt.Sprintf("context %q", context)
		if t.Provider != "" {
			s.Context += fmt.Sprintf(" of provider %q", t.Provider)
		}
	}
	switch {
	case err != nil || ownErr != nil || current.Current == "" || context == "":
	case context != current.Current:
		s.Elsewhere = fmt.Sprintf("the kubeconfig's current context is %q", current.Current)
	case own.clusters[context] != current.clusters[context]:
		s.Elsewhere = fmt.Sprintf("it is from %s; the current kubeconfig has another cluster under that name", t.Config.Kubeconfig)
	}
	switch {
	case t.Provider != "" || context == "" || len(r.Providers) == 0:
	case len(t.rivals) > 0:
		s.Settings = fmt.Sprintf("no provider's settings are used: %s have context %q; to choose one: --provider NAME",
			job.Words(t.rivals), context)
	default:
		s.Settings = fmt.Sprintf("no provider's settings are used: none has context %q", context)
	}
	return s
}
