package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
)

// The uids that an OpenShift cluster gives a namespace.
const firstUID, lastUID = 1000650000, 1000659999

// uidRule refuses every other, in OpenShift's words.
var uidRule = admissionregistrationv1.Validation{
	Expression: fmt.Sprintf(`object.spec.containers.all(c, !has(c.securityContext) || !has(c.securityContext.runAsUser) ||
		c.securityContext.runAsUser >= %d && c.securityContext.runAsUser <= %d)`, firstUID, lastUID),
	MessageExpression: fmt.Sprintf(
		`".containers[0].runAsUser: Invalid value: " + string(object.spec.containers.filter(c,
			has(c.securityContext) && has(c.securityContext.runAsUser))[0].securityContext.runAsUser) +
		": must be in the ranges: [%d, %d]"`, firstUID, lastUID),
}

// TestFixedUserRefused: a namespace takes Pods of its own uids alone, and gives one
// to those who ask for none.
func TestFixedUserRefused(t *testing.T) {
	t.Parallel()
	needsImages(t)
	namespace := newNamespace(t)
	assignUsers(t, namespace)
	refuseBy(t, namespace, uidRule)

	const hint = "hint: leave the user to the cluster: --user image; for all jobs: hodei provider set k8s-local --user image\n"
	for _, user := range []string{"", "1234", "0"} {
		r := runIn(t, namespace, "--user", user, "--", "id", "-u")
		checkFailure(t, r, ": must be in the ranges: [1000650000, 1000659999]") // the agent's, at least
		if !strings.HasSuffix(r.stderr, hint) {
			t.Errorf("--user %q: no hint in:\n%s", user, r.stderr)
		}
	}
	for _, image := range []string{"", busybox, "registry.local/user-nobody:1", "registry.local/user-65534:1",
		"registry.local/user-1234:1"} {
		r := runIn(t, namespace, "--user", "image", "--image", image, "--", "sh", "-c", "id -u; ls /run/hodei")
		if want := fmt.Sprintf("%d\nhodei-worker\n", firstUID); r.code != 0 || r.stdout != want {
			t.Errorf("--user image, image %q: %+v, want %q", image, r, want)
		}
	}

	// And for all jobs, as the hint says.
	provider := "assigned-" + rand.String(5)
	if r := hodei(t, "provider", "add", provider, "--namespace", namespace, "--service-account", "default", "--image-pull-policy",
		"IfNotPresent"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := hodei(t, "provider", "set", provider, "--user", "image"); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if r := hodei(t, "run", "-q", "--provider", provider, "--", "id", "-u"); r.code != 0 || r.stdout != fmt.Sprintln(firstUID) {
		t.Errorf("by the provider: %+v", r)
	}
	leavesNoJobs(t, namespace, 6) // those that ran
}

// TestRuleRefuses: what other rules say is quoted, with a hint.
func TestRuleRefuses(t *testing.T) {
	t.Parallel()
	const hint = "hint: this is a rule of the cluster; "
	t.Run("Pods", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t)
		refuseBy(t, namespace, admissionregistrationv1.Validation{Expression: "false", Message: "no Pods \x1b[31mon Sundays"})
		r := runIn(t, namespace, "--", "true")
		checkFailure(t, r, "denied request: no Pods [31mon Sundays")
		if !strings.Contains(r.stderr, hint) {
			t.Errorf("no hint in:\n%s", r.stderr)
		}
		leavesNoJobs(t, namespace, 0)
	})
	t.Run("Jobs, by a webhook", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t)
		admit(t, namespace, "batch", "jobs", func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Code: http.StatusBadRequest, Message: "no jobs\non Sundays"}}
		})
		r := runIn(t, namespace, "--", "true")
		checkFailure(t, r, `denied the request: no jobs on Sundays`)
		if !strings.Contains(r.stderr, hint) {
			t.Errorf("no hint in:\n%s", r.stderr)
		}
		leavesNoJobs(t, namespace, 0)
	})
}

