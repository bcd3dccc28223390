package place

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/provider"
)

// lookIn is a look that knows these files.
func lookIn(files map[string]Kubeconfig) func(string) (Kubeconfig, error) {
	return func(file string) (Kubeconfig, error) {
		k, ok := files[file]
		if !ok {
			return k, fs.ErrNotExist
		}
		return k, nil
	}
}

// kubeconfigs are the files of the tests: kubectl's own choice, a copy of it, and others.
var kubeconfigs = lookIn(map[string]Kubeconfig{
	"":        {Current: "prod", clusters: map[string]string{"prod": "P", "dev": "D", "twice": "T", "default": "X"}},
	"/copy":   {Current: "dev", clusters: map[string]string{"prod": "P", "dev": "D"}},
	"/other":  {Current: "default", clusters: map[string]string{"default": "Y"}},
	"/remote": {Current: "far", clusters: map[string]string{"far": "F"}},
	"/empty":  {},
})

func kube(context, file string) provider.Config {
	return provider.Config{Type: provider.Kubernetes, Context: context, Kubeconfig: file}
}

func TestDecide(t *testing.T) {
	providers := map[string]provider.Config{
		"p": kube("prod", ""), "d": kube("dev", ""), "t1": kube("twice", ""), "t2": kube("twice", ""),
		"far": kube("far", "/remote"), "x": kube("default", ""),
	}
	for _, test := range []struct {
		name                      string
		by                        Asked
		current                   string
		providers                 map[string]provider.Config
		provider, context, config string
		named                     bool
		rivals                    int
		err                       string
	}{
		{name: "nothing at all"},
		{name: "the one in use", current: "d", providers: providers, provider: "d", context: "dev"},
		{name: "this machine in use", current: "local", providers: providers, provider: "local"},
		{name: "none in use", providers: providers, err: "no provider is in use"},
		{name: "named", by: Asked{Provider: "p"}, current: "d", providers: providers, provider: "p", context: "prod", named: true},
		{name: "named, none in use", by: Asked{Provider: "p"}, providers: providers, provider: "p", context: "prod", named: true},
		{name: "named, and unknown", by: Asked{Provider: "q"}, current: "d", providers: providers, err: `provider "q" not found`},
		{name: "named, with its own file", by: Asked{Provider: "far"}, current: "d", providers: providers, provider: "far", context: "far",
			config: "/remote", named: true},
		{name: "named, at another context", by: Asked{Provider: "p", Context: "dev"}, providers: providers, provider: "p",
			context: "dev", named: true},
		{name: "named, in another file", by: Asked{Provider: "p", Kubeconfig: "/copy"}, providers: providers, provider: "p",
			context: "prod", config: "/copy", named: true},
		{name: "a context, of one provider", by: Asked{Context: "prod"}, current: "d", providers: providers, provider: "p",
			context: "prod"},
		{name: "a context, of one provider, none in use", by: Asked{Context: "prod"}, providers: providers, provider: "p", context: "prod"},
		{name: "a context, of two providers", by: Asked{Context: "twice"}, current: "d", providers: providers, context: "twice", rivals: 2},
		{name: "a context, of no provider", by: Asked{Context: "default", Kubeconfig: "/other"}, current: "d", providers: providers,
			context: "default", config: "/other"},
		{name: "a context that nobody knows", by: Asked{Context: "nope"}, current: "d", providers: providers, context: "nope"},
		{name: "a context of the provider's own file", by: Asked{Context: "far"}, current: "d", providers: providers, provider: "far",
			context: "far", config: "/remote"},
		{name: "a context without providers", by: Asked{Context: "dev"}, context: "dev"},
		{name: "the same file", by: Asked{Kubeconfig: "/copy"}, current: "d", providers: providers, provider: "d", context: "dev",
			config: "/copy"},
		{name: "the same file, another context", by: Asked{Kubeconfig: "/copy", Context: "prod"}, current: "d", providers: providers,
			provider: "p", context: "prod", config: "/copy"},
		{name: "a file whose context has the same name", by: Asked{Kubeconfig: "/other"}, current: "x", providers: providers,
			config: "/other"},
		{name: "a file without contexts", by: Asked{Kubeconfig: "/empty"}, current: "d", providers: providers, config: "/empty"},
		{name: "no file", by: Asked{Kubeconfig: "/nope"}, current: "d", providers: providers, config: "/nope"},
		{name: "a provider without a context is of the current one", by: Asked{Context: "prod"},
			providers: map[string]provider.Config{"any": kube("", "")}, provider: "any", context: "prod"},
		{name: "and of no other", by: Asked{Context: "dev"}, providers: map[string]provider.Config{"any": kube("", "")}, context: "dev"},
		{name: "a machine has no context", by: Asked{Context: "dev"}, providers: map[string]provider.Config{"here": {Type: provider.Local}},
			context: "dev"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := decide(test.by, &provider.Registry{Current: test.current, Providers: test.providers}, kubeconfigs)
			if test.err != "" {
				if err == nil || err.Error() != test.err {
					t.Fatalf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Provider != test.provider || got.Config.Context != test.context || got.Config.Kubeconfig != test.config ||
				got.named != test.named || len(got.rivals) != test.rivals {
				t.Errorf("got %+v", got)
			}
			if got.Config.Type == "" {
				t.Error("it has no type")
			}
		})
	}
}

func TestSettings(t *testing.T) {
	environment := map[string]string{"HODEI_K8S_NAMESPACE": "of-variable", "HODEI_K8S_SERVICE_ACCOUNT": "of-variable",
		"HODEI_K8S_IMAGE": "of-variable", "HODEI_K8S_IMAGE_PULL_POLICY": "Never"}
	full := provider.Config{Type: provider.Kubernetes, Namespace: "of-provider", ServiceAccount: "of-provider", Image: "of-provider",
		ImagePullPolicy: "Always"}
	for _, test := range []struct {
		name        string
		Target      Target
		environment map[string]string
		want        string // of namespace, account, image
		policy, err string
	}{
		{"a variable wins over the one in use", Target{Provider: "p", Config: full}, environment, "of-variable", "Never", ""},
		{"and gives way to one that is named", Target{Provider: "p", named: true, Config: full}, environment, "of-provider", "Always", ""},
		{"what that leaves out, the variable says", Target{Provider: "p", named: true, Config: kube("", "")}, environment,
			"of-variable", "Never", ""},
		{"without a provider", Target{Config: kube("", "")}, environment, "of-variable", "Never", ""},
		{"without variables", Target{Provider: "p", Config: full}, nil, "of-provider", "Always", ""},
		{"without anything", Target{Config: kube("", "")}, nil, "", "", ""},
		{"this machine has none", Target{Provider: "local", Config: provider.Config{Type: provider.Local}}, environment, "", "", ""},
		{"what can't be", Target{Config: kube("", "")}, map[string]string{"HODEI_K8S_IMAGE_PULL_POLICY": "Sometimes"}, "", "",
			`HODEI_K8S_IMAGE_PULL_POLICY: "Sometimes": want "Always", "IfNotPresent" or "Never"`},
		{"no namespace's name", Target{Config: kube("", "")}, map[string]string{"HODEI_K8S_NAMESPACE": "A B"}, "", "",
			`HODEI_K8S_NAMESPACE: "A B": `},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := test.Target.Settings(func(name string) string { return test.environment[name] })
			if test.err != "" {
				if err == nil || len(err.Error()) < len(test.err) || err.Error()[:len(test.err)] != test.err {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Namespace != test.want || c.ServiceAccount != test.want || c.Image != test.want || c.ImagePullPolicy != test.policy {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestSay(t *testing.T) {
	registry := func(names ...string) *provider.Registry {
		r := &provider.Registry{Providers: map[string]provider.Config{}}
		for _, name := range names {
			r.Providers[name] = kube("", "")
		}
		return r
	}
	for _, test := range []struct {
		name   string
		Target Target
		by     Asked
		r      *provider.Registry
		want   Notes
	}{
		{"the current context", Target{Config: kube("", "")}, Asked{}, registry(), Notes{Context: `context "prod"`}},
		{"a provider's, the current one", Target{Provider: "p", Config: kube("prod", "")}, Asked{}, registry("p"),
			Notes{Context: `context "prod" of provider "p"`}},
		{"another one", Target{Provider: "d", Config: kube("dev", "")}, Asked{}, registry("d"),
			Notes{Context: `context "dev" of provider "d"`, Elsewhere: `the kubeconfig's current context is "prod"`}},
		{"a file's current one", Target{Config: kube("", "/other")}, Asked{Kubeconfig: "/other"}, registry(),
			Notes{Context: `context "default"`}},
		{"the same name in the provider's file", Target{Provider: "x", Config: kube("prod", "/remote-prod")}, Asked{}, registry("x"),
			Notes{Context: `context "prod" of provider "x"`}}, // that file can't be read: who connects says so
		{"without its settings", Target{Config: kube("dev", "")}, Asked{Context: "dev"}, registry("p"),
			Notes{Context: `context "dev"`, Elsewhere: `the kubeconfig's current context is "prod"`,
				Settings: `no provider's settings are used: none has context "dev"`}},
		{"several", Target{Config: kube("prod", ""), rivals: []string{"a", "b"}}, Asked{Context: "prod"}, registry("a", "b"),
			Notes{Context: `context "prod"`,
				Settings: `no provider's settings are used: a and b have context "prod"; to choose one: --provider NAME`}},
		{"no context anywhere", Target{Config: kube("", "/empty")}, Asked{Kubeconfig: "/empty"}, registry(), Notes{}},
		{"no context, and providers", Target{Config: kube("", "/empty")}, Asked{Kubeconfig: "/empty"}, registry("p"), Notes{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.Target.Say(test.by, test.r, kubeconfigs); got != test.want {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
	t.Run("one name, two clusters", func(t *testing.T) {
		got := Target{Provider: "y", Config: kube("default", "/other")}.Say(Asked{}, registry("y"), lookIn(map[string]Kubeconfig{
			"":       {Current: "default", clusters: map[string]string{"default": "X"}},
			"/other": {Current: "default", clusters: map[string]string{"default": "Y"}}}))
		if got.Elsewhere != "it is from /other; the current kubeconfig has another cluster under that name" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestReadKubeconfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("ca.crt", "CA\n")
	inline := write("inline",
		`{current-context: a, clusters: [{name: c, cluster: {server: "https://s/", certificate-authority-data: Q0E=}}], contexts: `+
			`[{name: a, context: {cluster: c}}]}`)
	path := write("path",
		`{clusters: [{name: d, cluster: {server: "https://s", certificate-authority: ca.crt}}], contexts: [{name: a, context: {cluster: `+
			`d}}, {name: b, context: {cluster: gone}}]}`)
	one, err := readKubeconfig(inline)
	if err != nil {
		t.Fatal(err)
	}
	two, err := readKubeconfig(path)
	if err != nil {
		t.Fatal(err)
	}
	if one.Current != "a" || two.Current != "" || one.clusters["a"] != two.clusters["a"] || one.clusters["a"] == "" {
		t.Errorf("got %+v and %+v", one, two)
	}
	if _, err := readKubeconfig(filepath.Join(dir, "nope")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
