package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"

	authorizationv1 "k8s.io/api/authorization/v1"
)

// TestStartFailures: each gives one error: line that names the thing, one hint:
// line, exit code 125, nothing on stdout, and leaves nothing behind.
func TestStartFailures(t *testing.T) {
	t.Parallel()
	for _, p := range []struct{ name, image string }{
		{"agent-unpullable", unpullable}, {"copyfails", "registry.local/worker-copyfails:1"}, {"copyhangs", "registry.local/worker-copyhangs:1"},
	} {
		if r := hodei(t, "provider", "add", p.name, "--image", p.image); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	tests := []struct {
		name   string
		images bool
		env    string
		flags  []string
		err    string
	}{
		{name: "image", flags: []string{"--image", unpullable}, err: `image "` + unpullable + `" can't be pulled: `},
		{name: "image name", flags: []string{"--image", "Not An Image"}, err: `image "Not An Image" is not a valid image name`},
		{name: "agent's image", images: true, flags: []string{"--provider", "agent-unpullable", "--image", busybox}, err: `the worker's image "` + unpullable + `" can't be pulled: `},
		{name: "copy fails", images: true, flags: []string{"--provider", "copyfails", "--image", busybox}, err: "the launcher was not put in place: no space left on device"},
		{name: "copy hangs", images: true, flags: []string{"--provider", "copyhangs", "--image", busybox, "--start-timeout=6s"}, err: "postStart hook, which copies the launcher, has not returned"},
		{name: "namespace", flags: []string{"-n", "no-such-namespace"}, err: `namespaces "no-such-namespace" not found`},
		{name: "service account", env: "HODEI_K8S_SERVICE_ACCOUNT=no-such-account", err: `serviceaccount "no-such-account" not found in namespace "` + workers + `"`},
		{name: "secret", flags: []string{"--env-from=secret/no-such-secret"}, err: `secret "no-such-secret" not found`},
		{name: "config map", flags: []string{"--env-from=configmap/no-such-map"}, err: `configmap "no-such-map" not found`},
		{name: "too large", flags: []string{"--cpu=1000", "--start-timeout=3s"}, err: "no node takes the job: "},
		{name: "root", flags: []string{"--user=0"}, err: "violates PodSecurity"},
		{name: "provider", flags: []string{"--provider", "no-such-provider"}, err: `provider "no-such-provider" not found`},
		{name: "context", flags: []string{"--context", "no-such-context"}, err: `context "no-such-context" does not exist`},
		{name: "certificates", flags: []string{"--certs", "/no/such/directory"}, err: "/no/such/directory/ca.crt: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.images {
				needsImages(t)
			}
			name := jobName(t)
			cmd := command(t.Context(), append(append([]string{"run", "--name", name}, tt.flags...), "--", "true")...)
			if tt.env != "" {
				cmd.Env = append(cmd.Env, tt.env)
			}
			checkFailure(t, run(t, cmd), tt.err)
			nothingLeft(t, name)
		})
	}
	t.Run("taken name", func(t *testing.T) {
		t.Parallel()
		name := jobName(t)
		if r := hodei(t, "run", "-q", "--name", name, "--", "true"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		checkFailure(t, hodei(t, "run", "--name", name, "--", "true"), `"`+name+`" already exists`)
		if _, err := client.BatchV1().Jobs(workers).Get(t.Context(), name, metav1.GetOptions{}); err != nil {
			t.Errorf("the job that was there first: %v", err)
		}
	})
	t.Run("refused credentials", func(t *testing.T) {
		t.Parallel()
		checkFailure(t, hodei(t, "run", "--server", config.Host, "--insecure-skip-tls-verify", "--token", "expired",
			"--kubeconfig", "/dev/null", "-n", workers, "--", "true"), "the cluster does not accept the credentials")
	})
}

