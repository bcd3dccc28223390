package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
)

// trial is a namespace of a test's own with a provider for it.
type trial struct{ namespace, provider, user string }

// newTrial makes the namespace, with the workers' service account in it and labels
// added, and a provider with the flags given. All of it is gone after the test.
func newTrial(t *testing.T, labels map[string]string, flags ...string) trial {
	t.Helper()
	name := "e2e-" + rand.String(8)
	tr := trial{namespace: name, provider: name, user: name}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "hodei-jobs-worker"}}
	if _, err := client.CoreV1().ServiceAccounts(name).Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	add := []string{"provider", "add", name, "--namespace", name, "--image-pull-policy", "IfNotPresent"}
	if r := hodei(t, append(add, flags...)...); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	t.Cleanup(func() { forget(t, name) })
	return tr
}

// forget removes a provider after a test.
func forget(t *testing.T, name string) {
	t.Helper()
	if out, err := command(context.Background(), "provider", "remove", name).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// grant lets the trial's user do in its namespace what the cluster role hodei-user
// does, without one resource ("": with all).
func (tr trial) grant(t *testing.T, without string) {
	t.Helper()
	role, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rules := slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, without) })
	if _, err := client.RbacV1().Roles(tr.namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "user"}, Rules: rules,
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.RbacV1().RoleBindings(tr.namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "user"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "user"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: tr.user}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// empty checks that no job, Pod or Secret is left in the trial's namespace.
func (tr trial) empty(t *testing.T) {
	t.Helper()
	var left []string
	err := wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		left = nil
		jobs, err := client.BatchV1().Jobs(tr.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		pods, err := client.CoreV1().Pods(tr.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		secrets, err := client.CoreV1().Secrets(tr.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		for _, j := range jobs.Items {
			left = append(left, "job "+j.Name)
		}
		for _, p := range pods.Items {
			left = append(left, "pod "+p.Name)
		}
		for _, s := range secrets.Items {
			left = append(left, "secret "+s.Name)
		}
		return len(left) == 0, nil
	})
	if err != nil {
		t.Errorf("left behind: %q (%v)", left, err)
	}
}

// TestProviderTest: the four levels on a provider that works, and on ones of which each
// lacks something.
func TestProviderTest(t *testing.T) {
	t.Parallel()
	restricted := map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
	t.Run("good", func(t *testing.T) {
		t.Parallel()
		tr := newTrial(t, restricted)
		tr.grant(t, "")
		r := hodei(t, "--as", tr.user, "provider", "test", tr.provider)
		if r.code != 0 || r.stdout != "" {
			t.Errorf("%+v", r)
		}
		for _, want := range []string{
			"level 1: infrastructure: Kubernetes v", "level 2: worker registration: the agent of provider-test-",
			"level 3: life cycle: provider-test-", "level 4: full flow: 131082 bytes and exit code 7 came back (",
		} {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("no %q in\n%s", want, r.stderr)
			}
		}
		tr.empty(t)
	})
	for _, test := range []struct {
		name    string
		flags   []string // of provider add
		without string   // right of the user's
		admin   bool     // who sees what a user may not look for
		level   int
		want    []string // in stderr
	}{
		{"namespace missing", []string{"--namespace", "e2e-nowhere"}, "", true, 1, []string{"namespace e2e-nowhere does not exist",
			"hint: hodei install --provider ", " --workers-namespace=e2e-nowhere, or name another namespace with -n"}},
		{"no service account", []string{"--service-account", "nobody"}, "", true, 1,
			[]string{`serviceaccount "nobody" not found`, "hint: kubectl create serviceaccount nobody -n "}},
		{"no pull secret", []string{"--image-pull-secret", "nosuch"}, "", false, 1,
			[]string{`secret "nosuch" not found`, "hint: kubectl create secret docker-registry nosuch -n "}},
		{"no right to jobs", nil, "jobs", false, 1, []string{"may not create, get, list, watch, patch and delete jobs.batch in ",
			"hint: an administrator can grant it: kubectl create rolebinding "}},
		{"no tunnel", nil, "pods/portforward", false, 2,
			[]string{"pods/portforward", "hint: an administrator can grant it: kubectl create rolebinding "}},
		{"image unpullable", []string{"--image", unpullable}, "", false, 2, []string{"can't be pulled", "hint: "}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tr := newTrial(t, restricted, test.flags...)
			tr.grant(t, test.without)
			as := []string{"--as", tr.user}
			if test.admin {
				as = nil
			}
			r := hodei(t, append(as, "provider", "test", tr.provider, "-o", "json")...)
			var report struct {
				OK     bool
				Levels []struct {
					Level        int
					Status, Hint string
				}
			}
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
				t.Fatalf("%v: %+v", err, r)
			}
			last := report.Levels[len(report.Levels)-1]
			if r.code != 1 || report.OK || last.Level != test.level || last.Status != "error" || last.Hint == "" {
				t.Errorf("exit code %d, want level %d to fail:\n%s", r.code, test.level, r.stdout)
			}
			for _, want := range test.want {
				if !strings.Contains(r.stderr, want) {
					t.Errorf("no %q in\n%s", want, r.stderr)
				}
			}
			tr.empty(t)
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		for _, after := range []string{"level 1", "level 2", "level 3"} {
			tr := newTrial(t, restricted)
			s := start(t, "provider", "test", tr.provider)
			s.await(t, after)
			s.interrupt(t)
			if r := s.end(t); r.code != 130 || !strings.Contains(r.stderr, "interrupted") {
				t.Errorf("after %s: %+v", after, r)
			}
			tr.empty(t)
		}
	})
}

