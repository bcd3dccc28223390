package explain

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// refusal of an API server: the sentence is the server's own.
func status(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func denied(message string) error { return status(403, metav1.StatusReasonForbidden, message) }

func TestExplainNothing(t *testing.T) {
	if f := Error(nil); f != nil {
		t.Errorf("got %v", f)
	}
}

func TestExplainKeepsFailures(t *testing.T) {
	f := &job.Failure{Cause: job.Evicted, Message: "gone"}
	if got := Error(fmt.Errorf("wrapped: %w", f)); got != f {
		t.Errorf("got %v", got)
	}
}

// The messages are those of Kubernetes 1.35, as its API server sent them.
func TestExplainAnswers(t *testing.T) {
	const grants = "an administrator can grant it: kubectl create "
	terminating := status(403, metav1.StatusReasonForbidden,
		`jobs.batch "x" is forbidden: unable to create new content in namespace ns because it is being terminated`).(*apierrors.StatusError)
	terminating.ErrStatus.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}}
	for _, test := range []struct {
		name          string
		err           error
		cause         job.Cause
		message, hint string
	}{
		{"user", denied(`pods is forbidden: User "dev" cannot list resource "pods" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not list pods in namespace "ns"`,
			grants +
				"rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is bound already: {hodei} install " +
				"--workers-namespace=ns"},
		{"wrapped",
			fmt.Errorf("delete job x: %w",
				denied(`jobs.batch "x" is forbidden: User "dev" cannot delete resource "jobs" in API group "batch" in the namespace "ns"`)),
			job.Forbidden, `forbidden: user "dev" may not delete jobs.batch in namespace "ns"`,
			grants +
				"rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is bound already: {hodei} install " +
				"--workers-namespace=ns"},
		{"address",
			denied(`secrets is forbidden: User "jane.doe@Example.com" cannot create resource "secrets" in API group "" in the namespace ` +
				`"ns"`),
			job.Forbidden, `forbidden: user "jane.doe@Example.com" may not create secrets in namespace "ns"`,
			grants +
				"rolebinding hodei-jane-doe-example-com --clusterrole=hodei-user --user=jane.doe@Example.com -n ns; if that is bound " +
				"already: {hodei} install --workers-namespace=ns"},
		{"service account",
			denied(`pods is forbidden: User "system:serviceaccount:ci:runner" cannot list resource "pods" in API group "" in the ` +
				`namespace "ns"`),
			job.Forbidden, `forbidden: user "system:serviceaccount:ci:runner" may not list pods in namespace "ns"`,
			grants +
				"rolebinding hodei-system-serviceaccount-ci-runner --clusterrole=hodei-user --serviceaccount=ci:runner -n ns; if that is " +
				"bound already: {hodei} install --workers-namespace=ns"},
		{"a name that a shell would take apart",
			denied(`secrets is forbidden: User "CORP\\jane \"q\" d'oe; rm -rf $HOME" cannot get resource "secrets" in API group "" in ` +
				`the namespace "ns"`),
			job.Forbidden, `forbidden: user "CORP\\jane \"q\" d'oe; rm -rf $HOME" may not get secrets in namespace "ns"`,
			grants +
				`rolebinding hodei-corp-jane-q-d-oe-rm-rf-home --clusterrole=hodei-user --user='CORP\jane "q" d'\''oe; rm -rf $HOME' -n ` +
				`ns; if that is bound already: {hodei} install --workers-namespace=ns`},
		{"a name of other letters",
			denied(`pods is forbidden: User "Ωμέγα" cannot list resource "pods" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "Ωμέγα" may not list pods in namespace "ns"`,
			grants +
				"rolebinding hodei --clusterrole=hodei-user --user='Ωμέγα' -n ns; if that is bound already: {hodei} install " +
				"--workers-namespace=ns"},
		{"cluster scope", denied(`nodes is forbidden: User "dev" cannot list resource "nodes" in API group "" at the cluster scope`),
			job.Forbidden, `forbidden: user "dev" may not list nodes at cluster scope`,
			"ask an administrator; whether it is granted: kubectl auth can-i list nodes --all-namespaces"},
		{"subresource",
			denied(`pods "x" is forbidden: User "dev" cannot create resource "pods/portforward" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not create pods/portforward in namespace "ns"`,
			grants +
				"rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is bound already: {hodei} install " +
				"--workers-namespace=ns"},
		{"a job's Secret",
			denied(`secrets "x" is forbidden: User "dev" cannot get resource "secrets" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not get secrets in namespace "ns"`,
			"an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is " +
				"bound already: {hodei} install --workers-namespace=ns"},
		{"a container's log",
			denied(`pods "x-1" is forbidden: User "dev" cannot get resource "pods/log" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not get pods/log in namespace "ns"`,
			"an administrator can grant it: kubectl create rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is " +
				"bound already: {hodei} install --workers-namespace=ns"},
		{"group", denied(`jobs.batch is forbidden: User "dev" cannot create resource "jobs" in API group "batch" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not create jobs.batch in namespace "ns"`,
			grants +
				"rolebinding hodei-dev --clusterrole=hodei-user --user=dev -n ns; if that is bound already: {hodei} install " +
				"--workers-namespace=ns"},
		{"impersonation",
			denied(`users "root" is forbidden: User "dev" cannot impersonate resource "users" in API group "" at the cluster scope`),
			job.Forbidden, `forbidden: user "dev" may not impersonate users at cluster scope`,
			"ask an administrator; whether it is granted: kubectl auth can-i impersonate users --all-namespaces"},
		{"nobody", denied(`pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "system:anonymous" may not list pods in namespace "ns"`,
			"this context has no credentials: log in, then: kubectl auth whoami"},
		{"path", denied(`forbidden: User "dev" cannot get path "/metrics"`),
			job.Forbidden, `forbidden: User "dev" cannot get path "/metrics"`, ""},
		{"a new quota of jobs", denied(`jobs.batch "x" is forbidden: status unknown for quota: few, resources: count/jobs.batch`),
			job.QuotaExceeded, `jobs.batch "x" is forbidden: status unknown for quota: few, resources: count/jobs.batch`,
			"try again; if it stays so: kubectl describe quota --all-namespaces"},
		{"quota of jobs",
			denied(`jobs.batch "x" is forbidden: exceeded quota: mem, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: ` +
				`count/jobs.batch=1`),
			job.QuotaExceeded,
			`jobs.batch "x" is forbidden: exceeded quota: mem, requested: count/jobs.batch=1, used: count/jobs.batch=1, limited: ` +
				`count/jobs.batch=1`,
			"kubectl describe quota --all-namespaces"},
		{"namespace on its way out", terminating, job.ConfigError,
			`jobs.batch "x" is forbidden: unable to create new content in namespace ns because it is being terminated`,
			"wait until it is gone, then: {hodei} install --workers-namespace=ns; or name another namespace with -n"},
		{"unauthorized", status(401, metav1.StatusReasonUnauthorized, "Unauthorized"),
			job.Forbidden, "the cluster does not accept the credentials of this context: Unauthorized",
			"log in anew, then: kubectl auth whoami"},
		{"no namespace", status(404, metav1.StatusReasonNotFound, `namespaces "nonexistent" not found`),
			job.ConfigError, `namespaces "nonexistent" not found`,
			"{hodei} install --workers-namespace=nonexistent, or name another namespace with -n"},
		{"no default namespace", status(404, metav1.StatusReasonNotFound, `namespaces "hodei-jobs-workers" not found`),
			job.ConfigError, `namespaces "hodei-jobs-workers" not found`, "{hodei} install, or name another namespace with -n"},
		{"no job", status(404, metav1.StatusReasonNotFound, `jobs.batch "x" not found`), job.Unknown, `jobs.batch "x" not found`, ""},
		{"taken", status(409, metav1.StatusReasonAlreadyExists, `secrets "x" already exists`),
			job.ConfigError, `secrets "x" already exists`, "choose another --name, or see what is there: {hodei} jobs"},
		{"taken by a job", apierrors.NewAlreadyExists(schema.GroupResource{Group: "batch", Resource: "jobs"}, "x"),
			job.ConfigError, `jobs.batch "x" already exists`,
			"delete that job first with --replace, or choose another --name; to see it: {hodei} describe x"},
		{"invalid", status(422, metav1.StatusReasonInvalid, `Job.batch "x" is invalid: spec.backoffLimit: Invalid value: -1`),
			job.Unknown, `Job.batch "x" is invalid: spec.backoffLimit: Invalid value: -1`, ""},
		{"in trouble", status(500, metav1.StatusReasonInternalError, "etcdserver: request timed out"),
			job.Unknown, "etcdserver: request timed out", "try again; if it stays so: kubectl get --raw '/readyz?verbose'"},
		{"a gateway", apierrors.NewGenericServerResponse(503, "post", corev1.Resource("jobs"), "x", "<html>\n<b>no", 0, true),
			job.Unknown, "the server is currently unable to handle the request (post jobs x)",
			"try again; if it stays so: kubectl get --raw '/readyz?verbose'"},
		{"too busy", status(429, metav1.StatusReasonTooManyRequests, "too many requests"),
			job.Unknown, "too many requests", "try again; if it stays so: kubectl get --raw '/readyz?verbose'"},
		{"a webhook of several lines",
			status(400, metav1.StatusReasonBadRequest,
				"admission webhook \"v.example\" denied the request:\n\x1b[31mno\u0085 \u202erun\x00 here\r\n"),
			job.Forbidden, `admission webhook "v.example" denied the request: [31mno run here`, RuleHint},
		{"a webhook that is away",
			status(500, metav1.StatusReasonInternalError,
				`Internal error occurred: failed calling webhook "v.example": failed to call webhook: Post `+
					`"https://w.ns.svc:443/?timeout=10s": context deadline exceeded`),
			job.ConfigError,
			`admission webhook "v.example" does not answer: Post "https://w.ns.svc:443/?timeout=10s": context deadline exceeded`,
			"an administrator has to mend or remove it: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"},
		{"a policy",
			status(422, metav1.StatusReasonInvalid,
				`jobs.batch "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no jobs on Sundays`),
			job.Forbidden, `jobs.batch "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no jobs on Sundays`,
			RuleHint},
		{"a right that hodei-user does not grant",
			denied(`configmaps is forbidden: User "dev" cannot list resource "configmaps" in API group "" in the namespace "ns"`),
			job.Forbidden, `forbidden: user "dev" may not list configmaps in namespace "ns"`,
			"an administrator can grant it: kubectl create role hodei-dev-list-configmaps --verb=list --resource=configmaps -n ns && " +
				"kubectl create rolebinding hodei-dev-list-configmaps --role=hodei-dev-list-configmaps --user=dev -n ns"},
		{"the authority's namespace",
			denied(`secrets "hodei-ca-key" is forbidden: User "dev" cannot get resource "secrets" in API group "" in the namespace ` +
				`"hodei-system"`),
			job.Forbidden, `forbidden: user "dev" may not get secrets in namespace "hodei-system"`,
			"an administrator has to do this, with the same command; whether you may: kubectl auth can-i get secrets -n hodei-system"},
		{"cancelled", context.Canceled, job.Unknown, "context canceled", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := Error(test.err)
			if f.Cause != test.cause || f.Message != test.message || f.Hint != test.hint {
				t.Errorf("got  %s: %s\n     %s\nwant %s: %s\n     %s", f.Cause, f.Message, f.Hint, test.cause, test.message, test.hint)
			}
			if f.Err == nil || !errors.Is(f, f.Err) {
				t.Errorf("what was underneath is lost: %v", f.Err)
			}
		})
	}
}

// TestUserRights compares what the hints say of hodei-user with the role itself.
func TestUserRights(t *testing.T) {
	rights, err := deploy.Rights(deploy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]string{}
	for _, r := range rights {
		if r.Role != deploy.UserRole {
			continue
		}
		resource := r.Resource
		if r.Group != "" {
			resource += "." + r.Group
		}
		granted[resource] = strings.TrimSpace(granted[resource] + " " + strings.Join(r.Verbs, " "))
	}
	if !reflect.DeepEqual(granted, userRights) {
		t.Errorf("hodei-user grants %v\nthe hints say %v", granted, userRights)
	}
}

// TestUnreadable: what is granted is one Secret, if the right to it is what is missing.
func TestUnreadable(t *testing.T) {
	const message = `secrets "x-exec" is forbidden: User %s cannot get resource "secrets" in API group "" in the namespace "ns"`
	const role = "an administrator can grant it: " +
		"kubectl create role x-exec --verb=get --resource=secrets --resource-name=x-exec -n ns && kubectl create rolebinding "
	for _, test := range []struct {
		name string
		err  error
		hint string
	}{
		{"user", denied(fmt.Sprintf(message, `"dev"`)), role + "x-exec-dev --role=x-exec --user=dev -n ns"},
		{"explained before", Error(denied(fmt.Sprintf(message, `"dev"`))), role + "x-exec-dev --role=x-exec --user=dev -n ns"},
		{"user with a space", denied(fmt.Sprintf(message, `"a \"b\""`)), role + `x-exec-a-b --role=x-exec --user='a "b"' -n ns`},
		{"service account", denied(fmt.Sprintf(message, `"system:serviceaccount:ci:runner"`)),
			role + "x-exec-system-serviceaccount-ci-runner --role=x-exec --serviceaccount=ci:runner -n ns"},
		{"nobody", denied(fmt.Sprintf(message, `"system:anonymous"`)),
			"this context has no credentials: log in, then: kubectl auth whoami"},
		{"an authorizer's own words", denied("no"), ""},
		{"not found", status(404, metav1.StatusReasonNotFound, `secrets "x-exec" not found`), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := Error(test.err)
			kept := *before
			got := unreadable(test.err, "ns", "x-exec")
			if got.Hint != test.hint || got.Message != before.Message || got.Cause != before.Cause {
				t.Errorf("got %s: %s\nhint %s\nwant %s", got.Cause, got.Message, got.Hint, test.hint)
			}
			if *before != kept {
				t.Errorf("the error itself was changed: %+v", before)
			}
		})
	}
}

// What is wrong with a kubeconfig, in client-go's own words.
func TestExplainKubeconfig(t *testing.T) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := func(path, contextName string) error {
		_, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
			&clientcmd.ClientConfigLoadingRules{ExplicitPath: path},
			&clientcmd.ConfigOverrides{CurrentContext: contextName}).ClientConfig()
		return err
	}
	usable := write("usable",
		"apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\ncontexts: "+
			"[{name: a, context: {cluster: c, user: u}}]\n")
	none, err := clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err == nil {
		t.Fatalf("got a configuration of nothing: %v", none)
	}
	for _, test := range []struct {
		name          string
		err           error
		message, hint string
	}{
		{"none at all", err, "no kubeconfig: there is no file at ~/.kube/config, and KUBECONFIG names none",
			"export KUBECONFIG=FILE; without a cluster there is {hodei} run --provider local -- COMMAND"},
		{"unknown context", load(usable, "nope"), `context "nope" does not exist`, "kubectl config get-contexts"},
		{"in kubectl's words", errors.New("context was not found for specified context: nope"),
			"context was not found for specified context: nope", "kubectl config get-contexts"},
		{"no such file", load("/nope", ""), "stat /nope: no such file or directory", "kubectl config get-contexts"},
		{"not YAML", load(write("bad", "a: ["), ""), "yaml: line 1: did not find expected node content", "kubectl config get-contexts"},
		{"a user's file that is missing",
			load(write("files",
				"apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"+
					"contexts: [{name: a, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {client-certificate: /nope.crt, "+
					"client-key: /nope.key}}]\n"), ""),
			"unable to read client-cert /nope.crt", "kubectl config get-contexts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.err == nil {
				t.Fatal("no error")
			}
			f := Error(test.err)
			if f.Cause != job.ConfigError || !strings.Contains(f.Message, test.message) || f.Hint != test.hint ||
				strings.Contains(f.Message, "\n") {
				t.Errorf("got  %s: %s\n     %s\nwant %s: …%s…\n     %s", f.Cause, f.Message, f.Hint, job.ConfigError, test.message,
					test.hint)
			}
		})
	}
}

