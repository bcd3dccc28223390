package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
)

// kubectl runs it, with stdin, and returns what it printed.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// succeed runs hodei, which has to end with 0.
func succeed(t *testing.T, args ...string) result {
	t.Helper()
	r := hodei(t, args...)
	if r.code != 0 {
		t.Fatalf("hodei %s: %+v", strings.Join(args, " "), r)
	}
	return r
}

// refused checks how hodei ends that has done nothing.
func refused(t *testing.T, r result, want string) {
	t.Helper()
	if r.code != 1 || r.stdout != "" || !strings.Contains(r.stderr, "error: "+want) || !strings.Contains(r.stderr, "\nhint: ") {
		t.Errorf("%+v\nwant: %s", r, want)
	}
}

var hodeiNamespaces = []string{"hodei-system", workers}

// uninstallAll takes hodei out, and ends the jobs that other tests have left.
func uninstallAll(t *testing.T) {
	t.Helper()
	succeed(t, "uninstall", "--yes", "--force")
}

// TestInstallLifeCycle: whichever way hodei came, it is the same, and nothing is
// left of it afterwards.
func TestInstallLifeCycle(t *testing.T) {
	ownCluster(t)
	uninstallAll(t)
	defer func() { succeed(t, "install") }() // the other tests need it
	before := objects(t, hodeiNamespaces...)

	succeed(t, "install")
	installed := objects(t, hodeiNamespaces...)
	// A namespace holds what Kubernetes puts into each.
	if n := len(installed) - len(before); n < 10 {
		t.Fatalf("hodei install made %d objects", n)
	}
	versions := succeed(t, "install", "-o", "jsonpath={.metadata.resourceVersion} ").stdout
	if again := succeed(t, "install", "-o", "jsonpath={.metadata.resourceVersion} ").stdout; again != versions {
		t.Errorf("the second install changed something: versions %s, then %s", versions, again)
	}
	sameObjects(t, "after a second install", objects(t, hodeiNamespaces...), installed)

	// Somebody may run jobs, here and elsewhere.
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e-" + rand.String(8)},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "hodei-user"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}
	for _, namespace := range []string{workers, "default"} {
		if _, err := client.RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r := succeed(t, "uninstall", "--yes")
	if want := "left to whoever made it: rolebinding " + binding.Name +
		" in namespace default, which refers to hodei-user\n"; !strings.HasPrefix(r.stderr, "from the cluster at ") ||
		!strings.HasSuffix(r.stderr, "\n"+want) {
		t.Errorf("stderr %q, want %q at its end", r.stderr, want)
	}
	if want := "rolebinding.rbac.authorization.k8s.io/" + binding.Name + " deleted with namespace " + workers +
		", though not hodei's\n"; !strings.Contains(r.stdout, want) {
		t.Errorf("stdout %q lacks %q", r.stdout, want)
	}
	if err := client.RbacV1().RoleBindings("default").Delete(t.Context(), binding.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	sameObjects(t, "after uninstall", objects(t, hodeiNamespaces...), before)
	if r := succeed(t, "uninstall", "--yes"); r.stdout != "" || !strings.HasSuffix(r.stderr, "\nnothing of hodei is in this cluster\n") {
		t.Errorf("a second uninstall: %+v", r)
	}

	for _, way := range []struct {
		name   string
		come   func()
		differ []string // fields of the metadata that are not those of an install
	}{
		{"install.sh", func() {
			if out, err := exec.CommandContext(t.Context(), "../../deploy/kubernetes/install.sh",
				"--force-conflicts").CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		}, nil},
		{"upgrade from the previous manifests", func() {
			kubectl(t, "", "apply", "--server-side", "--field-manager=hodei", "-f", "testdata/previous/rbac.yaml", "-f",
				"testdata/previous/network-policy.yaml")
			succeed(t, "install")
		}, []string{"managedFields"}},
		{"kustomization, taken over", func() {
			kubectl(t, "", "apply", "--server-side", "--field-manager=hodei", "-k", "../../deploy/kubernetes")
			succeed(t, "install")
		}, []string{"managedFields"}},
		{"k8s/rbac.yaml and the network policy", func() {
			kubectl(t, "", "apply", "-f", "../../k8s/rbac.yaml", "-f", "../../deploy/kubernetes/network-policy.yaml")
		}, []string{"managedFields", "annotations"}}, // kubectl's own
	} {
		way.come()
		sameObjects(t, way.name, withoutFields(t, objects(t, hodeiNamespaces...), way.differ...),
			withoutFields(t, installed, way.differ...))
		uninstallAll(t)
		sameObjects(t, "uninstall after "+way.name, objects(t, hodeiNamespaces...), before)
	}
}

// workersOfOwn is a namespace of jobs beside that of the other tests, removed
// after the test.
func workersOfOwn(t *testing.T) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	t.Cleanup(func() { // to its end, so that nobody's next look finds it going
		err := wait.PollUntilContextTimeout(context.Background(), 200*time.Millisecond, time.Minute, true,
			func(ctx context.Context) (bool, error) {
				return apierrors.IsNotFound(client.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})), nil
			})
		if err != nil {
			t.Errorf("delete namespace %s: %v", name, err)
		}
	})
	return name
}

