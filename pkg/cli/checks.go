package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/client-go/discovery"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// check is one thing that was looked at.
type check struct {
	Name   string      `json:"name"`
	Status checkStatus `json:"status"`
	Detail string      `json:"detail"`
	Hint   string      `json:"hint,omitempty"`
}

type checkStatus string

const (
	checkOK      checkStatus = "ok"
	checkWarning checkStatus = "warning"
	checkError   checkStatus = "error"
	checkSkipped checkStatus = "skipped" // we may not look, or there is nothing to look at
)

func checked(name string, status checkStatus, hint, format string, args ...any) check {
	return check{Name: name, Status: status, Detail: ui.Printable(fmt.Sprintf(format, args...)), Hint: hint}
}

// failedCheck is a check that ended with an error: what we may not see is left out.
func failedCheck(name string, err error) check {
	f := kubernetes.Explain(err)
	if f.Cause == job.Forbidden {
		return checked(name, checkSkipped, "", "%s", f.Message)
	}
	return checked(name, checkError, f.Hint, "%s", f.Message)
}

// oldestVersion has Jobs with a podFailurePolicy, without which a command that
// succeeded could run again.
var oldestVersion = utilversion.MustParseGeneric("1.26")

// clusterChecks look at what jobs of a provider need in its cluster. They change
// nothing.
type clusterChecks struct {
	*setup.Client
	config   *rest.Config
	name     string          // of the provider; "" is none
	provider provider.Config // with its defaults
	place    place.Cluster
}

// checkCluster looks at the cluster of a provider, to which the kube flags point. If
// it does not answer, that is the only check, and the client is nil.
func (a *app) checkCluster(ctx context.Context, name string, c provider.Config) ([]check, *clusterChecks) {
	k := &clusterChecks{name: name, provider: c}
	p, err := a.kubernetesProvider(name, c)
	if err != nil {
		return []check{failedCheck("cluster", err)}, nil
	}
	k.place = place.Cluster{Provider: p}
	config, err := restConfig(a.kube)
	if err != nil {
		return []check{failedCheck("cluster", err)}, nil
	}
	var clock kubernetes.Clock
	k.config = rest.CopyConfig(config)
	k.config.Wrap(clock.Wrap)
	if k.Client, err = setup.NewClient(ctx, config); err != nil {
		return []check{failedCheck("cluster", err)}, nil
	}
	version := k.version(ctx)
	looks := []func(context.Context) check{
		func(context.Context) check { return checkClock(&clock) }, k.rights, k.namespace, k.serviceAccount, k.role, k.networkPolicy,
		k.pullSecrets, k.priorityClass, k.runtimeClass, k.ebpf, k.volumeLimits, k.admission,
	}
	checks := make([]check, len(looks))
	var work sync.WaitGroup
	for i, look := range looks {
		work.Go(func() { checks[i] = look(ctx) })
	}
	work.Wait()
	return append([]check{version}, checks...), k
}

// worst is the first error among checks; nil: there is none.
func worst(checks []check) *check {
	if i := slices.IndexFunc(checks, func(c check) bool { return c.Status == checkError }); i >= 0 {
		return &checks[i]
	}
	return nil
}

func (k *clusterChecks) version(ctx context.Context) check {
	const name = "cluster"
	client, err := clientset.NewForConfig(k.config) // the one that sees the server's clock
	if err != nil {
		return failedCheck(name, err)
	}
	answer, err := discovery.ToServerVersionInterfaceWithContext(client.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		return failedCheck(name, err)
	}
	v, err := utilversion.ParseGeneric(answer.GitVersion)
	switch {
	case err != nil:
		return checked(name, checkWarning, "", "%s answers with a version that is none: %q", k.config.Host, answer.GitVersion)
	case v.LessThan(oldestVersion):
		return checked(name, checkError, "choose another cluster with --context", "Kubernetes %s is too old: want %s or later", answer.GitVersion, oldestVersion)
	}
	return checked(name, checkOK, "", "Kubernetes %s at %s", answer.GitVersion, k.config.Host)
}

// neededRights are those without which no job runs here. Without the others of the
// role hodei-user something else can't be done: logs, attach, a clean end.
var neededRights = map[string][]string{
	"jobs": {"create", "patch", "list", "watch"}, "pods": {"list", "watch"}, "secrets": {"create"},
}