// TestRestricted: the namespace that hodei install makes enforces Pod Security
// "restricted": what jobs are made of passes, and root does not.
func TestRestricted(t *testing.T) {
	t.Parallel()
	namespace, err := client.CoreV1().Namespaces().Get(t.Context(), workers, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if level := namespace.Labels["pod-security.kubernetes.io/enforce"]; level != "restricted" {
		t.Fatalf("namespace %s enforces %q", workers, level)
	}
	// The label alone would do nothing on a cluster without the admission plug-in.
	root := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "root-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: busybox}}}}
	_, err = client.CoreV1().Pods(workers).Create(t.Context(), root, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted:`) {
		t.Fatalf("a Pod that is not restricted: %v", err)
	}
	if r := hodei(t, "install"); r.code != 0 {
		t.Errorf("install once more: %+v", r)
	}
	own := jobName(t)
	if r := hodei(t, "run", "-q", "--name", own, "--", "id", "-u"); r != (result{ownUID(t, own) + "\n", "", 0}) {
		t.Errorf("%+v", r)
	}
	name := jobName(t)
	r := hodei(t, "run", "--name", name, "--user", "0", "--", "id", "-u")
	checkFailure(t, r, `violates PodSecurity "restricted:`)
	if !strings.Contains(r.stderr, "hint: run it again as another user than root, --user 65532") {
		t.Errorf("no hint in:\n%s", r.stderr)
	}
	nothingLeft(t, name)
}

// newNamespace makes a namespace of the test's own, with a service account that jobs
// can use.
func newNamespace(t *testing.T) string {
	t.Helper()
	name := "e2e-" + rand.String(8)
	labels := map[string]string{"e2e": name}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	until(t, "a service account in "+name, func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	return name
}

// until waits for something of the cluster's.
func until(t *testing.T, what string, done func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 30*time.Second, true, done); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// runIn runs a job in a namespace that hodei install has not prepared.
func runIn(t *testing.T, namespace string, args ...string) result {
	t.Helper()
	cmd := command(t.Context(), append([]string{"run", "-n", namespace}, args...)...)
	cmd.Env = append(cmd.Env, "HODEI_K8S_SERVICE_ACCOUNT=default")
	return run(t, cmd)
}

// leavesNoJobs checks that so many jobs, and nothing of others, are in a namespace.
func leavesNoJobs(t *testing.T, namespace string, but int) {
	t.Helper()
	until(t, "what is left in "+namespace, func(ctx context.Context) (bool, error) {
		jobs, err := client.BatchV1().Jobs(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		secrets, err := client.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(jobs.Items) == but && len(secrets.Items) == but, err
	})
}

// probePod asks the API server whether it would take a Pod; nil: it would.
func probePod(ctx context.Context, namespace string) error {
	uid := int64(1)
	_, err := client.CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: busybox,
			SecurityContext: &corev1.SecurityContext{RunAsUser: &uid}}}}},
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// refuseBy has a policy refuse Pods of a namespace, and waits until it does.
func refuseBy(t *testing.T, namespace string, rule admissionregistrationv1.Validation) {
	t.Helper()
	c := client.AdmissionregistrationV1()
	meta := metav1.ObjectMeta{Name: namespace}
	fail := admissionregistrationv1.Fail
	newPods := admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"},
		},
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: meta,
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"e2e": namespace}},
				ResourceRules:     []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: newPods}},
			},
			Validations: []admissionregistrationv1.Validation{rule},
		}}
	if _, err := c.ValidatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: meta,
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: namespace, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		}}
	t.Cleanup(func() {
		_ = c.ValidatingAdmissionPolicyBindings().Delete(context.Background(), namespace, metav1.DeleteOptions{})
		if err := c.ValidatingAdmissionPolicies().Delete(context.Background(), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := c.ValidatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "a policy that refuses", func(ctx context.Context) (bool, error) {
		err := probePod(ctx, namespace)
		return err != nil && strings.Contains(err.Error(), "denied request"), nil
	})
}

// assignUsers gives every container of a namespace's Pods that names no user the
// first of the namespace's, as OpenShift's admission does.
func assignUsers(t *testing.T, namespace string) {
	t.Helper()
	admit(t, namespace, "", "pods", func(r *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		var pod corev1.Pod
		if err := json.Unmarshal(r.Object.Raw, &pod); err != nil {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
		}
		var patch []map[string]any
		for i, c := range pod.Spec.Containers {
			if c.SecurityContext != nil && c.SecurityContext.RunAsUser == nil {
				patch = append(patch, map[string]any{"op": "add", "path": fmt.Sprintf("/spec/containers/%d/securityContext/runAsUser", i),
					"value": firstUID})
			}
		}
		text, err := json.Marshal(patch)
		if err != nil {
			return &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: err.Error()}}
		}
		kind := admissionv1.PatchTypeJSONPatch
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: text, PatchType: &kind}
	})
}

// admit has what is made in a namespace decided on by a webhook in this process. The
// API server has to reach it on this machine, so it is the test cluster's.
func admit(t *testing.T, namespace, group, resource string, decide func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse) {
	t.Helper()
	ownCluster(t)
	asked := make(chan struct{}, 1000)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		review.Response = decide(review.Request)
		review.Response.UID = review.Request.UID
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(server.Close)
	at, err := url.JoinPath(server.URL, "/")
	if err != nil {
		t.Fatal(err)
	}
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	webhook := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "e2e.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &at,
				CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"e2e": namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"},
					Resources: []string{resource}},
			}},
		}}}
	c := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if _, err := c.Create(t.Context(), webhook, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	until(t, "a webhook that is asked", func(ctx context.Context) (bool, error) {
		if resource == "pods" {
			_ = probePod(ctx, namespace) // what it says does not matter
		} else {
			_, _ = client.BatchV1().Jobs(namespace).Create(ctx, &batchv1.Job{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-"}},
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		}
		return len(asked) > 0, nil
	})
}