// The way to the API server: errors as client-go makes them.
func TestExplainNetwork(t *testing.T) {
	post := func(config *rest.Config) error {
		c, err := client.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.CoreV1().Pods("ns").Create(t.Context(), &corev1.Pod{}, metav1.CreateOptions{}) // client-go repeats a GET for 10 s
		return err
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	defer untrusted.Close()
	release := make(chan struct{})
	hangs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hangs.Close()
	defer close(release)
	drops := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		conn.Close()
	}))
	defer drops.Close()

	for _, test := range []struct {
		name    string
		err     error
		message string
	}{
		{"refused", post(&rest.Config{Host: closedPort(t)}), "connect: connection refused"},
		{"no such host", &url.Error{Op: "Get", URL: "https://nope.invalid/api", Err: &net.OpError{Op: "dial", Net: "tcp",
			Err: &net.DNSError{Err: "no such host", Name: "nope.invalid", IsNotFound: true}}}, "lookup nope.invalid: no such host"},
		{"unknown authority", post(&rest.Config{Host: untrusted.URL}), "certificate signed by unknown authority"},
		{"another name", post(&rest.Config{Host: untrusted.URL, TLSClientConfig: rest.TLSClientConfig{
			ServerName: "other.test", CAData: pemOf(untrusted)}}), "certificate is valid for example.com"},
		{"no TLS", post(&rest.Config{Host: strings.Replace(plain.URL, "http:", "https:", 1)}), "server gave HTTP response to HTTPS client"},
		{"timeout", post(&rest.Config{Host: hangs.URL, Timeout: 50 * time.Millisecond}), "/api/v1/namespaces/ns/pods"},
		// and one of several wordings
		{"dropped", post(&rest.Config{Host: drops.URL}), "EOF"},
		{"our own deadline", fmt.Errorf("client rate limiter: %w", context.DeadlineExceeded), "context deadline exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := Error(test.err)
			if f.Cause != job.ConfigError || !strings.HasPrefix(f.Message, "Kubernetes cluster not available: ") ||
				!strings.Contains(f.Message, test.message) {
				t.Errorf("got %s: %s, want …%s", f.Cause, f.Message, test.message)
			}
			if !strings.Contains(f.Hint, "kubectl cluster-info") {
				t.Errorf("hint %q", f.Hint)
			}
		})
	}
}