func (k *clusterChecks) rights(ctx context.Context) check {
	const name = "rights"
	granted, err := deploy.Rights(deploy.Options{})
	if err != nil {
		return checked(name, checkError, "", "%v", err)
	}
	var wanted setup.Rights
	for _, r := range granted {
		for _, verb := range r.Verbs {
			if r.Role == "hodei-user" {
				wanted = append(wanted, setup.Right{
					Verb: verb, Namespace: k.provider.Namespace, Resource: schema.GroupResource{Group: r.Group, Resource: r.Resource},
				})
			}
		}
	}
	missing, err := k.Missing(ctx, wanted)
	if err != nil {
		return failedCheck(name, err)
	}
	if len(missing) == 0 {
		return checked(name, checkOK, "", "%s may do all that hodei-user grants in %s", k.WhoAmI(ctx), k.provider.Namespace)
	}
	status := checkWarning
	for _, r := range missing {
		if slices.Contains(neededRights[r.Resource.Resource], r.Verb) {
			status = checkError
		}
	}
	return checked(name, status, k.grantHint(ctx, missing[0]), "%s may not %s", k.WhoAmI(ctx), missing)
}

// grantHint is what the API server's refusal of r is answered with.
func (k *clusterChecks) grantHint(ctx context.Context, r setup.Right) string {
	who, err := k.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil { // before 1.28 nobody can say
		return fmt.Sprintf("kubectl create rolebinding NAME --clusterrole=hodei-user --user=USER -n %s", r.Namespace)
	}
	refusal := fmt.Errorf("User %q cannot %s resource %q in API group %q in the namespace %q", //nolint:staticcheck // the API server's own words
		who.Status.UserInfo.Username, r.Verb, r.Resource.Resource, r.Resource.Group, r.Namespace)
	return kubernetes.Explain(apierrors.NewForbidden(r.Resource, "", refusal)).Hint
}

func (k *clusterChecks) namespace(ctx context.Context) check {
	const name = "namespace"
	ns, err := k.CoreV1().Namespaces().Get(ctx, k.provider.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return checked(name, checkError, kubernetes.InstallCommand(k.provider.Namespace)+", or name another namespace with -n", "namespace %s does not exist", k.provider.Namespace)
	case err != nil:
		return failedCheck(name, err)
	case ns.DeletionTimestamp != nil:
		return checked(name, checkError, "wait until it is gone, then: "+kubernetes.InstallCommand(k.provider.Namespace), "namespace %s is being deleted", ns.Name)
	}
	return checked(name, checkOK, "", "%s", ns.Name)
}

func (k *clusterChecks) serviceAccount(ctx context.Context) check {
	const name = "service account"
	_, err := k.CoreV1().ServiceAccounts(k.provider.Namespace).Get(ctx, k.provider.ServiceAccount, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return checked(name, checkError, kubernetes.AccountHint(k.provider.Namespace, k.provider.ServiceAccount), "serviceaccount %q not found in namespace %s", k.provider.ServiceAccount, k.provider.Namespace)
	case err != nil:
		return failedCheck(name, err)
	}
	return checked(name, checkOK, "", "%s", k.provider.ServiceAccount)
}

