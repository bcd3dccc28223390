package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
)

// TestUninstallKeeps: a namespace that was there before hodei is as it was, with
// all that others keep in it.
func TestUninstallKeeps(t *testing.T) {
	ownCluster(t)
	needsImages(t)
	manifest := "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {team: a}}\n"
	install := func(n string) {
		succeed(t, "install", "--workers-namespace="+n, "--quota=pods=3")
		succeed(t, "install", "--workers-namespace="+n)
	}
	for _, way := range []struct {
		name          string
		make, install func(namespace string)
	}{
		{"create", func(n string) { kubectl(t, "", "create", "namespace", n) }, install},
		{"apply", func(n string) { kubectl(t, fmt.Sprintf(manifest, n), "apply", "-f-") }, install},
		{"server-side apply", func(n string) {
			kubectl(t, fmt.Sprintf(manifest, n), "apply", "--server-side", "--field-manager=flux", "-f-")
		}, install},
		{"kubectl apply of the manifests", func(n string) { kubectl(t, "", "create", "namespace", n) }, func(n string) {
			kubectl(t, onlyIn(t, n, succeed(t, "install", "--dry-run=client", "-o=json", "--quota=pods=3",
				"--workers-namespace="+n).stdout), "apply", "-f-")
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			namespace := workersOfOwn(t)
			to := "--workers-namespace=" + namespace
			way.make(namespace)
			kubectl(t, "", "create", "secret", "generic", "mine", "-n", namespace, "--from-literal=a=b")
			kubectl(t, theirs, "create", "-n", namespace, "-f-")
			kubectl(t, "", "get", "serviceaccount", "default", "-n", namespace)
			before := objects(t, namespace)
			way.install(namespace)
			succeed(t, "run", "-q", "-n", namespace, "--", "true")
			kubectl(t, "", "create", "secret", "generic", "hodei-ca-cert", "-n", namespace)
			r := succeed(t, "uninstall", "--yes", "--force", to) // the Job's own end may be a second behind
			for _, want := range []string{"namespace/" + namespace + " kept, without hodei's labels: hodei has not made it\n",
				"secret/hodei-ca-cert deleted in namespace " + namespace + "\n"} {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("stdout lacks %q:\n%s", want, r.stdout)
				}
			}
			sameObjects(t, "after uninstall", objects(t, namespace), before)
		})
	}
}

// theirs has hodei's labels, as others' charts may set them.
const theirs = `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"theirs","labels":{"app.kubernetes.io/name":"hodei",` +
	`"app.kubernetes.io/part-of":"hodei"}}}`

// onlyIn are those of the objects, as JSON, that are a namespace or in it: what all
// namespaces share stays as hodei install has applied it.
func onlyIn(t *testing.T, namespace, objects string) string {
	t.Helper()
	var kept strings.Builder
	for d := json.NewDecoder(strings.NewReader(objects)); d.More(); {
		var o unstructured.Unstructured
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		if o.GetNamespace() != namespace && o.GetName() != namespace {
			continue
		}
		data, err := json.Marshal(&o)
		if err != nil {
			t.Fatal(err)
		}
		kept.Write(data)
	}
	return kept.String()
}