func container(name, image string, state corev1.ContainerState) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, Image: image, State: state}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func terminated(code int32, reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, Message: message}}
}

var running = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}

// runc begins what it says of a container that it could not start.
const runc = "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to " +
	"start container process: "

// keysAndSettings are the variables of run --env-from secret/keys,configmap/settings.
var keysAndSettings = []corev1.EnvFromSource{
	{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "keys"}}},
	{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
}

// The messages are those of kubelet 1.35 with containerd 1.7, but for the
// registries' that are quoted from their documentation.
func TestExplainPod(t *testing.T) {
	const pullHint = "check the tag, or add a pull secret: {hodei} provider set NAME --image-pull-secret SECRET"
	for _, test := range []struct {
		name       string
		provider   string
		policy     corev1.PullPolicy // of the agent's container
		containers []corev1.ContainerStatus
		conditions []corev1.PodCondition
		cause      job.Cause // empty: nothing is wrong
		message    string
		hint       string
		grace      time.Duration
	}{
		{name: "new"},
		{name: "scheduled", conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}}},
		{name: "creating", containers: []corev1.ContainerStatus{container("agent", "w", waiting("ContainerCreating", ""))}},
		{name: "running", containers: []corev1.ContainerStatus{container("agent", "w", running), container("job", "i", running)}},
		{name: "gated",
			conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "SchedulingGated",
				Message: "gates"}}},
		{name: "unschedulable",
			conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, preemption: " +
					"0/1 nodes are available: 1 Preemption is not helpful for scheduling."}},
			cause: job.Unschedulable,
			message: "no node takes the job: 0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to " +
				"deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
			hint: "ask for less with --cpu and --memory, or see: kubectl describe nodes", grace: forever},
		{name: "no such node", provider: "prod",
			conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."}},
			cause:   job.Unschedulable,
			message: "no node takes the job: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
			hint:    "see what the provider asks for: {hodei} provider get prod, and what there is: kubectl describe nodes",
			grace:   forever},
		{name: "no registry",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "127.0.0.1:5999/x:1", waiting("ErrImagePull",
					`failed to pull and unpack image "127.0.0.1:5999/x:1": failed to resolve reference "127.0.0.1:5999/x:1": failed to `+
						`do request: Head "http://127.0.0.1:5999/v2/x/manifests/1": `+
						`dial tcp 127.0.0.1:5999: connect: connection refused`))},
			cause: job.ImagePull,
			message: `image "127.0.0.1:5999/x:1" can't be pulled: Head "http://127.0.0.1:5999/v2/x/manifests/1": dial tcp ` +
				`127.0.0.1:5999: connect: connection refused`,
			hint: pullHint, grace: pullGrace},
		{name: "backing off",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "registry.example/nope:1", waiting("ImagePullBackOff",
					`Back-off pulling image "registry.example/nope:1": ErrImagePull: failed to pull and unpack image `+
						`"registry.example/nope:1": failed to resolve reference "registry.example/nope:1": failed to do request: Head `+
						`"https://registry.example/v2/nope/manifests/1": dial tcp: lookup registry.example on 10.255.255.53:53: read udp `+
						`10.88.0.11:48561->10.255.255.53:53: i/o timeout`))},
			cause: job.ImagePull,
			message: `image "registry.example/nope:1" can't be pulled: Head "https://registry.example/v2/nope/manifests/1": dial tcp: ` +
				`lookup registry.example on 10.255.255.53:53: read udp 10.88.0.11:48561->10.255.255.53:53: i/o timeout`,
			hint: pullHint, grace: pullGrace},
		{name: "not found",
			containers: []corev1.ContainerStatus{container("job", "nope:1", waiting("ErrImagePull",
				`rpc error: code = NotFound desc = failed to pull and unpack image "docker.io/library/nope:1": failed to resolve `+
					`reference "docker.io/library/nope:1": docker.io/library/nope:1: not found`))},
			cause: job.ImagePull, message: `image "nope:1" can't be pulled: docker.io/library/nope:1: not found`, hint: pullHint,
			grace: pullGrace},
		{name: "denied",
			containers: []corev1.ContainerStatus{container("job", "secret/app:1", waiting("ErrImagePull",
				`failed to pull and unpack image "docker.io/secret/app:1": failed to resolve reference "docker.io/secret/app:1": pull `+
					`access denied, repository does not exist or may require authorization: server message: insufficient_scope: `+
					`authorization failed`))},
			cause: job.ImagePull,
			message: `image "secret/app:1" can't be pulled: pull access denied, repository does not exist or may require authorization: ` +
				`server message: insufficient_scope: authorization failed`,
			hint: pullHint, grace: pullGrace},
		{name: "never pulled",
			containers: []corev1.ContainerStatus{container("job", "foo/never:1",
				waiting("ErrImageNeverPull", `Container image "foo/never:1" is not present with pull policy of Never`))},
			cause:   job.ImagePull,
			message: `image "foo/never:1" can't be pulled: Container image "foo/never:1" is not present with pull policy of Never`,
			hint:    pullHint},
		{name: "the worker's image",
			containers: []corev1.ContainerStatus{container("agent", "w:1", waiting("ImagePullBackOff", `Back-off pulling image "w:1"`)),
				container("job", "w:1", waiting("ImagePullBackOff", ""))},
			cause: job.ImagePull, message: `the worker's image "w:1" can't be pulled: Back-off pulling image "w:1"`,
			hint:  "build it: docker build -f Dockerfile.worker -t w:1 . && kind load docker-image w:1 (or: minikube image load w:1)",
			grace: pullGrace},
		{name: "the worker's image, pulled each time", policy: corev1.PullAlways,
			containers: []corev1.ContainerStatus{container("agent", "w:1", waiting("ImagePullBackOff", `Back-off pulling image "w:1"`))},
			cause:      job.ImagePull, message: `the worker's image "w:1" can't be pulled: Back-off pulling image "w:1"`,
			hint: "build it: docker build -f Dockerfile.worker -t w:1 . && kind load docker-image w:1 (or: minikube image load w:1); " +
				"then {hodei} provider set NAME --image-pull-policy IfNotPresent", grace: pullGrace},
		{name: "no image's name",
			containers: []corev1.ContainerStatus{container("job", "UPPER//x",
				waiting("InvalidImageName",
					`Failed to apply default image tag "UPPER//x": couldn't parse image name "UPPER//x": invalid reference format`))},
			cause: job.InvalidImage, message: `image "UPPER//x" is not a valid image name`,
			hint: "image names look like registry.example/name:tag"},
		{name: "no Secret",
			containers: []corev1.ContainerStatus{container("job", "i", waiting("CreateContainerConfigError", `secret "nope" not found`))},
			cause:      job.ConfigError, message: `secret "nope" not found`, hint: "kubectl get secrets,configmaps -n ns"},
		{name: "no ConfigMap",
			containers: []corev1.ContainerStatus{container("job", "i",
				waiting("CreateContainerConfigError", `configmap "nope" not found`))},
			cause: job.ConfigError, message: `configmap "nope" not found`, hint: "kubectl get secrets,configmaps -n ns"},
		{name: "a kubelet that is late",
			containers: []corev1.ContainerStatus{container("job", "i",
				waiting("CreateContainerConfigError", `failed to sync secret cache: timed out waiting for the condition`))},
			cause: job.ConfigError, message: `failed to sync secret cache: timed out waiting for the condition`,
			hint: "kubectl get secrets,configmaps -n ns", grace: pullGrace},
		{name: "root's image",
			containers: []corev1.ContainerStatus{container("job", "registry.local/pause:1",
				waiting("CreateContainerConfigError",
					`container has runAsNonRoot and image will run as root (pod: "x_ns(563ec8b5)", container: job)`))},
			cause: job.ConfigError,
			message: `image "registry.local/pause:1": container has runAsNonRoot and image will run as root (pod: "x_ns(563ec8b5)", ` +
				`container: job)`,
			hint: "run it again with a user id: --user 65532"},
		{name: "runtime's refusal",
			containers: []corev1.ContainerStatus{container("agent", "w", waiting("CreateContainerError", "context\ndeadline exceeded"))},
			cause:      job.AgentLost, message: "container agent could not be started: context deadline exceeded",
			hint: "kubectl describe pods -l hodei.io/job -n ns", grace: pullGrace},
		{name: "runtime's refusal, with a name of its own",
			containers: []corev1.ContainerStatus{container("agent", "w",
				waiting("CreateContainerError",
					`failed to reserve container name "agent_x_0": it is reserved for "`+strings.Repeat("0f", 32)+`"`))},
			cause:   job.AgentLost,
			message: `container agent could not be started: failed to reserve container name "agent_x_0": it is reserved for …`,
			hint:    "kubectl describe pods -l hodei.io/job -n ns", grace: pullGrace},
		{name: "no launcher yet explained",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "i",
					terminated(128, "StartError",
						runc+`exec: "/run/hodei/hodei-worker": stat /run/hodei/hodei-worker: no such file or directory: unknown`))},
			cause: job.AgentLost,
			message: `the job's container could not be started: exec: "/run/hodei/hodei-worker": stat /run/hodei/hodei-worker: no such ` +
				`file or directory`,
			hint: "check that the worker's image is the one of this version: {hodei} version", grace: agentGrace},
		{name: "no launcher",
			containers: []corev1.ContainerStatus{container("agent", "w", terminated(1, "Error", "copy: no space left\non device")),
				container("job", "i",
					terminated(128, "StartError",
						runc+`exec: "/run/hodei/hodei-worker": stat /run/hodei/hodei-worker: no such file or directory: unknown`))},
			cause: job.AgentLost, message: "the launcher was not put in place: copy: no space left on device",
			hint: "kubectl describe nodes, or another worker's image: {hodei} provider set NAME --image IMAGE"},
		{name: "a node without the uid",
			containers: []corev1.ContainerStatus{container("agent", "w",
				terminated(128, "StartError", runc+`unable to setup user: invalid argument: unknown`))},
			cause: job.ConfigError, message: `the node can't run container agent as its user: unable to setup user: invalid argument`,
			hint: "run it again as one that every node has: --user 65532; all jobs: {hodei} provider set NAME --user 65532"},
		{name: "a node without the uid, that goes on trying",
			containers: []corev1.ContainerStatus{container("job", "i",
				waiting("RunContainerError", "failed to create containerd task: cannot set uid to unmapped user in user namespace"))},
			cause: job.ConfigError,
			message: `the node can't run container job as its user: failed to create containerd task: cannot set uid to unmapped user in ` +
				`user namespace`,
			hint: "run it again as one that every node has: --user 65532; all jobs: {hodei} provider set NAME --user 65532"},
		{name: "a working directory that can't be",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "i",
					terminated(128, "StartError",
						runc+`error during container init: mkdir /usr/local/bin/hodei-worker: not a directory: unknown`))},
			cause: job.ConfigError, message: `the job's container could not be started: mkdir /usr/local/bin/hodei-worker: not a directory`,
			hint: "check the image's WORKDIR and --user, and see: kubectl get events -n ns"},
		{name: "a variable that gRPC can't carry",
			containers: []corev1.ContainerStatus{container("job", "i",
				waiting("CreateContainerError", "grpc: error while marshaling: string field contains invalid UTF-8"))},
			cause:   job.ConfigError,
			message: "--env-from secret/keys, configmap/settings has a value that is not UTF-8, which no variable can carry",
			hint:    "mount it as a file: docs/providers.md#volumes"},
		{name: "a variable that no process can have, and may be secret",
			containers: []corev1.ContainerStatus{container("job", "i",
				terminated(128, "StartError", runc+`environment variable value can't contain null(\x00): "KEY=hush\x00": unknown`))},
			cause:   job.ConfigError,
			message: "--env-from secret/keys, configmap/settings has a value with a NUL byte, which no variable can carry",
			hint:    "mount it as a file: docs/providers.md#volumes"},
		{name: "no memory to start in",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "i",
					terminated(128, "StartError", runc+`container init was OOM-killed (memory limit too low?): unknown`))},
			cause:   job.OOMKilled,
			message: `the job's container could not be started: container init was OOM-killed (memory limit too low?)`,
			hint:    "run it again with more memory: --memory SIZE"},
		{name: "no memory for the runtime itself",
			containers: []corev1.ContainerStatus{container("agent", "w", running),
				container("job", "i",
					terminated(128, "StartError",
						runc+
							`error during container init: error setting cgroup config for procHooks process: unable to set memory limit `+
							`to 1048576 (current usage: 2187264, peak usage: 2392064): unknown`))},
			cause: job.OOMKilled,
			message: `the job's container could not be started: error setting cgroup config for procHooks process: unable to set memory ` +
				`limit to 1048576 (current usage: 2187264, peak usage: 2392064)`,
			hint: "run it again with more memory: --memory SIZE"},
		{name: "an agent that ended",
			containers: []corev1.ContainerStatus{container("agent", "w", terminated(1, "Error", "no")),
				container("job", "i", waiting("PodInitializing", ""))}},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x-abcde", Namespace: "ns",
				Labels: map[string]string{manifest.LabelProvider: test.provider}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: manifest.AgentContainer, ImagePullPolicy: test.policy},
					{Name: manifest.JobContainer, EnvFrom: keysAndSettings}}},
				Status: corev1.PodStatus{ContainerStatuses: test.containers, Conditions: test.conditions}}
			v := Pod(pod)
			if test.cause == "" {
				if v.Failure != nil || v.Waiting != "" {
					t.Errorf("got %+v", v)
				}
				return
			}
			f := v.Failure
			if f == nil {
				t.Fatalf("got %+v", v)
			}
			if f.Cause != test.cause || f.Message != test.message || f.Hint != test.hint || v.Grace != test.grace {
				t.Errorf("got  %s: %s\n     %s (%s)\nwant %s: %s\n     %s (%s)", f.Cause, f.Message, f.Hint, v.Grace, test.cause,
					test.message, test.hint, test.grace)
			}
			if test.grace > 0 && v.Waiting == "" {
				t.Error("it waits, and doesn't say for what")
			}
		})
	}
}