// TestInstallPrune: what another choice left goes, and nothing of others'.
func TestInstallPrune(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	succeed(t, "install", to, "--quota=cpu=2,pods=5")
	if r := succeed(t, "install", "--diff", to, "--quota=cpu=2,pods=5"); r.stdout != "" {
		t.Errorf("the same again would change:\n%s", r.stdout)
	}
	// Our labels, and somebody else's all the same.
	mine := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "mine",
		Labels: map[string]string{"app.kubernetes.io/name": "hodei", "app.kubernetes.io/part-of": "hodei"}}}
	if _, err := client.CoreV1().ServiceAccounts(namespace).Create(t.Context(), mine, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	stale := []string{"networkpolicy.networking.k8s.io/hodei-jobs-worker", "resourcequota/hodei-jobs", "limitrange/hodei-jobs"}
	r := hodei(t, "install", "--diff", to, "--network-policy=none")
	if r.code != 1 || strings.Count(r.stdout, "-kind: ") != len(stale) || r.stderr != "" {
		t.Errorf("--diff: %+v", r)
	}
	r = succeed(t, "install", to, "--network-policy=none")
	for _, name := range stale {
		if !strings.Contains(r.stdout, name+" pruned\n") {
			t.Errorf("%s is not said to be pruned:\n%s", name, r.stdout)
		}
	}
	if n := strings.Count(r.stdout, "pruned"); n != len(stale) {
		t.Errorf("%d objects are pruned:\n%s", n, r.stdout)
	}
	left := kubectl(t, "", "get", "-n", namespace, "-o=name", "networkpolicy,resourcequota,limitrange,serviceaccount")
	if want := "serviceaccount/default\nserviceaccount/hodei-jobs-worker\nserviceaccount/mine\n"; left != want {
		t.Errorf("left:\n%swant:\n%s", left, want)
	}
	if r := succeed(t, "install", "--diff", to, "--network-policy=none"); r.stdout != "" {
		t.Errorf("the same again would change:\n%s", r.stdout)
	}
	succeed(t, "uninstall", "--yes", to)
	if r := succeed(t, "install", "--diff"); r.stdout != "" {
		t.Errorf("the other namespace, or what is shared, is not as it was:\n%s", r.stdout)
	}
}

// TestInstallConflict: what somebody else has set is not touched, and said.
func TestInstallConflict(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	succeed(t, "install", to)
	kubectl(t, "", "patch", "networkpolicy", "hodei-jobs-worker", "-n", namespace, "--field-manager=somebody", "--type=merge", "-p",
		`{"spec":{"egress":[{}]}}`)
	kubectl(t, "", "label", "namespace", namespace, "--field-manager=another", "--overwrite",
		"pod-security.kubernetes.io/enforce=privileged")
	versions := kubectl(t, "", "get", "-n", namespace, "sa,networkpolicy", "-o=jsonpath={.items[*].metadata.resourceVersion}")
	for _, args := range [][]string{{"install", to}, {"install", to, "--dry-run=server"}} {
		r := hodei(t, args...)
		refused(t, r, "somebody else has set what would be applied: namespace "+namespace+
			`: .metadata.labels.pod-security.kubernetes.io/enforce by "another"`)
		want := "networkpolicy hodei-jobs-worker in namespace " + namespace + `: .spec.egress by "somebody"`
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
		}
		dry := ""
		if len(args) > 2 {
			dry = " --dry-run=server"
		}
		if want := "hint: if it was installed with --profile, give it again; to take it over: hodei install" + dry +
			" --force-conflicts --workers-namespace=" + namespace; !strings.Contains(r.stderr, want) {
			t.Errorf("stderr lacks %q:\n%s", want, r.stderr)
		}
	}
	if now := kubectl(t, "", "get", "-n", namespace, "sa,networkpolicy",
		"-o=jsonpath={.items[*].metadata.resourceVersion}"); now != versions {
		t.Errorf("an install that was refused has changed something: %s, then %s", versions, now)
	}
	if r := hodei(t, "install", to, "--diff", "--force-conflicts"); r.code != 1 ||
		!strings.Contains(r.stdout, "\n-    pod-security.kubernetes.io/enforce: privileged\n") {
		t.Errorf("--diff: %+v", r)
	}
	succeed(t, "install", to, "--force-conflicts")
	succeed(t, "install", to)
}

// clusterUser makes a user who may do something in all of the cluster, and returns
// the role, which has the user's name.
func clusterUser(t *testing.T, rules []rbacv1.PolicyRule) *rbacv1.ClusterRole {
	t.Helper()
	name := "e2e-" + rand.String(8)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}
	t.Cleanup(func() {
		_ = client.RbacV1().ClusterRoleBindings().Delete(context.Background(), name, metav1.DeleteOptions{})
		_ = client.RbacV1().ClusterRoles().Delete(context.Background(), name, metav1.DeleteOptions{})
	})
	if _, err := client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RbacV1().ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return role
}