// examined is what hodei doctor says, by the names of its checks.
func examined(t *testing.T, want int, cmd *exec.Cmd) map[string]string {
	t.Helper()
	r := run(t, cmd)
	var report struct {
		Checks []struct{ Name, Status, Detail string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != want {
		t.Fatalf("%v: %+v", err, r)
	}
	found := map[string]string{}
	for _, c := range report.Checks {
		found[c.Name] = c.Status + ": " + c.Detail
	}
	return found
}

// TestDoctor: what is well is said to be, and what is not is found.
func TestDoctor(t *testing.T) {
	t.Parallel()
	t.Run("well", func(t *testing.T) {
		t.Parallel()
		got := examined(t, 0, command(t.Context(), "doctor", "-o", "json"))
		for _, name := range []string{"provider", "cluster", "clock", "rights", "namespace", "service account", "role", "network policy",
			"job", "output"} {
			if !strings.HasPrefix(got[name], "ok: ") {
				t.Errorf("%s: %s", name, got[name])
			}
		}
	})
	t.Run("a user", func(t *testing.T) {
		t.Parallel()
		tr := newTrial(t, nil)
		tr.grant(t, "")
		got := examined(t, 0, command(t.Context(), "doctor", "--as", tr.user, "--provider", tr.provider, "-o", "json"))
		for name, status := range map[string]string{"rights": "ok", "namespace": "ok", "installed": "skipped", "job": "ok", "jobs": "ok"} {
			if !strings.HasPrefix(got[name], status+": ") {
				t.Errorf("%s: %s, want %s", name, got[name], status)
			}
		}
	})
	t.Run("nothing installed", func(t *testing.T) {
		t.Parallel()
		tr := newTrial(t, nil)
		got := examined(t, 0, command(t.Context(), "doctor", "--provider", tr.provider, "-o", "json"))
		for _, name := range []string{"role", "network policy", "installed"} {
			if !strings.HasPrefix(got[name], "warning: ") {
				t.Errorf("%s: %s", name, got[name])
			}
		}
	})
	t.Run("Pod Security", func(t *testing.T) {
		t.Parallel()
		// What jobs are given passes "restricted": the settings have to ask for more.
		tr := newTrial(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted",
			"pod-security.kubernetes.io/warn": "restricted"})
		add := command(t.Context(), "provider", "add", tr.provider+"-root", "-f", "-")
		add.Stdin = strings.NewReader("type: kubernetes\nnamespace: " + tr.namespace +
			"\nallow_host_path: true\nvolumes: [{name: host, mountPath: /host, hostPath: {path: /}}]\n")
		if r := run(t, add); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		t.Cleanup(func() { forget(t, tr.provider+"-root") })
		got := examined(t, 1, command(t.Context(), "doctor", "--provider", tr.provider+"-root", "-o", "json"))
		if !strings.HasPrefix(got["job"], "error: the namespace refuses its Pods: ") || !strings.Contains(got["job"], "hostPath") {
			t.Errorf("job: %s", got["job"])
		}
	})
}
