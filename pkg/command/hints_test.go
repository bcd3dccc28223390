package command

import (
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hodei-jobs/hodei/pkg/place"
)

func TestCarry(t *testing.T) {
	flags := carried{hodei: " --provider p", kubectl: " --context c", namespace: " -n ns"}
	for _, test := range []struct{ name, hint, want string }{
		{"none", "check the command", "check the command"},
		{"empty", "", ""},
		{"install", "{hodei} install --workers-namespace=nope", "{hodei} install --provider p --workers-namespace=nope"},
		{"its last word", "an administrator can: {hodei} install", "an administrator can: {hodei} install --provider p"},
		{"a job", "{hodei} attach x", "{hodei} attach --provider p -n ns x"},
		{"a job, with a namespace", "{hodei} jobs x -n other", "{hodei} jobs --provider p x -n other"},
		{"run",
			"let it run to its end: {hodei} run --image i -- head -n 5",
			"let it run to its end: {hodei} run --provider p -n ns --image i -- head -n 5"},
		{"a job that runs kubectl",
			"{hodei} run --cpu 2 -- kubectl get pods",
			"{hodei} run --provider p -n ns --cpu 2 -- kubectl get pods"},
		{"kubectl in a job",
			"kubectl exec job/x -- sh -c 'kubectl get pods'",
			"kubectl --context c exec job/x -- sh -c 'kubectl get pods'"},
		{"run's own choice", "{hodei} run --provider local -- CMD", "{hodei} run --provider local -- CMD"},
		{"what was said already", "{hodei} logs --context CONTEXT x", "{hodei} logs -n ns --context CONTEXT x"},
		{"two commands", "{hodei} provider set NAME --memory 1Gi, or: {hodei} doctor; see kubectl describe nodes",
			"{hodei} provider set NAME --memory 1Gi, or: {hodei} doctor --provider p; see kubectl --context c describe nodes"},
		{"a provider is added at the current context",
			"{hodei} provider add NAME --image i",
			"{hodei} provider add --context c NAME --image i"},
		{"files",
			"{hodei} certs generate --dir d, {hodei} certs inspect d or {hodei} certs rotate --ca",
			"{hodei} certs generate --dir d, {hodei} certs inspect d or {hodei} certs rotate --ca"},
		{"Secrets",
			"{hodei} certs inspect --secrets; then {hodei} certs apply",
			"{hodei} certs inspect --provider p --secrets; then {hodei} certs apply --provider p"},
		{"a job's certificates", "{hodei} certs rotate --job x -n y", "{hodei} certs rotate --provider p --job x -n y"},
		{"other words have it",
			"check with: kubectl cluster-info; choose another with --context",
			"check with: kubectl --context c cluster-info; choose another with --context"},
		{"a pipe",
			"{hodei} install --dry-run=client -o yaml | kubectl apply --server-side -f -",
			"{hodei} install --provider p --dry-run=client -o yaml | kubectl --context c apply --server-side -f -"},
		{"kubectl's kubeconfig",
			"kubectl config get-contexts, then add --context NAME",
			"kubectl config get-contexts, then add --context NAME"},
		{"the plugin's own name", "kubectl hodei run -- x", "kubectl hodei run -- x"},
		{"said in passing", "with kubectl alone", "with kubectl alone"},
		{"an unknown command", "{hodei} version", "{hodei} version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := carry(test.hint, flags)
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
			if again := carry(got, flags); again != got {
				t.Errorf("twice it is %s", again)
			}
			if plain := carry(test.hint, carried{}); plain != test.hint {
				t.Errorf("without flags it is %s", plain)
			}
		})
	}
}

// What leads somewhere is carried only where a command without it would go elsewhere.
func TestToCarry(t *testing.T) {
	dir := t.TempDir()
	own, other := filepath.Join(dir, "config"), filepath.Join(dir, "f")
	writeKubeconfig(t, own, "prod", "prod", "dev")
	writeKubeconfig(t, other, "x", "x")
	t.Setenv("KUBECONFIG", own)
	a := func(by place.Asked) *Env {
		return &Env{Name: "hodei", Kube: genericclioptions.NewConfigFlags(true), asked: &by,
			Getenv: func(name string) string { return map[string]string{"XDG_CONFIG_HOME": dir, "HOME": dir}[name] }}
	}
	for _, test := range []struct {
		name           string
		by             place.Asked
		hodei, kubectl string
	}{
		{"nothing", place.Asked{}, "", ""},
		{"the current context", place.Asked{Context: "prod"}, " --context prod", ""},
		{"another context", place.Asked{Context: "dev"}, " --context dev", " --context dev"},
		{"another file", place.Asked{Kubeconfig: other}, " --kubeconfig " + other, " --kubeconfig " + other},
		{"this machine", place.Asked{Provider: "local"}, " --provider local", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			app := a(test.by)
			target, err := app.Home().Decide(test.by)
			if err != nil {
				t.Fatal(err)
			}
			app.target = &target
			if got := app.toCarry(); got.hodei != test.hodei || got.kubectl != test.kubectl {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// writeKubeconfig writes a file with contexts of clusters of their own.
func writeKubeconfig(t *testing.T, file, current string, contexts ...string) {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.CurrentContext = current
	for _, name := range contexts {
		config.Clusters[name] = &clientcmdapi.Cluster{Server: "https://" + name}
		config.Contexts[name] = &clientcmdapi.Context{Cluster: name}
	}
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
}

// A hint is about the same cluster and the same caller, and shows no token.
func TestTyped(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	genericclioptions.NewConfigFlags(true).AddFlags(flags)
	flags.Bool("force-conflicts", false, "")
	flags.Bool("wait", true, "")
	if err := flags.Parse([]string{
		"--token=secret", "-s", "https://my api", "--as=a", "--as-group=b", "--as-group=c", "--force-conflicts", "--wait=false",
	}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		names []string
		want  string
	}{
		{clusterFlags, " --server='https://my api'"},
		{CallerFlags, " --as=a --as-group=b --as-group=c"},
		{[]string{"wait", "force-conflicts", "unknown"}, " --wait=false --force-conflicts"},
	} {
		if got := Typed(flags, test.names...); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// TestOverruled: a hint at a setting says so where a variable counts more than that setting.
func TestOverruled(t *testing.T) {
	const hint = "{hodei} provider set dev --service-account ACCOUNT"
	for _, test := range []struct{ name, hint, variable, provider, want string }{
		{"no variable", hint, "", "", hint},
		{"its variable", hint, "HODEI_K8S_SERVICE_ACCOUNT", "",
			hint + "; HODEI_K8S_SERVICE_ACCOUNT is set, and counts more: change or unset it"},
		{"another variable", hint, "HODEI_K8S_NAMESPACE", "", hint},
		{"a provider that is named counts more", hint, "HODEI_K8S_SERVICE_ACCOUNT", "dev", hint},
		{"no setting", "{hodei} jobs", "HODEI_K8S_SERVICE_ACCOUNT", "", "{hodei} jobs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &Env{ProviderFlag: test.provider, Getenv: func(name string) string {
				if name == test.variable {
					return "x"
				}
				return ""
			}}
			if got := a.overruled(test.hint); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