// TestInstallOthersPods: what runs in a namespace that was there is not shut out.
func TestInstallOthersPods(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	kubectl(t, "", "create", "namespace", namespace)
	kubectl(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"theirs"},"spec":{"schedulerName":"none",`+
		`"automountServiceAccountToken":false,"containers":[{"name":"c","image":"i"}]}}`, "create", "-n", namespace, "-f-")
	before := objects(t, namespace)
	const want = ` was there before hodei, and would begin to enforce Pod Security "restricted", which Pods in it do not meet: existing ` +
		`pods in namespace `
	refused(t, hodei(t, "install", to), "namespace "+namespace+want)
	if r := hodei(t, "install", to, "--diff"); r.code != 1 ||
		!strings.HasPrefix(r.stderr, "it would be refused without --force-pod-security: namespace "+namespace+want) {
		t.Errorf("--diff: %+v", r)
	}
	sameObjects(t, "after an install that was refused", objects(t, namespace), before)
	r := succeed(t, "install", to, "--profile=baseline") // which it meets
	// The first line names the cluster.
	note := "namespace " + namespace +
		` was there before hodei: with it, everybody's Pods there have to meet Pod Security "baseline"` + "\n"
	if !strings.Contains(r.stderr, "\n"+note) {
		t.Errorf("stderr %q, note %q", r.stderr, note)
	}
	refused(t, hodei(t, "install", to), "namespace "+namespace+want)
	if r := succeed(t, "install", to, "--force-pod-security"); !strings.Contains(r.stderr, "\nforced: namespace "+namespace+want) {
		t.Errorf("stderr %q", r.stderr)
	}
	succeed(t, "uninstall", "--yes", to)
	sameObjects(t, "after uninstall", objects(t, namespace), before)
}

// TestInstallRights: what the caller may not is said before anything is changed.
func TestInstallRights(t *testing.T) {
	ownCluster(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	all := []string{"create", "get", "list", "patch", "delete"}
	role := clusterUser(t, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "serviceaccounts", "resourcequotas", "limitranges"}, Verbs: all},
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings", "clusterroles"}, Verbs: all},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"},
			Verbs: []string{"create", "get", "patch", "list"}},
	})
	name := role.Name
	const (
		ofUser = "list and watch events; create, delete, get, list, patch and watch jobs.batch; delete, list and watch pods; get " +
			"pods/log; create and get pods/portforward; create, delete and get secrets; "
		ofRole   = "list and watch events in %[2]s; create, delete, get, list, patch and watch jobs.batch in %[2]s; "
		networks = "delete networkpolicies.networking.k8s.io in %[2]s; "
		ofPods   = "delete, get, list and watch pods in %[2]s; get pods/log in %[2]s; create and get pods/portforward in %[2]s; create, " +
			"delete and get secrets in %[2]s"
		system = "; delete networkpolicies.networking.k8s.io in hodei-system"
	)
	// Kubernetes lets nobody grant more than they have.
	refused(t, hodei(t, "install", to, "--as", name), fmt.Sprintf("user %[1]q may not "+ofUser+ofRole+networks+ofPods+system+"\n",
		name, namespace))
	grant := func() {
		t.Helper()
		if _, err := client.RbacV1().ClusterRoles().Update(t.Context(), role, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	role.Rules[2].Verbs = all
	grant()
	kubectl(t, "", "create", "namespace", namespace)
	refused(t, hodei(t, "install", to, "--as", name), fmt.Sprintf("user %[1]q may not "+ofUser+ofRole+ofPods+"\n", name, namespace))
	if left := kubectl(t, "", "get", "-n", namespace, "-o=name", "sa,roles,networkpolicy"); left != "serviceaccount/default\n" {
		t.Errorf("an install that was refused has made %s", left)
	}

	// Who has all of it may, and who may escalate and bind.
	user, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	own := slices.Clone(role.Rules)
	role.Rules = append(role.Rules,
		append(user.Rules, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}})...)
	grant()
	succeed(t, "install", to, "--as", name)
	succeed(t, "uninstall", "--yes", to)
	role.Rules = own
	role.Rules[1].Verbs = append(all, "escalate", "bind")
	grant()
	succeed(t, "install", to, "--as", name)
}

// TestInstallQuota: with a quota, a job that says nothing of what it needs runs.
func TestInstallQuota(t *testing.T) {
	ownCluster(t)
	needsImages(t)
	namespace := workersOfOwn(t)
	to := "--workers-namespace=" + namespace
	for _, quota := range []string{"cpu=1,memory=512Mi,pods=1", "pods=1", "cpu=1", "memory=512Mi"} {
		succeed(t, "install", to, "--quota="+quota)
		if r := hodei(t, "run", "-q", "-n", namespace, "--ttl=1s", "--", "echo", quota); r.code != 0 || r.stdout != quota+"\n" {
			t.Errorf("with %s: %+v", quota, r)
		}
	}
	// More than there is, of what counts.
	succeed(t, "install", to, "--quota=cpu=1,memory=512Mi,pods=5")
	checkFailure(t, hodei(t, "run", "-q", "-n", namespace, "--start-timeout=5s", "--memory=1Gi", "--", "true"), "exceeded quota")
	succeed(t, "uninstall", "--yes", "--force", to)
}