// TestUninstallRights: all rights that are missing are told before anything is
// removed, and what is found is gone when uninstall says so.
func TestUninstallRights(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	kubectl(t, "", "create", "namespace", namespace)
	look := []string{"get", "list"}
	role := clusterUser(t, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "pods", "serviceaccounts", "resourcequotas", "limitranges"},
			Verbs: look},
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings"}, Verbs: look},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"}, Verbs: look},
		{APIGroups: []string{"batch"}, Resources: []string{"jobs"}, Verbs: look},
	})
	there := func() map[string]string {
		all := objects(t, namespace)
		maps.DeleteFunc(all, func(name, _ string) bool { return strings.HasSuffix(name, "/"+role.Name) })
		return all
	}
	before := there()
	succeed(t, "install", to)
	kubectl(t, "", "create", "secret", "generic", "hodei-client-cert", "-n", namespace)
	installed := there()
	try := func() result { return hodei(t, "uninstall", "--yes", to, "--as", role.Name) }
	grant := func() {
		t.Helper()
		if _, err := client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	hint := "\nhint: an administrator can: hodei uninstall --yes " + to + "\n"
	refused(t, try(), fmt.Sprintf("user %q may not list secrets in %s", role.Name, namespace)+hint)
	role.Rules[0].Resources = append(role.Rules[0].Resources, "secrets")
	grant()
	refused(t, try(),
		fmt.Sprintf("user %[1]q may not patch namespaces; delete networkpolicies.networking.k8s.io in %[2]s; delete "+
			"rolebindings.rbac.authorization.k8s.io in %[2]s; delete roles.rbac.authorization.k8s.io in %[2]s; delete secrets in %[2]s; "+
			"delete serviceaccounts in %[2]s", role.Name, namespace)+hint)
	sameObjects(t, "after an uninstall that was refused", there(), installed)
	for i := range role.Rules {
		role.Rules[i].Verbs = append(look, "delete", "patch")
	}
	grant()
	if r := try(); r.code != 0 {
		t.Errorf("%+v", r)
	}
	sameObjects(t, "after uninstall", there(), before)
}

// TestUninstallInterrupted: whoever stops waiting is told what goes on.
func TestUninstallInterrupted(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	succeed(t, "install", to)
	kubectl(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"held","finalizers":["example.com/held"]}}`, "create", "-n",
		namespace, "-f-")
	s := start(t, "uninstall", "--yes", to)
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		ns, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		remaining := err == nil && slices.ContainsFunc(ns.Status.Conditions, func(c corev1.NamespaceCondition) bool {
			return c.Type == corev1.NamespaceFinalizersRemaining && c.Status == corev1.ConditionTrue
		})
		return remaining, err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.interrupt(t)
	if r := s.end(t); r.code != 130 || !strings.Contains(r.stderr, "\nerror: interrupted, and still there: namespace "+namespace) ||
		!strings.HasSuffix(r.stderr, "\nhint: see what holds it: kubectl get namespaces -o yaml\n") {
		t.Errorf("%+v", r)
	}
	kubectl(t, "", "patch", "configmap", "held", "-n", namespace, "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}

// TestUninstallRunning: no job is ended that nobody said to.
func TestUninstallRunning(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	succeed(t, "install", to)
	job := strings.TrimSpace(succeed(t, "run", "--detach", "-n", namespace, "--grace=1s", "--linger=1s", "--", "sleep", "300").stdout)
	r := hodei(t, "uninstall", "--yes", to)
	refused(t, r, "jobs have not ended: "+namespace+"/"+job+"\n")
	want := "hint: wait for them, or end them: hodei uninstall --yes --force --workers-namespace=" + namespace + "\n"
	if !strings.Contains(r.stderr, want) {
		t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
	}
	r = succeed(t, "uninstall", "--dry-run=server", to)
	want = "it would be refused without --force: jobs have not ended: " + namespace + "/" + job + "\n"
	if !strings.HasSuffix(r.stderr, "\n"+want) {
		t.Errorf("stderr %q, want %q at its end", r.stderr, want)
	}
	r = hodei(t, "uninstall", "--yes", to, "--force", "--timeout=100ms")
	if r.code != 1 || !strings.Contains(r.stderr, "error: still there after 100ms: namespace "+namespace) {
		t.Errorf("%+v", r)
	}
	refused(t, hodei(t, "install", to),
		"namespace "+namespace+" is being deleted\nhint: wait until it is gone, then: hodei install --workers-namespace="+namespace+"\n")
	r = hodei(t, "uninstall", "--yes", to, "--force") // gone by now, or about to be
	if r.code != 0 && !strings.Contains(r.stderr, "was not given to hodei") {
		t.Errorf("%+v", r)
	}
}
