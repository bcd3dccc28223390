package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// podOfOwn runs in a namespace of its own under an account that may run jobs there; %s is
// the namespace.
const podOfOwn = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: ci, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ci, namespace: NAMESPACE}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: hodei-user}
subjects: [{kind: ServiceAccount, name: ci, namespace: NAMESPACE}]
---
apiVersion: v1
kind: Pod
metadata: {name: ci, namespace: NAMESPACE}
spec:
  serviceAccountName: ci
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: c
    image: ` + busybox + `
    command: [sleep, "600"]
    workingDir: /tmp
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: tmp, mountPath: /tmp}]
  volumes: [{name: tmp, emptyDir: {}}]
`

// TestInPod: without a kubeconfig hodei is the Pod's own service account, in its namespace.
func TestInPod(t *testing.T) {
	needsImages(t)
	namespace := workersOfOwn(t)
	succeed(t, "install", "--workers-namespace="+namespace, "--network-policy=none")
	kubectl(t, strings.ReplaceAll(podOfOwn, "NAMESPACE", namespace), "apply", "-f", "-")
	kubectl(t, "", "wait", "-n", namespace, "--for=condition=Ready", "pod/ci", "--timeout=60s")
	program, err := os.ReadFile(filepath.Join(bin, "hodei"))
	if err != nil {
		t.Fatal(err)
	}
	in := func(stdin, script string) string {
		t.Helper()
		return kubectl(t, stdin, "exec", "-i", "-n", namespace, "ci", "--", "sh", "-c", script)
	}
	in(string(program), "cat > hodei && chmod 755 hodei")
	for _, test := range []struct{ name, script, want string }{
		{"run", "./hodei run -q -- sh -c 'echo from a Pod; exit 7'; echo code $?", "from a Pod\ncode 7\n"},
		{"its namespace", "./hodei run --dry-run=client -- true", "namespace: " + namespace + "\n"},
		{"no home", "env -i ./hodei jobs 2>&1 | head -1; env -i KUBERNETES_SERVICE_HOST=$KUBERNETES_SERVICE_HOST " +
			"KUBERNETES_SERVICE_PORT=$KUBERNETES_SERVICE_PORT ./hodei jobs", "error: no kubeconfig"},
		{"a provider", "export XDG_CONFIG_HOME=/tmp/c; ./hodei provider add here && ./hodei run -q -- echo via it",
			"provider \"here\" added for this Pod's own service account, namespace " + namespace + " and in use\nvia it\n"},
		{"its doctor", "XDG_CONFIG_HOME=/tmp/c ./hodei doctor", "here: this Pod's own service account, namespace " + namespace + "\n"},
	} {
		if got := in("", test.script); !strings.Contains(got, test.want) {
			t.Errorf("%s: got\n%swant %q", test.name, got, test.want)
		}
	}
}

// TestContexts: a provider keeps its cluster when the kubeconfig's current context becomes
// another, in every command, and what a hint says to type is about that cluster.
func TestContexts(t *testing.T) {
	raw, err := clientcmd.NewDefaultClientConfigLoadingRules().Load()
	if err != nil {
		t.Fatal(err)
	}
	here := raw.CurrentContext
	raw.Clusters["elsewhere"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	raw.Contexts["elsewhere"] = &clientcmdapi.Context{Cluster: "elsewhere", AuthInfo: raw.Contexts[here].AuthInfo}
	dir := t.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	with := func(args ...string) result {
		cmd := command(t.Context(), args...)
		cmd.Env = append(cmd.Env, "HOME="+dir, "XDG_CONFIG_HOME="+dir, "KUBECONFIG="+kubeconfig)
		return run(t, cmd)
	}
	write := func(current string) {
		raw.CurrentContext = current
		if err := clientcmd.WriteToFile(*raw, kubeconfig); err != nil {
			t.Fatal(err)
		}
	}
	write(here)
	if r := with("provider", "add", "here", "--namespace", workers); r.code != 0 {
		t.Fatal(r)
	}
	write("elsewhere")
	aside := "using context \"" + here + "\" of provider \"here\"; the kubeconfig's current context is \"elsewhere\"\n"
	for _, args := range [][]string{{"jobs"}, {"version"}, {"certs", "inspect", "--secrets"}, {"install", "--diff"}, {"top", "--once"}} {
		if r := with(args...); strings.Count(r.stderr, aside) != 1 || strings.Contains(r.stderr, "127.0.0.1:1") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := with("uninstall", "--workers-namespace=nope"); !strings.HasPrefix(r.stderr,
		"from the cluster at "+config.Host+", context \""+here+"\" of provider \"here\"; ") ||
		!strings.Contains(r.stderr, "hint: kubectl --context "+here+" get namespaces ") {
		t.Errorf("uninstall: %+v", r)
	}
	name := jobName(t)
	if r := with("run", "--name", name, "--", "true"); r.code != 0 || !strings.HasPrefix(r.stderr, aside) {
		t.Errorf("run: %+v", r)
	}
	if r := with("run", "-q", "--", "true"); r.code != 0 || r.stderr != "" {
		t.Errorf("run -q: %+v", r)
	}
	r := with("run", "-n", "e2e-nope", "--", "true")
	_, hint, _ := strings.Cut(r.stderr, "hint: hodei ")
	hint, _, _ = strings.Cut(hint, ", ")
	if r.code != 125 || hint != "install --workers-namespace=e2e-nope" { // the provider in use leads there by itself
		t.Errorf("run -n: %+v", r)
	}
	if r := with("install", "--diff", "--workers-namespace=e2e-nope"); r.code != 1 || !strings.Contains(r.stdout, "e2e-nope") {
		t.Errorf("what the hint said goes elsewhere: %+v", r)
	}
	r = with("run", "--context", "elsewhere", "--", "true")
	if r.code != 125 || !strings.Contains(r.stderr, "hint: check with: kubectl cluster-info; ") {
		t.Errorf("run --context: %+v", r)
	}
}
