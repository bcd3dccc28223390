package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
)

// jobsThere are jobs that somebody else has made, for those who may only look.
type jobsThere struct{ running, ended string }

// expectations are what hodei does without one of the rights of hodei-user.
var expectations = map[string]func(t *testing.T, u *user, there jobsThere){
	"create jobs.batch": func(t *testing.T, u *user, _ jobsThere) { u.refusedToRun(t) },
	"list jobs.batch": func(t *testing.T, u *user, _ jobsThere) {
		u.refused(t, 1, "jobs")
		u.runsByWatching(t)
	},
	"watch jobs.batch": func(t *testing.T, u *user, there jobsThere) {
		u.refusedToRun(t)
		u.refused(t, 1, "jobs", there.running, "--watch")
	},
	"get jobs.batch": func(t *testing.T, u *user, there jobsThere) {
		u.runs(t)
		u.refused(t, 125, "attach", there.running)
		u.refused(t, 1, "logs", there.running)
	},
	// a Job is made with a deadline that goes when it is complete
	"patch jobs.batch": func(t *testing.T, u *user, _ jobsThere) { u.refusedToRun(t) },
	"delete jobs.batch": func(t *testing.T, u *user, _ jobsThere) {
		name := jobName(t)
		s := start(t, "run", "--as", u.name, "--name", name, "--cpu=1000", "--", "true")
		s.await(t, "submitted")
		pod(t, name, func(*corev1.Pod) bool { return true })
		s.interrupt(t)
		r := s.end(t)
		if r.code != 130 {
			t.Errorf("exit code %d, want 130", r.code)
		}
		u.named(t, r.stderr)
	},

	"list pods": func(t *testing.T, u *user, there jobsThere) {
		r := hodei(t, "jobs", there.running, "--as", u.name)
		if r.code != 0 || !strings.Contains(r.stdout, there.running) || !strings.HasPrefix(r.stderr, "without what only Pods tell: ") {
			t.Errorf("jobs: %+v", r)
		}
		u.named(t, r.stderr)
		u.refused(t, 125, "attach", there.running)
		u.runsByWatching(t)
	},
	"watch pods": func(t *testing.T, u *user, _ jobsThere) { u.refusedToRun(t) },
	"delete pods": func(t *testing.T, u *user, _ jobsThere) { // what belongs to a Job goes with it
		u.runs(t)
		u.takesBack(t)
	},

	"get pods/portforward": func(t *testing.T, u *user, _ jobsThere) { u.runs(t) }, // create is enough since Kubernetes 1.35, and for SPDY
	"create pods/portforward": func(t *testing.T, u *user, there jobsThere) {
		r := hodei(t, "run", "--as", u.name, "--name", jobName(t), "--", "echo", "hi")
		if r.code != 0 || r.stdout != "hi\n" ||
			!strings.HasPrefix(r.stderr, "the tunnel is forbidden (create pods/portforward): following the container's log instead\n") {
			t.Errorf("%+v", r)
		}
		name := jobName(t)
		u.refused(t, 125, "run", "--name", name, "--container-logs=false", "--", "sleep", "30")
		nothingLeft(t, name)
		if r := hodei(t, "logs", "--as", u.name, there.running); r.code != 0 || r.stdout != "here\n" {
			t.Errorf("logs: %+v", r)
		}
	},
	"get pods/log": func(t *testing.T, u *user, there jobsThere) {
		u.runs(t)
		u.refused(t, 1, "logs", there.ended)
	},

	"create secrets": func(t *testing.T, u *user, _ jobsThere) { u.refusedToRun(t) },
	"delete secrets": func(t *testing.T, u *user, _ jobsThere) { u.takesBack(t) },
	"get secrets": func(t *testing.T, u *user, there jobsThere) {
		u.runs(t)
		u.refused(t, 125, "attach", there.running)
	},

	"get namespaces": func(t *testing.T, u *user, _ jobsThere) { u.runs(t) }, // TestEBPFUnseen: nothing but auto asks

	"list events":  func(t *testing.T, u *user, _ jobsThere) { u.runs(t); u.toldOfRoot(t) }, // either does, if late
	"watch events": func(t *testing.T, u *user, _ jobsThere) { u.runs(t); u.toldOfRoot(t) },
}