// checkFailure checks the shape of a failed run.
func checkFailure(t *testing.T, r result, want string) {
	t.Helper()
	errs, hints := 0, 0
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "error: ") {
			errs++
			if !strings.Contains(line, want) {
				t.Errorf("%swant: %s", line, want)
			}
		}
		if strings.HasPrefix(line, "hint: ") {
			hints++
		}
	}
	if r.code != 125 || errs != 1 || hints != 1 || r.stdout != "" {
		t.Errorf("exit code %d, %d error: and %d hint: lines, stdout %q:\n%s", r.code, errs, hints, r.stdout, r.stderr)
	}
}

// rights are what the ClusterRole hodei-user grants and a run can't do without.
var rights = []struct{ group, resource, verb string }{
	{"batch", "jobs", "create"},
	{"batch", "jobs", "watch"},
	{"", "pods", "watch"},
	{"", "secrets", "create"},
}

// TestForbidden takes one right after the other away from a user who has
// hodei-user's and nothing else.
func TestForbidden(t *testing.T) {
	t.Parallel()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("none missing", func(t *testing.T) {
		t.Parallel()
		user := userWith(t, all.Rules)
		r := hodei(t, "run", "-q", "--as", user, "--name", jobName(t), "--", "echo", "hi")
		if want := (result{"hi\n", "", 0}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	})
	for _, missing := range rights {
		t.Run(missing.verb+" "+missing.resource, func(t *testing.T) {
			t.Parallel()
			user := userWith(t, without(all.Rules, missing.group, missing.resource, missing.verb))
			name := jobName(t)
			r := hodei(t, "run", "--as", user, "--name", name, "--", "true")
			checkFailure(t, r, fmt.Sprintf("user %q may not %s %s", user, missing.verb, missing.resource))
			if !strings.Contains(r.stderr, "--clusterrole=hodei-user --user="+user+" -n "+workers) {
				t.Errorf("the hint does not grant it:\n%s", r.stderr)
			}
			nothingLeft(t, name)
		})
	}
	// Without the tunnel there is the container's log.
	for name, rules := range map[string][]rbacv1.PolicyRule{
		"create pods/portforward": without(all.Rules, "", "pods/portforward", "create"),
		"pods/portforward":        without(without(all.Rules, "", "pods/portforward", "create"), "", "pods/portforward", "get"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			user := userWith(t, rules)
			r := hodei(t, "run", "--as", user, "--name", jobName(t), "--", "true")
			if r.code != 0 || !strings.HasPrefix(r.stderr, "the tunnel is forbidden (create pods/portforward): following the container's log instead\n") {
				t.Errorf("%+v", r)
			}
			name := jobName(t)
			r = hodei(t, "run", "--as", user, "--name", name, "--container-logs=false", "--", "sleep", "30")
			checkFailure(t, r, "create pods/portforward in namespace")
			nothingLeft(t, name)
		})
	}
}

// without copies rules and takes a verb on a resource out.
func without(rules []rbacv1.PolicyRule, group, resource, verb string) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, rule := range rules {
		for _, g := range rule.APIGroups {
			for _, r := range rule.Resources {
				for _, v := range rule.Verbs {
					if g != group || r != resource || v != verb {
						out = append(out, rbacv1.PolicyRule{APIGroups: []string{g}, Resources: []string{r}, Verbs: []string{v}})
					}
				}
			}
		}
	}
	return out
}

// userWith makes a user who has these rights in the workers' namespace, and
// waits until the API server knows.
func userWith(t *testing.T, rules []rbacv1.PolicyRule) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	meta := metav1.ObjectMeta{Name: name, Namespace: workers}
	c := client.RbacV1()
	t.Cleanup(func() {
		ctx := context.Background()
		_ = c.RoleBindings(workers).Delete(ctx, name, metav1.DeleteOptions{})
		_ = c.Roles(workers).Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := c.Roles(workers).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "Role", Name: name},
		Subjects: []rbacv1.Subject{{APIGroup: "rbac.authorization.k8s.io", Kind: "User", Name: name}}}
	if _, err := c.RoleBindings(workers).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		review, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: name, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: workers, Verb: rules[0].Verbs[0], Group: rules[0].APIGroups[0], Resource: strings.Split(rules[0].Resources[0], "/")[0]}},
		}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return name
}
