package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hodei-jobs/hodei/certs"
)

// What is waited for ends, and says what it is.

// TestAddedContainer: a webhook puts a container of its own into each Pod, which does not
// end. The end of a job is the end of its own two.
func TestAddedContainer(t *testing.T) {
	t.Parallel()
	needsImages(t)
	namespace := newNamespace(t)
	addContainer(t, namespace, "trap 'exit 0' TERM; sleep 3600 & wait")
	user := userIn(t, namespace, withoutTunnel(t))
	const keeps = "the cluster added container proxy to the job's Pod: job "

	name := "kept"
	r := runIn(t, namespace, "--name", name, "--", "sh", "-c", "echo hi; exit 7")
	if r.code != 7 || r.stdout != "hi\n" ||
		!strings.Contains(r.stderr, keeps+name+" completes once that has ended; to end it: hodei delete -n "+namespace+
			" "+name+"\n") {
		t.Errorf("run: %+v", r)
	}
	if r := runIn(t, namespace, "--as", user, "--", "sh", "-c", "echo hi; sleep 1; exit 7"); r.code != 7 || r.stdout != "hi\n" ||
		!strings.Contains(r.stderr, keeps) {
		t.Errorf("run, without the tunnel: %+v", r)
	}
	// From another machine.
	for _, test := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"attach", name}, 7, keeps},
		{[]string{"logs", "-f", name}, 1, "the output of job kept is gone"}, // there is no container's log of it
		{[]string{"jobs", name}, 0, "HeldBy:proxy"},
		{[]string{"describe", name}, 0, "Still runs:"},
	} {
		r := run(t, elsewhere(t.TempDir(), command(t.Context(), append(test.args, "-n", namespace)...)))
		if !strings.Contains(r.stdout+r.stderr, test.out) || r.code != test.code {
			t.Errorf("%v: %+v, want %q and exit code %d", test.args, r, test.out, test.code)
		}
	}
}

// TestAddedContainerFails: a command that has succeeded does not run again because a
// container failed that the cluster added.
func TestAddedContainerFails(t *testing.T) {
	t.Parallel()
	needsImages(t)
	namespace := newNamespace(t)
	addContainer(t, namespace, "exit 1")
	for _, retries := range []string{"0", "2"} {
		name := "once-" + retries
		if r := runIn(t, namespace, "--name", name, "--retries", retries, "--", "true"); r.code != 0 {
			t.Errorf("run: %+v", r)
		}
		until(t, "the end of job "+name, func(ctx context.Context) (bool, error) {
			j, err := client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
			return err == nil && j.Status.Active == 0 &&
				slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobFailed }), err
		})
		pods, err := client.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{LabelSelector: "hodei.io/job=" + name})
		if err != nil || len(pods.Items) != 1 {
			t.Errorf("job %s: %d Pods, %v", name, len(pods.Items), err)
		}
	}
}

// addContainer has a webhook add a container to the Pods of a namespace, with a script.
func addContainer(t *testing.T, namespace, script string) {
	t.Helper()
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/spec/containers/-", "value": corev1.Container{
		Name: "proxy", Image: busybox, Command: []string{"sh", "-c", script},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	admit(t, namespace, "", "pods", func(*admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
		return &admissionv1.AdmissionResponse{Allowed: true, Patch: patch, PatchType: &kind}
	})
}