// role looks for what the installed service account is bound to. Jobs get no token of
// it, so that they run without.
func (k *clusterChecks) role(ctx context.Context) check {
	const name, role, binding = "role", "hodei-jobs-worker-role", "hodei-jobs-worker-binding"
	if k.provider.ServiceAccount != provider.DefaultServiceAccount {
		return checked(name, checkSkipped, "", "service account %s is not the installed one", k.provider.ServiceAccount)
	}
	_, err := k.RbacV1().Roles(k.provider.Namespace).Get(ctx, role, metav1.GetOptions{})
	if err == nil {
		_, err = k.RbacV1().RoleBindings(k.provider.Namespace).Get(ctx, binding, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return checked(name, checkWarning, kubernetes.InstallCommand(k.provider.Namespace), "%s or %s is not there", role, binding)
	case err != nil:
		return failedCheck(name, err)
	}
	return checked(name, checkOK, "", "%s, %s", role, binding)
}

func (k *clusterChecks) networkPolicy(ctx context.Context) check {
	const name = "network policy"
	list, err := k.NetworkingV1().NetworkPolicies(k.provider.Namespace).List(ctx, metav1.ListOptions{})
	switch {
	case err != nil:
		return failedCheck(name, err)
	case len(list.Items) == 0:
		return checked(name, checkWarning, kubernetes.InstallCommand(k.provider.Namespace), "none in namespace %s: jobs reach all that the cluster reaches", k.provider.Namespace)
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return checked(name, checkOK, "", "%s: present; not checked: whether the cluster's network enforces it", job.Words(names))
}

func (k *clusterChecks) pullSecrets(ctx context.Context) check {
	const name = "pull secrets"
	if len(k.provider.ImagePullSecrets) == 0 {
		return checked(name, checkSkipped, "", "the provider names none")
	}
	for _, secret := range k.provider.ImagePullSecrets {
		_, err := k.CoreV1().Secrets(k.provider.Namespace).Get(ctx, secret, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return checked(name, checkError, fmt.Sprintf("kubectl create secret docker-registry %s -n %s --from-file=$HOME/.docker/config.json", secret, k.provider.Namespace),
				"secret %q not found in namespace %s", secret, k.provider.Namespace)
		case err != nil:
			return failedCheck(name, err)
		}
	}
	return checked(name, checkOK, "", "%s", job.Words(k.provider.ImagePullSecrets))
}

func (k *clusterChecks) priorityClass(ctx context.Context) check {
	return k.class("priority class", k.provider.PriorityClass, "kubectl get priorityclasses", func(name string) error {
		_, err := k.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

func (k *clusterChecks) runtimeClass(ctx context.Context) check {
	return k.class("runtime class", k.provider.RuntimeClass, "kubectl get runtimeclasses", func(name string) error {
		_, err := k.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

// class looks for what the provider's settings name at cluster scope.
func (k *clusterChecks) class(name, class, hint string, get func(string) error) check {
	if class == "" {
		return checked(name, checkSkipped, "", "the provider names none")
	}
	switch err := get(class); {
	case apierrors.IsNotFound(err):
		return checked(name, checkError, hint, "%s %q not found", name, class)
	case err != nil:
		return failedCheck(name, err)
	}
	return checked(name, checkOK, "", "%s", class)
}

// admission has the API server look at a Job of the provider, without making it:
// it warns of what the namespace's Pod Security forbids its Pods.
func (k *clusterChecks) admission(ctx context.Context) check {
	const name = "job"
	spec := &job.Spec{Name: "hodei-check-" + rand.String(8), Command: []string{"true"}}
	k.place.SetDefaults(spec)
	manifest, _, err := k.place.Plan(ctx, spec)
	if err != nil {
		return failedCheck(name, err)
	}
	var warned warnings
	config := rest.CopyConfig(k.config)
	config.WarningHandler, config.WarningHandlerWithContext = &warned, nil
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return failedCheck(name, err)
	}
	_, err = client.BatchV1().Jobs(k.provider.Namespace).Create(ctx, manifest, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return failedCheck(name, err)
	}
	text := warned.about("PodSecurity")
	switch enforced, known := k.enforced(ctx); {
	case text == "":
	case enforced == deploy.ProfileRestricted || strings.Contains(text, `PodSecurity "`+enforced+":"):
		hint := "change the provider's settings: {hodei} provider set NAME"
		if enforced == deploy.ProfileRestricted {
			hint = "change the provider's settings, or: " + kubernetes.InstallCommand(k.provider.Namespace) + " --profile baseline"
		}
		if kubernetes.RefusesEBPF(text) {
			hint = "" // the check ebpf has it: the label is the same
		}
		return checked(name, checkError, hint, "the namespace refuses its Pods: %s", text)
	case known:
		return checked(name, checkWarning, "", "the namespace warns of its Pods, and takes them: %s", text)
	default:
		return checked(name, checkWarning, "try it: {hodei} provider test NAME", "the namespace warns of its Pods, and may refuse them: %s", text)
	}
	return checked(name, checkOK, "", "the API server accepts one (dry run)")
}

// enforced is the Pod Security level that the namespace says it keeps its Pods to. It is
// not known where we may not look, and where the API server's own default counts.
func (k *clusterChecks) enforced(ctx context.Context) (level string, known bool) {
	ns, err := k.CoreV1().Namespaces().Get(ctx, k.provider.Namespace, metav1.GetOptions{})
	if err != nil {
		return "", false
	}
	level, known = ns.Labels["pod-security.kubernetes.io/enforce"]
	return level, known
}

// warnings collects what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// about returns the first warning with word in it; "" if there is none.
func (w *warnings) about(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.text, func(s string) bool { return strings.Contains(s, word) }); i >= 0 {
		return w.text[i]
	}
	return ""
}