func TestExplainEvent(t *testing.T) {
	const pods = `Error creating: pods "x-mnq4k" is forbidden: `
	for _, test := range []struct {
		name, reason, message string
		cause                 job.Cause // empty: it only waits
		waiting, said, hint   string
		grace                 time.Duration
	}{
		{name: "progress", reason: "Started", message: "Container started"},
		{name: "made", reason: "SuccessfulCreate", message: "Created pod: x-abcde"},
		{name: "service account", reason: "FailedCreate",
			message: pods + `error looking up service account ns/nope: serviceaccount "nope" not found`,
			cause:   job.ConfigError, said: `serviceaccount "nope" not found in namespace "ns"`,
			hint: "kubectl create serviceaccount nope -n ns, or name another: {hodei} provider set NAME --service-account ACCOUNT"},
		{name: "default service account", reason: "FailedCreate",
			message: pods + `error looking up service account ns/hodei-jobs-worker: serviceaccount "hodei-jobs-worker" not found`,
			cause:   job.ConfigError, said: `serviceaccount "hodei-jobs-worker" not found in namespace "ns"`,
			hint: "{hodei} install --workers-namespace=ns, or name another: {hodei} provider set NAME --service-account ACCOUNT"},
		{name: "priority class", reason: "FailedCreate", message: pods + `no PriorityClass with name nope was found`,
			cause: job.ConfigError, said: "the Pod is forbidden: no PriorityClass with name nope was found",
			hint: "name one that is there: {hodei} provider set NAME --priority-class CLASS; which are: kubectl get priorityclasses"},
		{name: "runtime class", reason: "FailedCreate", message: pods + `pod rejected: RuntimeClass "nope" not found`,
			cause: job.ConfigError, said: `the Pod is forbidden: pod rejected: RuntimeClass "nope" not found`,
			hint: "name one that is there: {hodei} provider set NAME --runtime-class CLASS; which are: kubectl get runtimeclasses"},
		{name: "a new quota", reason: "FailedCreate", message: pods + `status unknown for quota: mem, resources: limits.memory,pods`,
			waiting: "the Pod is forbidden: status unknown for quota: mem, resources: limits.memory,pods", cause: job.QuotaExceeded,
			said: "the Pod is forbidden: status unknown for quota: mem, resources: limits.memory,pods",
			hint: "kubectl describe quota -n ns", grace: quotaGrace},
		{name: "quota", reason: "FailedCreate",
			message: pods +
				`exceeded quota: mem, requested: limits.memory=2Gi,pods=1, used: limits.memory=1Gi,pods=1, limited: ` +
				`limits.memory=2Gi,pods=9`,
			cause: job.QuotaExceeded,
			said: `the Pod is forbidden: exceeded quota: mem, requested: limits.memory=2Gi,pods=1, used: limits.memory=1Gi,pods=1, ` +
				`limited: limits.memory=2Gi,pods=9`,
			waiting: "exceeded quota", hint: "kubectl describe quota -n ns", grace: forever},
		{name: "quota that has never room", reason: "FailedCreate",
			message: pods +
				`exceeded quota: mem, requested: limits.cpu=1,limits.memory=2Gi, used: limits.cpu=0,limits.memory=0, limited: ` +
				`limits.cpu=0,limits.memory=1Gi`,
			cause: job.QuotaExceeded,
			said: `the Pod is forbidden: exceeded quota: mem, requested: limits.cpu=1,limits.memory=2Gi, used: ` +
				`limits.cpu=0,limits.memory=0, limited: limits.cpu=0,limits.memory=1Gi` +
				`; the quota has room for no such job: limits.cpu 1 of 0, limits.memory 2Gi of 1Gi`,
			hint: "ask for less with --cpu and --memory; what there is: kubectl describe quota -n ns"},
		{name: "quota that wants limits", reason: "FailedCreate",
			message: pods + `failed quota: mem: must specify limits.memory for: agent`,
			cause:   job.QuotaExceeded, said: `the Pod is forbidden: failed quota: mem: must specify limits.memory for: agent`,
			hint: "say how much with --cpu and --memory, and give the agent a default with a LimitRange: kubectl describe " +
				"quota,limitrange -n ns"},
		{name: "limit range", reason: "FailedCreate", message: pods + `maximum cpu usage per Container is 1, but limit is 4`,
			cause: job.QuotaExceeded, said: `a LimitRange refuses the Pod: maximum cpu usage per Container is 1, but limit is 4`,
			hint: "kubectl describe limitrange -n ns"},
		{name: "pod security", reason: "FailedCreate",
			message: pods +
				`violates PodSecurity "restricted:latest": runAsNonRoot != true (pod or container "job" must set ` +
				`securityContext.runAsNonRoot=true)`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true (pod or container "job" must ` +
				`set securityContext.runAsNonRoot=true)`,
			hint: "run it again as another user than root, --user 65532, or in another namespace, -n"},
		{name: "eBPF, and root", reason: "FailedCreate",
			message: pods +
				`violates PodSecurity "restricted:latest": unrestricted capabilities (container "agent" must not include "BPF", ` +
				`"NET_ADMIN", "PERFMON" in securityContext.capabilities.add), runAsUser=0 (container "agent" must not set runAsUser=0)`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: violates PodSecurity "restricted:latest": unrestricted capabilities (container "agent" must ` +
				`not include "BPF", "NET_ADMIN", "PERFMON" in securityContext.capabilities.add), runAsUser=0 (container "agent" must not ` +
				`set runAsUser=0)`,
			hint: "let its jobs run without eBPF: {hodei} provider set NAME --ebpf off"},
		{name: "eBPF on OpenShift", reason: "FailedCreate",
			message: pods +
				`unable to validate against any security context constraint: [provider restricted-v2: .containers[0].runAsUser: Invalid ` +
				`value: 0: must be in the ranges: [1000650000, 1000659999], provider restricted-v2: .containers[0].capabilities.add: ` +
				`Invalid value: "BPF": capability may not be added]`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: unable to validate against any security context constraint: [provider restricted-v2: ` +
				`.containers[0].runAsUser: Invalid value: 0: must be in the ranges: [1000650000, 1000659999], provider restricted-v2: ` +
				`.containers[0].capabilities.add: Invalid value: "BPF": capability may not be added]`,
			hint: "let its jobs run without eBPF: {hodei} provider set NAME --ebpf off"},
		{name: "webhook", reason: "FailedCreate",
			message: "Error creating: admission webhook \"v.example\" denied the request: \n\nno \x1b]0;title\x07", cause: job.Forbidden,
			said: `admission webhook "v.example" denied the request: no ]0;title`, hint: RuleHint},
		{name: "policy", reason: "FailedCreate",
			message: pods + `ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no Pods on Sundays`, cause: job.Forbidden,
			said: `the Pod is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no Pods on Sundays`,
			hint: RuleHint},
		{name: "OpenShift", reason: "FailedCreate",
			message: pods +
				`unable to validate against any security context constraint: [provider "anyuid": Forbidden: not usable by user or ` +
				`serviceaccount, provider restricted-v2: .containers[0].runAsUser: Invalid value: 65532: must be in the ranges: ` +
				`[1000650000, 1000659999]]`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: unable to validate against any security context constraint: [provider "anyuid": Forbidden: not ` +
				`usable by user or serviceaccount, provider restricted-v2: .containers[0].runAsUser: Invalid value: 65532: must be in ` +
				`the ranges: [1000650000, 1000659999]]`,
			hint: "leave the user to the cluster: --user image; for all jobs: {hodei} provider set NAME --user image"},
		{name: "OpenShift, of something else", reason: "FailedCreate",
			message: pods +
				`unable to validate against any security context constraint: [provider restricted-v2: .spec.volumes[0]: Invalid value: ` +
				`"hostPath": hostPath volumes are not allowed to be used]`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: unable to validate against any security context constraint: [provider restricted-v2: ` +
				`.spec.volumes[0]: Invalid value: "hostPath": hostPath volumes are not allowed to be used]`,
			hint: RuleHint},
		{name: "OpenShift's words by a policy", reason: "FailedCreate",
			message: pods +
				`ValidatingAdmissionPolicy 'p' with binding 'b' denied request: .containers[0].runAsUser: Invalid value: 65532: must be ` +
				`in the ranges: [1, 2]`,
			cause: job.Forbidden,
			said: `the Pod is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: .containers[0].runAsUser: ` +
				`Invalid value: 65532: must be in the ranges: [1, 2]`,
			hint: "leave the user to the cluster: --user image; for all jobs: {hodei} provider set NAME --user image"},
		{name: "refused otherwise", reason: "FailedCreate", message: pods + `no`, cause: job.Forbidden, said: `the Pod is forbidden: no`,
			hint: "kubectl get events -n ns"},
		{name: "limit range's default", reason: "FailedCreate",
			message: `Error creating: Pod "x-mnq4k" is invalid: spec.containers[0].resources.requests: Invalid value: "32Mi": must be ` +
				`less than or equal to memory limit of 16Mi`,
			cause: job.QuotaExceeded,
			said: `the Pod is invalid: spec.containers[0].resources.requests: Invalid value: "32Mi": must be less than or equal to ` +
				`memory limit of 16Mi; that limit is a LimitRange's default`,
			hint: "kubectl describe limitrange -n ns"},
		{name: "invalid", reason: "FailedCreate",
			message: `Error creating: Pod "x-mnq4k" is invalid: spec.containers[2].image: Required value`,
			cause:   job.ConfigError, said: `the Pod is invalid: spec.containers[2].image: Required value`,
			hint: "{hodei} run --dry-run=client -o yaml -- CMD"},
		{name: "namespace that goes", reason: "FailedCreate",
			message: pods + `unable to create new content in namespace ns because it is being terminated`,
			cause:   job.ConfigError,
			said:    `the Pod is forbidden: unable to create new content in namespace ns because it is being terminated`,
			hint:    "run it in another namespace, -n; when this one is gone: {hodei} install --workers-namespace=ns"},
		{name: "webhook that is away", reason: "FailedCreate",
			message: `Error creating: Internal error occurred: failed calling webhook "v.example": failed to call webhook: Post ` +
				`"https://w.ns.svc:443/?timeout=10s": no endpoints available for service "w"`,
			cause: job.ConfigError,
			said: `admission webhook "v.example" does not answer: Post "https://w.ns.svc:443/?timeout=10s": no endpoints available ` +
				`for service "w"`,
			waiting: `admission webhook "v.example" does not answer`,
			hint:    "an administrator has to mend or remove it: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
			grace:   webhookGrace},
		{name: "something else", reason: "FailedCreate", message: `Error creating: etcdserver: request timed out`,
			waiting: "etcdserver: request timed out"},
		{name: "hook", reason: "FailedPostStartHook", message: "PostStartHook failed",
			waiting: "the launcher is not in place: PostStartHook failed"},
		{name: "disk", reason: "FailedMount", message: `MountVolume.SetUp failed for volume "hodei-certs" : secret "x" not found`,
			waiting: `MountVolume.SetUp failed for volume "hodei-certs" : secret "x" not found`},
		{name: "no user namespaces", reason: "FailedCreatePodSandBox",
			message: "Failed to create pod sandbox: can't set `spec.hostUsers: false`, runtime does not support user namespaces",
			cause:   job.ConfigError,
			said: "the node can't give the Pod a user namespace: can't set `spec.hostUsers: false`, runtime does not support user " +
				"namespaces",
			hint: "{hodei} provider set NAME --host-users"},
		{name: "another sandbox with every try", reason: "FailedCreatePodSandBox",
			message: `Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "` +
				strings.Repeat("0f", 32) + `": plugin type="bridge" failed (add)`,
			waiting: `Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox …: plugin ` +
				`type="bridge" failed (add)`},
		{name: "network", reason: "FailedCreatePodSandBox", message: "Failed to create pod sandbox: plugin type=\"bridge\"\nfailed",
			waiting: `Failed to create pod sandbox: plugin type="bridge" failed`},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := Event(&corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "ns"}, Reason: test.reason, Message: test.message})
			if !strings.Contains(v.Waiting, test.waiting) || (v.Waiting == "") != (test.waiting == "") {
				t.Errorf("waits for %q, want %q", v.Waiting, test.waiting)
			}
			switch f := v.Failure; {
			case f == nil && test.cause != "":
				t.Errorf("no failure, want %s", test.cause)
			case f != nil && (f.Cause != test.cause || f.Message != test.said || f.Hint != test.hint || v.Grace != test.grace):
				t.Errorf("got  %s: %s\n     %s (%s)\nwant %s: %s\n     %s (%s)", f.Cause, f.Message, f.Hint, v.Grace, test.cause, test.said,
					test.hint, test.grace)
			}
		})
	}
}

