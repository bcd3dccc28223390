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
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/clock"
	"github.com/hodei-jobs/hodei/pkg/setup"
)

// oldestVersion is the first with a podFailurePolicy in Jobs. Without it a command that succeeded could run again.
var oldestVersion = utilversion.MustParseGeneric("1.26")

// Cluster checks what jobs of a provider need in its cluster. [OfCluster] makes one.
type Cluster struct {
	*setup.Client
	config   *rest.Config
	name     string          // the provider's; empty: there is none
	provider provider.Config // with its defaults
	place    place.Cluster
}

// OfCluster checks the cluster of a provider called name, which config leads to; c has the provider's settings with
// their defaults. If the cluster does not answer, that is the only check, and the Cluster is nil.
func OfCluster(ctx context.Context, config *rest.Config, name string, c provider.Config) ([]Result, *Cluster) {
	k := &Cluster{name: name, provider: c}
	p, err := kubernetes.New(kubernetes.Options{Config: config, Name: name, Provider: c})
	if err != nil {
		return []Result{Failed("cluster", err)}, nil
	}
	k.place = place.Cluster{Provider: p}
	var api clock.Clock
	k.config = rest.CopyConfig(config)
	k.config.Wrap(api.Wrap)
	if k.Client, err = setup.NewClient(ctx, config); err != nil {
		return []Result{Failed("cluster", err)}, nil
	}
	version := k.version(ctx)
	looks := []func(context.Context) Result{
		func(context.Context) Result { return ofClock(&api) }, k.rights, k.namespace, k.serviceAccount, k.role, k.networkPolicy,
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

// version checks that the cluster is not too old.
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
		return New(name, Error, "choose another cluster with --context",
			"Kubernetes %s is too old: want %s or later", answer.GitVersion, oldestVersion)
	}
	return New(name, OK, "", "Kubernetes %s at %s", answer.GitVersion, k.config.Host)
}

// neededRights are the rights without which no job runs. Without others of the role hodei-user, logs, attach or a clean
// end don't work.
var neededRights = map[string][]string{
	"jobs": {"create", "patch", "list", "watch"}, "pods": {"list", "watch"}, "secrets": {"create"},
}

// rights checks that we have all rights of the role hodei-user.
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

// grantHint returns how to grant r to us.
func (k *Cluster) grantHint(ctx context.Context, r setup.Right) string {
	who, err := k.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil { // before 1.28 the API server does not say who we are
		return fmt.Sprintf("kubectl create rolebinding NAME --clusterrole=hodei-user --user=USER -n %s", r.Namespace)
	}
	//nolint:staticcheck // the API server's own words
	refusal := fmt.Errorf("User %q cannot %s resource %q in API group %q in the namespace %q",
		who.Status.UserInfo.Username, r.Verb, r.Resource.Resource, r.Resource.Group, r.Namespace)
	return kubernetes.Explain(apierrors.NewForbidden(r.Resource, "", refusal)).Hint
}

// namespace checks that the namespace is there and stays.
func (k *Cluster) namespace(ctx context.Context) Result {
	const name = "namespace"
	install := kubernetes.InstallCommand(k.provider.Namespace)
	ns, err := k.CoreV1().Namespaces().Get(ctx, k.provider.Namespace, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return New(name, Error, install+", or name another namespace with -n", "namespace %s does not exist", k.provider.Namespace)
	case err != nil:
		return Failed(name, err)
	case ns.DeletionTimestamp != nil:
		return New(name, Error, "wait until it is gone, then: "+install, "namespace %s is being deleted", ns.Name)
	}
	return New(name, OK, "", "%s", ns.Name)
}

// serviceAccount checks that the workers' service account is there.
func (k *Cluster) serviceAccount(ctx context.Context) Result {
	const name = "service account"
	namespace, account := k.provider.Namespace, k.provider.ServiceAccount
	_, err := k.CoreV1().ServiceAccounts(namespace).Get(ctx, account, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		hint := kubernetes.AccountHint(namespace, account)
		return New(name, Error, hint, "serviceaccount %q not found in namespace %s", account, namespace)
	case err != nil:
		return Failed(name, err)
	}
	return New(name, OK, "", "%s", account)
}

// role checks that the role and the binding of the installed service account are there. Jobs run without them, since
// they get no token of the account.
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

// networkPolicy checks that the namespace has a network policy.
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

// pullSecrets checks that the secrets for pulling images are there.
func (k *Cluster) pullSecrets(ctx context.Context) Result {
	const name = "pull secrets"
	if len(k.provider.ImagePullSecrets) == 0 {
		return New(name, Skipped, "", "the provider names none")
	}
	for _, secret := range k.provider.ImagePullSecrets {
		_, err := k.CoreV1().Secrets(k.provider.Namespace).Get(ctx, secret, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			hint := fmt.Sprintf("kubectl create secret docker-registry %s -n %s --from-file=$HOME/.docker/config.json",
				secret, k.provider.Namespace)
			return New(name, Error, hint, "secret %q not found in namespace %s", secret, k.provider.Namespace)
		case err != nil:
			return Failed(name, err)
		}
	}
	return New(name, OK, "", "%s", job.Words(k.provider.ImagePullSecrets))
}

// priorityClass checks that the provider's PriorityClass is there.
func (k *Cluster) priorityClass(ctx context.Context) Result {
	return k.class("priority class", k.provider.PriorityClass, "kubectl get priorityclasses", func(name string) error {
		_, err := k.SchedulingV1().PriorityClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

// runtimeClass checks that the provider's RuntimeClass is there.
func (k *Cluster) runtimeClass(ctx context.Context) Result {
	return k.class("runtime class", k.provider.RuntimeClass, "kubectl get runtimeclasses", func(name string) error {
		_, err := k.NodeV1().RuntimeClasses().Get(ctx, name, metav1.GetOptions{})
		return err
	})
}

// class checks that a class which the provider's settings name is there.
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

// admission checks, by a dry run, that the API server accepts a Job of the provider. The API server warns of what the
// namespace's Pod Security forbids its Pods.
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
			hint = "" // the check ebpf has one, about the same label
		}
		return New(name, Error, hint, "the namespace refuses its Pods: %s", text)
	case known:
		return New(name, Warning, "", "the namespace warns of its Pods, and takes them: %s", text)
	default:
		return New(name, Warning, "try it: {hodei} provider test NAME", "the namespace warns of its Pods, and may refuse them: %s", text)
	}
	return New(name, OK, "", "the API server accepts one (dry run)")
}

// enforced returns the Pod Security level that the namespace's label enforces. It is not known if we may not see the
// namespace, or if it has no such label, so that the API server's default counts.
func (k *Cluster) enforced(ctx context.Context) (level string, known bool) {
	ns, err := k.CoreV1().Namespaces().Get(ctx, k.provider.Namespace, metav1.GetOptions{})
	if err != nil {
		return "", false
	}
	level, known = ns.Labels["pod-security.kubernetes.io/enforce"]
	return level, known
}

// warnings collects the API server's warnings.
type warnings struct {
	mu   sync.Mutex
	text []string
}

// HandleWarningHeader adds a warning.
func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

// about returns the first warning that contains word; empty: there is none.
func (w *warnings) about(word string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.text, func(s string) bool { return strings.Contains(s, word) }); i >= 0 {
		return w.text[i]
	}
	return ""
}