// TestAdmissionNamed: what admission does not let through is told at once, with the name
// of the rule.
func TestAdmissionNamed(t *testing.T) {
	t.Parallel()
	t.Run("limit range", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t)
		limits := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "small"},
			Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{
				{Type: corev1.LimitTypeContainer, Default: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("16Mi")}},
			}}}
		if _, err := client.CoreV1().LimitRanges(namespace).Create(t.Context(), limits, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		r := runIn(t, namespace, "--", "true")
		checkFailure(t, r, "must be less than or equal to memory limit of 16Mi; that limit is a LimitRange's default")
		if !strings.Contains(r.stderr, "hint: kubectl describe limitrange -n "+namespace+"\n") || strings.Contains(r.stderr, "waited") {
			t.Error(r.stderr)
		}
	})
	t.Run("quota that has never room", func(t *testing.T) {
		t.Parallel()
		namespace := newNamespace(t)
		quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "small"}, Spec: corev1.ResourceQuotaSpec{
			Hard: corev1.ResourceList{corev1.ResourceRequestsEphemeralStorage: resource.MustParse("1Gi"),
				corev1.ResourcePods: resource.MustParse("0")},
		}}
		if _, err := client.CoreV1().ResourceQuotas(namespace).Create(t.Context(), quota, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		until(t, "a quota that is known", func(ctx context.Context) (bool, error) {
			err := probePod(ctx, namespace)
			return err != nil && strings.Contains(err.Error(), "exceeded quota"), nil
		})
		checkFailure(t, runIn(t, namespace, "--", "true"), "the quota has room for no such job: pods 1 of 0")
	})
	t.Run("a webhook that does not answer", func(t *testing.T) {
		t.Parallel()
		ownCluster(t) // it is of the whole cluster
		namespace := newNamespace(t)
		nowhere(t, namespace)
		r := runIn(t, namespace, "--start-timeout=5s", "--", "true")
		checkFailure(t, r, `admission webhook "gone.example.com" of validatingwebhookconfiguration/`+namespace+" does not answer: ")
		if !strings.Contains(r.stderr, "hint: an administrator has to mend or remove it: kubectl describe validatingwebhookconfiguration/"+
			namespace+"\n") {
			t.Error(r.stderr)
		}
		leavesNoJobs(t, namespace, 0)
	})
}

// TestFrozenKubelet: a node that takes no Pod up is named.
func TestFrozenKubelet(t *testing.T) {
	ownCluster(t)
	t.Cleanup(func() { cluster(t, "start", "kubelet") })
	cluster(t, "stop", "kubelet")
	name := jobName(t)
	r := hodei(t, "run", "--name", name, "--start-timeout=8s", "--", "true")
	checkFailure(t, r, "has not taken the job's Pod up: its kubelet does not run, or can't reach the cluster (waited 8s)")
	if !strings.Contains(r.stderr, "hint: kubectl describe node ") {
		t.Error(r.stderr)
	}
	nothingLeft(t, name)
}

// TestRevokedLogin: the login of who follows a job ends. Each is told, and ends; the job
// goes on to its own end.
func TestRevokedLogin(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	login := newLogin(t, p)
	name := jobName(t)
	as := func(args ...string) *exec.Cmd {
		cmd := elsewhere(t.TempDir(), command(t.Context(), append(args, "-n", workers)...))
		cmd.Env = append(cmd.Env, "KUBECONFIG="+login.kubeconfig)
		return cmd
	}
	ran := startCommand(t, nil, as("run", "--context", "login", "--name", name, "--linger=2m", "--", "sh", "-c",
		"trap 'exit 7' TERM; echo begun; sleep 600 & wait"))
	ran.await(t, "running: ")
	followers := map[string]*started{"run": ran}
	for _, args := range [][]string{{"attach", name}, {"logs", "-f", name}, {"top", name}, {"jobs", "-w", name}} {
		out := newOutput()
		f := startCommand(t, out, as(append(args, "--context", "login")...))
		out.await(t, 1)
		followers[args[0]] = f
	}
	login.revoke(t)
	p.cut()

	const told = "credentials are no longer accepted: "
	for command, want := range map[string]struct {
		code int
		hint string
	}{
		"run":    {125, "hint: log in anew, or get the right back, then: hodei attach --context login " + name + "\n"},
		"attach": {125, "hint: log in anew, or get the right back, then: hodei attach --context login " + name + "\n"},
		"logs":   {1, "hint: log in anew, or get the right back, then: hodei logs --context login -f " + name + "\n"},
		"top":    {1, "hint: log in anew, then: kubectl auth whoami\n"},
		"jobs":   {1, "hint: log in anew, then: kubectl auth whoami\n"},
	} {
		r := followers[command].end(t)
		if r.code != want.code || !strings.Contains(r.stderr, "error: "+told) || !strings.HasSuffix(r.stderr, want.hint) {
			t.Errorf("%s: exit code %d, want %d, stderr:\n%swant: %s%s", command, r.code, want.code, r.stderr, told, want.hint)
		}
		if goesOn := want.code == 125 || command == "logs"; goesOn != strings.Contains(r.stderr, "; job "+name+" goes on\n") {
			t.Errorf("%s: stderr:\n%s", command, r.stderr)
		}
	}
	pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
}