// TestRights takes one right after the other away from a user who has those of
// hodei-user in the workers' namespace, and no other.
func TestRights(t *testing.T) {
	t.Parallel()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	there := jobsThere{running: jobName(t), ended: jobName(t)}
	for name, script := range map[string]string{there.running: "echo here; exec sleep 300", there.ended: "echo here"} {
		if r := hodei(t, "run", "-d", "--name", name, "--linger=1s", "--grace=1s", "--", "sh", "-c", script); r.code != 0 {
			t.Fatalf("%+v", r)
		}
	}
	pod(t, there.running, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	pod(t, there.ended, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		newUser(t, all.Rules, "").does(t, there)
	})
	t.Run("the coordinator", func(t *testing.T) {
		t.Parallel()
		(&user{name: "system:serviceaccount:hodei-system:hodei-control-plane"}).does(t, there)
	})
	seen := map[string]bool{}
	for _, rule := range one(all.Rules) {
		right := rightOf(rule)
		if seen[right] {
			continue
		}
		seen[right] = true
		t.Run(strings.ReplaceAll(right, "/", "-"), func(t *testing.T) {
			t.Parallel()
			expect := expectations[right]
			if expect == nil {
				t.Fatal("a new right of hodei-user: say in expectations what hodei does without it")
			}
			begin := time.Now()
			expect(t, newUser(t, without(all.Rules, right), right), there)
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("it took %s", took)
			}
		})
	}
	t.Run("no events", func(t *testing.T) {
		t.Parallel()
		u := newUser(t, without(without(all.Rules, "list events"), "watch events"), "list events")
		u.runs(t)
		name := jobName(t) // of which only an event tells that its Pod is refused
		u.refused(t, 125, "run", "--name", name, "--user=0", "--start-timeout=5s", "--", "true")
		nothingLeft(t, name)
	})
	t.Run("no tunnel", func(t *testing.T) {
		t.Parallel()
		u := newUser(t, without(without(all.Rules, "get pods/portforward"), "create pods/portforward"), "get and create pods/portforward")
		r := hodei(t, "run", "--as", u.name, "--name", jobName(t), "--", "echo", "hi")
		if r.code != 0 || r.stdout != "hi\n" || !strings.HasPrefix(r.stderr, "the tunnel is forbidden (create pods/portforward)") {
			t.Errorf("%+v", r)
		}
		u.refused(t, 125, "run", "--name", jobName(t), "--container-logs=false", "--", "sleep", "30")
	})
	for right := range expectations {
		if !seen[right] {
			t.Errorf("hodei-user has no %q any more, and expectations have", right)
		}
	}
}

// user may do something in the workers' namespace.
type user struct{ name, lacks string }

// does all that there is to do with jobs.
func (u *user) does(t *testing.T, there jobsThere) {
	t.Helper()
	u.runs(t)
	u.takesBack(t)
	s := start(t, "run", "--as", u.name, "--name", jobName(t), "--retries=1", "--grace=1s", "--", "sleep", "300")
	s.await(t, "running")
	s.interrupt(t)
	if r := s.end(t); r.code != 130 || strings.Contains(r.stderr, "forbidden") {
		t.Errorf("cancelled: %+v", r)
	}
	name := jobName(t)
	if r := hodei(t, "run", "-d", "--as", u.name, "--name", name, "--", "sh", "-c", "echo mine; sleep 1; exit 3"); r.code != 0 ||
		r.stdout != name+"\n" {
		t.Errorf("detached: %+v", r)
	}
	if r := hodei(t, "attach", "--as", u.name, name); r.code != 3 || r.stdout != "mine\n" {
		t.Errorf("attach: %+v", r)
	}
	for _, name := range []string{there.running, there.ended, name} {
		if r := hodei(t, "jobs", "--as", u.name, name, "--no-headers"); r.code != 0 || !strings.HasPrefix(r.stdout, name+" ") {
			t.Errorf("jobs: %+v", r)
		}
	}
	for _, name := range []string{there.running, there.ended} {
		if r := hodei(t, "logs", "--as", u.name, name); r.code != 0 || r.stdout != "here\n" {
			t.Errorf("logs: %+v", r)
		}
	}
}

// runs runs a job as the user, with nothing to be said.
func (u *user) runs(t *testing.T) {
	t.Helper()
	r := hodei(t, "run", "-q", "--as", u.name, "--name", jobName(t), "--", "echo", "hi")
	if want := (result{"hi\n", "", 0}); r != want {
		t.Errorf("got %+v, want %+v", r, want)
	}
}

// toldOfRoot starts a job that its namespace refuses, of which an event tells.
func (u *user) toldOfRoot(t *testing.T) {
	t.Helper()
	name := jobName(t)
	r := hodei(t, "run", "--as", u.name, "--name", name, "--user=0", "--start-timeout=30s", "--", "true")
	checkFailure(t, r, `violates PodSecurity "restricted:`)
	if !strings.Contains(r.stderr, "--user 65532") || strings.Contains(r.stderr, "may not") {
		t.Errorf("%+v", r)
	}
	nothingLeft(t, name)
}

// takesBack interrupts the start of a job, of which nothing is left then.
func (u *user) takesBack(t *testing.T) {
	t.Helper()
	name := jobName(t)
	s := start(t, "run", "--as", u.name, "--name", name, "--cpu=1000", "--", "true")
	s.await(t, "submitted")
	pod(t, name, func(*corev1.Pod) bool { return true })
	s.interrupt(t)
	if r := s.end(t); r.code != 130 || strings.Contains(r.stderr, "forbidden") {
		t.Errorf("taken back: %+v", r)
	}
	nothingLeft(t, name)
}