// harmless tells text that can be shown: one line of valid UTF-8 that does
// nothing to a terminal.
func harmless(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func FuzzOneLine(f *testing.F) {
	for _, s := range []string{"", "a", " a  b\n", "\x1b[31mred\x1b[0m", "\u009b31m", "\u202eevil", "\xff\xfe", "a\u00a0b", "e\u0301",
		"\u2028x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := OneLine(s)
		if !harmless(got) || got != strings.TrimSpace(got) || OneLine(got) != got {
			t.Errorf("oneLine(%q) = %q", s, got)
		}
	})
}

func FuzzExplain(f *testing.F) {
	f.Add("FailedCreate", `Error creating: pods "x" is forbidden: exceeded quota: mem`)
	f.Add("FailedCreate", `serviceaccount "a" not found`)
	f.Add("FailedCreate", "x\x1bdenied")
	f.Add("FailedMount", "\u202e")
	f.Add("StartError", `exec: "/run/hodei/hodei-worker": no`)
	f.Add("ErrImagePull", `rpc error: code = NotFound desc = failed to pull and unpack image "a": `)
	f.Add("Forbidden", `User "a\"b" cannot get resource "pods" in API group "" in the namespace "n"`)
	f.Add("Forbidden", `User "\x1b" cannot get resource "pods" in API group "" at the cluster scope`)
	f.Fuzz(func(t *testing.T, reason, message string) {
		pod := func(state corev1.ContainerState) *corev1.Pod {
			return &corev1.Pod{Status: corev1.PodStatus{Message: message, Reason: reason, Phase: corev1.PodFailed,
				ContainerStatuses: []corev1.ContainerStatus{container("agent", "w", terminated(1, reason, message)),
					container("job", "i", state)}}}
		}
		said := map[string]string{}
		add := func(where string, v Verdict) {
			said[where+", waiting"] = v.Waiting
			if v.Failure != nil {
				said[where], said[where+", hint"] = v.Failure.Message, v.Failure.Hint
			}
		}
		add("event", Event(&corev1.Event{Reason: reason, Message: message}))
		add("waiting", Pod(pod(waiting(reason, message))))
		add("terminated", Pod(pod(terminated(128, reason, message))))
		add("unschedulable", Pod(&corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: message}}}}))
		failure := Error(denied(message))
		said["explain"], said["explain, hint"] = failure.Message, failure.Hint
		for where, text := range said {
			if !harmless(text) {
				t.Errorf("%s: %q", where, text)
			}
		}
	})
}

// quiet is the log of servers whose clients hang up on purpose.
var quiet = log.New(io.Discard, "", 0)

// closedPort is the URL of a port on which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// pemOf is the certificate of a TLS server.
func pemOf(s *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}
