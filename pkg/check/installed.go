package check

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/setup"
)

// pendingLong is how long a Pod may wait before somebody should know: longer than an autoscaler takes for a node.
const pendingLong = 5 * time.Minute

// Installed checks that what is installed is what this version of hodei install would make.
func (k *Cluster) Installed(ctx context.Context) Result {
	const name = "installed"
	choices := deploy.Options{WorkersNamespace: k.provider.Namespace}
	if _, err := deploy.Objects(choices); err != nil {
		return New(name, Skipped, "", "%v", err)
	}
	line := setup.Line{Given: strings.TrimPrefix(kubernetes.InstallCommand(k.provider.Namespace), "{hodei} install")}
	installer := &setup.Installer{Client: k.Client, Choices: choices, Hints: line.Hints()}
	may, err := installer.MayPlan(ctx)
	switch {
	case err != nil:
		return Failed(name, err)
	case !may:
		return New(name, Skipped, "", "only who may install can compare")
	}
	plan, err := installer.Plan(ctx)
	if err != nil {
		return New(name, Warning, job.HintOf(err), "%v", err)
	}
	differ, err := plan.Differing()
	switch {
	case err != nil:
		return Failed(name, err)
	case len(differ) > 0:
		hint := "compare, repeating your install flags: " + kubernetes.InstallCommand(k.provider.Namespace) + " --diff"
		return New(name, Warning, hint, "differs from what this version installs: %s", job.Words(differ))
	}
	return New(name, OK, "", "as this version installs it")
}

// Waiting checks that no job's Pod has waited for too long.
func (k *Cluster) Waiting(ctx context.Context) Result {
	const name = "jobs"
	pods, err := k.CoreV1().Pods(k.provider.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy, FieldSelector: "status.phase=" + string(corev1.PodPending),
	})
	if err != nil {
		return Failed(name, err)
	}
	var long []string
	for _, p := range pods.Items {
		if time.Since(p.CreationTimestamp.Time) >= pendingLong {
			long = append(long, p.Labels[kubernetes.LabelJob])
		}
	}
	if len(long) > 0 {
		return New(name, Warning, "{hodei} jobs "+long[0]+" -o wide", "waiting for more than %s: %s", pendingLong, job.Words(long))
	}
	return New(name, OK, "", "none waits for more than %s", pendingLong)
}

// Secrets checks the certificates in the cluster, as far as we may read them.
func (k *Cluster) Secrets(ctx context.Context) []Result {
	places := map[string][]certs.File{} // by namespace; those of one namespace belong together
	for _, s := range setup.CertSecrets(k.provider.Namespace) {
		// Jobs do without those that are not there, and some we may not see.
		if secret, err := setup.GetSecret(ctx, k.Interface, s.Namespace, s.Name); err == nil {
			places[s.Namespace] = append(places[s.Namespace], setup.SecretFiles(secret)...)
		}
	}
	const name = "secrets"
	if len(places) == 0 {
		return []Result{New(name, Skipped, "", "there are no certificates in the cluster, or they can't be read; each run makes its own")}
	}
	var facts []certs.Fact
	for _, namespace := range slices.Sorted(maps.Keys(places)) {
		facts = append(facts, certs.Inspect(places[namespace], time.Now())...)
	}
	inspect := "{hodei} certs inspect --secrets"
	if k.provider.Namespace != deploy.WorkersNamespace {
		inspect += " --workers-namespace " + k.provider.Namespace
	}
	return []Result{ofCertificates(name, facts, func(f certs.Fact) string {
		return remedy(f, inspect, " --dir DIR", "; then: {hodei} certs apply --dir DIR")
	})}
}