// runsByWatching runs a job where the API server begins a watch with what is there,
// as it does since Kubernetes 1.34, and is refused elsewhere.
func (u *user) runsByWatching(t *testing.T) {
	t.Helper()
	name := jobName(t)
	if r := hodei(t, "run", "--as", u.name, "--name", name, "--", "echo", "hi"); r.code != 0 || r.stdout != "hi\n" {
		checkFailure(t, r, "forbidden")
		u.named(t, r.stderr)
		nothingLeft(t, name)
	}
}

// refusedToRun can't run anything, and leaves nothing.
func (u *user) refusedToRun(t *testing.T) {
	t.Helper()
	name := jobName(t)
	u.refused(t, 125, "run", "--name", name, "--", "true")
	nothingLeft(t, name)
}

// refused is told which right is missing, and what grants it.
func (u *user) refused(t *testing.T, code int, args ...string) {
	t.Helper()
	typed := append(slices.Clone(args), "--as", u.name)
	if i := slices.Index(args, "--"); i >= 0 {
		typed = slices.Insert(slices.Clone(args), i, "--as", u.name)
	}
	cmd := command(t.Context(), typed...)
	cmd.Env = append(cmd.Env, "XDG_STATE_HOME="+t.TempDir()) // with nothing stored that would do
	r := run(t, cmd)
	if r.code != code || strings.Count("\n"+r.stderr, "\nerror: ") != 1 || strings.Count("\n"+r.stderr, "\nhint: ") != 1 {
		t.Errorf("hodei %s: exit code %d, want %d:\n%s", strings.Join(args, " "), r.code, code, r.stderr)
	}
	u.named(t, r.stderr)
}

// named checks that the right that is missing is named, and the command that grants it.
func (u *user) named(t *testing.T, stderr string) {
	t.Helper()
	for _, want := range []string{
		fmt.Sprintf("user %q may not %s in namespace %q", u.name, u.lacks, workers),
		fmt.Sprintf("kubectl create rolebinding hodei-%s --clusterrole=hodei-user --user=%s -n %s", u.name, u.name, workers),
		"hodei install",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("want %q in:\n%s", want, stderr)
		}
	}
}

// rightOf names a rule of one verb on one resource as hodei does.
func rightOf(rule rbacv1.PolicyRule) string {
	right := rule.Verbs[0] + " " + rule.Resources[0]
	if rule.APIGroups[0] != "" {
		right += "." + rule.APIGroups[0]
	}
	return right
}

// one makes rules of one verb on one resource each.
func one(rules []rbacv1.PolicyRule) []rbacv1.PolicyRule {
	var out []rbacv1.PolicyRule
	for _, rule := range rules {
		for _, g := range rule.APIGroups {
			for _, r := range rule.Resources {
				for _, v := range rule.Verbs {
					out = append(out, rbacv1.PolicyRule{APIGroups: []string{g}, Resources: []string{r}, Verbs: []string{v}})
				}
			}
		}
	}
	return out
}

// without copies rules and takes a right out.
func without(rules []rbacv1.PolicyRule, right string) []rbacv1.PolicyRule {
	return slices.DeleteFunc(one(rules), func(r rbacv1.PolicyRule) bool { return rightOf(r) == right })
}

// newUser makes a user who lacks a right.
func newUser(t *testing.T, rules []rbacv1.PolicyRule, lacks string) *user {
	t.Helper()
	return &user{userWith(t, rules), lacks}
}

// userWith makes a user who has these rights in the workers' namespace.
func userWith(t *testing.T, rules []rbacv1.PolicyRule) string {
	t.Helper()
	return userIn(t, workers, rules)
}

// userIn makes a user who has these rights in a namespace.
func userIn(t *testing.T, namespace string, rules []rbacv1.PolicyRule) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	grant(t, namespace, rules, name, rbacv1.Subject{APIGroup: "rbac.authorization.k8s.io", Kind: "User", Name: name})
	return name
}

// grant gives somebody rights in a namespace, and waits until the API server, which calls
// them user, knows.
func grant(t *testing.T, namespace string, rules []rbacv1.PolicyRule, user string, subject rbacv1.Subject) {
	t.Helper()
	name := subject.Name
	meta := metav1.ObjectMeta{Name: name, Namespace: namespace}
	c := client.RbacV1()
	t.Cleanup(func() {
		ctx := context.Background()
		_ = c.RoleBindings(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		_ = c.Roles(namespace).Delete(ctx, name, metav1.DeleteOptions{})
	})
	if _, err := c.Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io",
		Kind: "Role", Name: name},
		Subjects: []rbacv1.Subject{subject}}
	if _, err := c.RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		review, err := client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{User: user, ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: rules[0].Verbs[0], Group: rules[0].APIGroups[0],
				Resource: strings.Split(rules[0].Resources[0], "/")[0]}},
		}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
