package check

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
)

// oldestVersion has Jobs with a podFailurePolicy, without which a command that
// succeeded could run again.
var oldestVersion = utilversion.MustParseGeneric("1.26")

// Cluster look at what jobs of a provider need in its cluster. They change
// nothing.
type Cluster struct {
	*setup.Client
	config   *rest.Config
	name     string          // of the provider; "" is none
	provider provider.Config // with its defaults
	place    place.Cluster
}

// OfCluster looks at the cluster of a provider, which config leads to; c has its defaults. If the
// cluster does not answer, that is the only check, and the client is nil.
func OfCluster(ctx context.Context, config *rest.Config, name string, c provider.Config) ([]Result, *Cluster) {
	k := &Cluster{name: name, provider: c}
	p, err := kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
	if err != nil {
		return []Result{Failed("cluster", err)}, nil
	}
	k.place = place.Cluster{Provider: p}
	var clock kubernetes.Clock
	k.config = rest.CopyConfig(config)
	k.config.Wrap(clock.Wrap)
	if k.Client, err = setup.NewClient(ctx, config); err != nil {
		return []Result{Failed("cluster", err)}, nil
	}
	version := k.version(ctx)
	looks := []func(context.Context) Result{
		func(context.Context) Result { return ofClock(&clock) }, k.rights, k.namespace, k.serviceAccount, k.role, k.networkPolicy,
		k.pullSecrets, k.priorityClass, k.runtimeClass, k.ebpf, k.volumeLimits, k.admission,
	}
	checks := make([]Result, len(looks))
	var work sync.WaitGroup
	for i, look := range looks {
		work.Go(func() { checks[i] = look(ctx) })
	}
	work.Wait()
	return append([]Result{version}, checks...), k
}

func (k *Cluster) version(ctx context.Context) Result {
	const name = "cluster"
	client, err := clientset.NewForConfig(k.config) // the one that sees the server's clock
	if err != nil {
		return Failed(name, err)
	}
	answer, err := discovery.ToServerVersionInterfaceWithContext(client.Discovery()).ServerVersionWithContext(ctx)
	if err != nil {
		return Failed(name, err)
	}
	v, err := utilversion.ParseGeneric(answer.GitVersion)
	switch {
	case err != nil:
		return New(name, Warning, "", "%s answers with a version that is none: %q", k.config.Host, answer.GitVersion)
	case v.LessThan(oldestVersion):
		return New(name, Error, "choose another cluster with --context", "Kubernetes %s is too old: want %s or later",
			answer.GitVersion, oldestVersion)
	}
	return New(name, OK, "", "Kubernetes %s at %s", answer.GitVersion, k.config.Host)
}

// neededRights are those without which no job runs here. Without the others of the
// role hodei-user something else can't be done: logs, attach, a clean end.
var neededRights = map[string][]string{
	"jobs": {"create", "patch", "list", "watch"}, "pods": {"list", "watch"}, "secrets": {"create"},
}

func (k *Cluster) rights(ctx context.Context) Result {
	const name = "rights"
	granted, err := deploy.Rights(deploy.Options{})
	if err != nil {
		return New(name, Error, "", "%v", err)
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
		return Failed(name, err)
	}
	if len(missing) == 0 {
		return New(name, OK, "", "%s may do all that hodei-user grants in %s", k.WhoAmI(ctx), k.provider.Namespace)
	}
	status := Warning
	for _, r := range missing {
		if slices.Contains(neededRights[r.Resource.Resource], r.Verb) {
			status = Error
		}
	}
	return New(name, status, k.grantHint(ctx, missing[0]), "%s may not %s", k.WhoAmI(ctx), missing)
}

// grantHint is what the API server's refusal of r is answered with.
func (k *Cluster) grantHint(ctx context.Context, r setup.Right) string {
	who, err := k.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil { // before 1.28 nobody can say
		return fmt.Sprintf("kubectl create rolebinding NAME --clusterrole=hodei-user --user=USER -n %s", r.Namespace)
	}
	//nolint:staticcheck // the API server's own words
	refusal := fmt.Errorf("User %q cannot %s resource %q in API group %q in the namespace %q",
		who.Status.UserInfo.Username, r.Verb, r.Resource.Resource, r.Resource.Group, r.Namespace)
	return kubernetes.Explain(apierrors.NewForbidden(r.Resource, "", refusal)).Hint
}

func (k *Cluster) namespace(ctx context.Context) Result {
	const name = "namespace"
	ns, err := k.CoreV1().Namespaces().Get(ctx, k.provider.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return New(name, Error, kubernetes.InstallCommand(k.provider.Namespace)+", or name another namespace with -n",
			"namespace %s does not exist", k.provider.Namespace)
	case err != nil:
		return Failed(name, err)
	case ns.DeletionTimestamp != nil:
		return New(name, Error, "wait until it is gone, then: "+kubernetes.InstallCommand(k.provider.Namespace),
			"namespace %s is being deleted", ns.Name)
	}
	return New(name, OK, "", "%s", ns.Name)
}