// login is a service account that uses hodei through a proxy.
type login struct{ name, kubeconfig string }

func newLogin(t *testing.T, p *proxy) *login {
	t.Helper()
	all, err := client.RbacV1().ClusterRoles().Get(t.Context(), "hodei-user", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	l := &login{name: "e2e-" + rand.String(8), kubeconfig: filepath.Join(t.TempDir(), "config")}
	accounts := client.CoreV1().ServiceAccounts(workers)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: l.name}}
	if _, err := accounts.Create(t.Context(), account, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accounts.Delete(context.Background(), l.name, metav1.DeleteOptions{}) })
	grant(t, workers, all.Rules, "system:serviceaccount:"+workers+":"+l.name,
		rbacv1.Subject{Kind: "ServiceAccount", Name: l.name, Namespace: workers})
	token, err := accounts.CreateToken(t.Context(), l.name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ca := config.CAData
	if ca == nil {
		if ca, err = os.ReadFile(config.CAFile); err != nil {
			t.Fatal(err)
		}
	}
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"login": {Server: "https://" + p.listener.Addr().String(), TLSServerName: p.name,
			CertificateAuthorityData: ca}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"login": {Token: token.Status.Token}},
		Contexts:  map[string]*clientcmdapi.Context{"login": {Cluster: "login", AuthInfo: "login"}}, CurrentContext: "login",
	}, l.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// revoke ends the login, and waits until the API server, which keeps what it has found out
// for a moment, no longer accepts it.
func (l *login) revoke(t *testing.T) {
	t.Helper()
	if err := client.CoreV1().ServiceAccounts(workers).Delete(t.Context(), l.name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	theirs, err := clientcmd.BuildConfigFromFlags("", l.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(theirs)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a login that is refused", func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().Pods(workers).List(ctx, metav1.ListOptions{Limit: 1})
		return apierrors.IsUnauthorized(err), nil
	})
}

// TestRefusedCertificates: who looks at a job whose agent and we refuse each other is told
// at once, and not that the agent was not reached in time.
func TestRefusedCertificates(t *testing.T) {
	t.Parallel()
	name := jobName(t)
	runDetached(t, "--name", name, "--", "sh", "-c", "echo begun; sleep 600")
	pod(t, name, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
	authority, err := certs.NewAuthority(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := json.Marshal(map[string]any{"data": map[string][]byte{"ca.crt": authority.CAPEM()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Secrets(workers).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"logs", name}, {"describe", name}, {"report", "-o", "json", name}, {"advise", name}} {
		r := run(t, elsewhere(t.TempDir(), command(t.Context(), args...)))
		if !strings.Contains(r.stdout+r.stderr, "certificates are refused between the agent of "+name+" and us") ||
			strings.Contains(r.stderr, "waiting") {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// nowhere has the Pods of a namespace decided on by a webhook that nobody answers for.
func nowhere(t *testing.T, namespace string) {
	t.Helper()
	at, fail, none := "https://127.0.0.1:1/", admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	webhook := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "gone.example.com", AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &fail,
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &at},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"e2e": namespace}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}}}
	c := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := c.Create(t.Context(), webhook, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	until(t, "a webhook that is asked", func(ctx context.Context) (bool, error) {
		err := probePod(ctx, namespace)
		return err != nil && strings.Contains(err.Error(), "failed calling webhook"), nil
	})
}