func (k *Cluster) serviceAccount(ctx context.Context) Result {
	const name = "service account"
	_, err := k.CoreV1().ServiceAccounts(k.provider.Namespace).Get(ctx, k.provider.ServiceAccount, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return New(name, Error, kubernetes.AccountHint(k.provider.Namespace, k.provider.ServiceAccount),
			"serviceaccount %q not found in namespace %s", k.provider.ServiceAccount, k.provider.Namespace)
	case err != nil:
		return Failed(name, err)
	}
	return New(name, OK, "", "%s", k.provider.ServiceAccount)
}

// role looks for what the installed service account is bound to. Jobs get no token of
// it, so that they run without.
func (k *Cluster) role(ctx context.Context) Result {
	const name, role, binding = "role", "hodei-jobs-worker-role", "hodei-jobs-worker-binding"
	if k.provider.ServiceAccount != provider.DefaultServiceAccount {
		return New(name, Skipped, "", "service account %s is not the installed one", k.provider.ServiceAccount)
	}
	_, err := k.RbacV1().Roles(k.provider.Namespace).Get(ctx, role, metav1.GetOptions{})
	if err == nil {
		_, err = k.RbacV1().RoleBindings(k.provider.Namespace).Get(ctx, binding, metav1.GetOptions{})
	}
	switch {
	case apierrors.IsNotFound(err):
		return New(name, Warning, kubernetes.InstallCommand(k.provider.Namespace), "%s or %s is not there", role, binding)
	case err != nil:
		return Failed(name, err)
	}
	return New(name, OK, "", "%s, %s", role, binding)
}

func (k *Cluster) networkPolicy(ctx context.Context) Result {
	const name = "network policy"
	list, err := k.NetworkingV1().NetworkPolicies(k.provider.Namespace).List(ctx, metav1.ListOptions{})
	switch {
	case err != nil:
		return Failed(name, err)
	case len(list.Items) == 0:
		return New(name, Warning, kubernetes.InstallCommand(k.provider.Namespace),
			"none in namespace %s: jobs reach all that the cluster reaches", k.provider.Namespace)
	}
	var names []string
	for _, p := range list.Items {
		names = append(names, p.Name)
	}
	return New(name, OK, "", "%s: present; not checked: whether the cluster's network enforces it", job.Words(names))
}

func (k *Cluster) pullSecrets(ctx context.Context) Result {
	const name = "pull secrets"
	if len(k.provider.ImagePullSecrets) == 0 {
		return New(name, Skipped, "", "the provider names none")
	}
	for _, secret := range k.provider.ImagePullSecrets {
		_, err := k.CoreV1().Secrets(k.provider.Namespace).Get(ctx, secret, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return New(name, Error, fmt.Sprintf("kubectl create secret docker-registry %s -n %s --from-file=$HOME/.docker/config.json",
				secret, k.provider.Namespace),
				"secret %q not found in namespace %s", secret, k.provider.Namespace)
		case err != nil:
			return Failed(name, err)
		}
	}
	return New(name, OK, "", "%s", job.Words(k.provider.ImagePullSecrets))
}

func (k *Cluster) priorityClass(ctx context.Context) Result {
	return k.class("priority class", k.provider.PriorityClass, "kubectl get priorityclasses", func(name string) error {
		_, err := k.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

func (k *Cluster) runtimeClass(ctx context.Context) Result {
	return k.class("runtime class", k.provider.RuntimeClass, "kubectl get runtimeclasses", func(name string) error {
		_, err := k.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

// class looks for what the provider's settings name at cluster scope.
func (k *Cluster) class(name, class, hint string, get func(string) error) Result {
	if class == "" {
		return New(name, Skipped, "", "the provider names none")
	}
	switch err := get(class); {
	case apierrors.IsNotFound(err):
		return New(name, Error, hint, "%s %q not found", name, class)
	case err != nil:
		return Failed(name, err)
	}
	return New(name, OK, "", "%s", class)
}

// admission has the API server look at a Job of the provider, without making it:
// it warns of what the namespace's Pod Security forbids its Pods.
func (k *Cluster) admission(ctx context.Context) Result {
	const name = "job"
	spec := &job.Spec{Name: "hodei-check-" + rand.String(8), Command: []string{"true"}}
	k.place.SetDefaults(spec)
	manifest, _, err := k.place.Plan(ctx, spec)
	if err != nil {
		return Failed(name, err)
	}
	var warned warnings
	config := rest.CopyConfig(k.config)
	config.WarningHandler, config.WarningHandlerWithContext = &warned, nil
	client, err := clientset.NewForConfig(config)
	if err != nil {
		return Failed(name, err)
	}
	_, err = client.BatchV1().Jobs(k.provider.Namespace).Create(ctx, manifest, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return Failed(name, err)
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
		return New(name, Error, hint, "the namespace refuses its Pods: %s", text)
	case known:
		return New(name, Warning, "", "the namespace warns of its Pods, and takes them: %s", text)
	default:
		return New(name, Warning, "try it: {hodei} provider test NAME", "the namespace warns of its Pods, and may refuse them: %s", text)
	}
	return New(name, OK, "", "the API server accepts one (dry run)")
}

// enforced is the Pod Security level that the namespace says it keeps its Pods to. It is
// not known where we may not look, and where the API server's own default counts.
func (k *Cluster) enforced(ctx context.Context) (level string, known bool) {
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
