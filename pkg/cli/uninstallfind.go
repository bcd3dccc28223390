package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// How something is removed.
type how int

const (
	deleted       how = iota
	withNamespace     // by deleting its namespace
	release           // it stays, without what hodei has set
)

// removal is one thing that uninstall removes.
type removal struct {
	object   *unstructured.Unstructured // its metadata alone
	resource schema.GroupVersionResource
	how      how
}

// done says what happened to it.
func (r removal) done() string {
	switch r.how {
	case withNamespace:
		text := "deleted with namespace " + r.object.GetNamespace()
		if !isOurs(r.object) {
			text += ", though not hodei's"
		}
		return text
	case release:
		return "kept, without hodei's labels: hodei has not made it"
	}
	if namespace := r.object.GetNamespace(); namespace != "" {
		return "deleted in namespace " + namespace
	}
	return "deleted"
}

// installed is what is to be removed, in that order.
type installed struct {
	removals []removal
	running  []string // jobs that have not ended, as NAMESPACE/NAME
	notes    []string // what else there is to know
	// kept are the namespaces that stay, from which jobs are removed.
	kept []string
}

// find looks for everything that is to be removed.
func (o *uninstallOptions) find(ctx context.Context, c *manifestClient) (*installed, error) {
	all, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	var chosen []corev1.Namespace
	last := true // nothing that is shared stays in use
	for _, namespace := range all.Items {
		switch {
		case namespace.Name == deploy.SystemNamespace:
		case o.workersNamespace == "" || namespace.Name == o.workersNamespace:
			chosen = append(chosen, namespace)
		default:
			last = false
		}
	}
	if o.workersNamespace != "" && len(chosen) == 0 {
		return nil, &hinted{err: fmt.Errorf("namespace %q was not given to hodei", o.workersNamespace), hint: "kubectl get namespaces -l " + deploy.Selector}
	}
	found := &installed{}
	if last {
		for _, namespace := range all.Items {
			if namespace.Name == deploy.SystemNamespace {
				chosen = append(chosen, namespace)
			}
		}
	}
	if len(chosen) > 0 {
		if err := c.findInside(ctx, chosen, found); err != nil {
			return nil, kubernetes.Explain(err)
		}
	}
	if last {
		if err := c.findShared(ctx, found); err != nil {
			return nil, kubernetes.Explain(err)
		}
	}
	return found, nil
}

// findShared adds the cluster roles, and names the bindings that will refer to
// nothing.
func (c *manifestClient) findShared(ctx context.Context, found *installed) error {
	roles, err := c.dynamic.Resource(manifestResources["ClusterRole"]).List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for i := range roles.Items {
		names[roles.Items[i].GetName()] = true
		found.removals = append(found.removals, removal{metadataOf(&roles.Items[i]), manifestResources["ClusterRole"], deleted})
	}
	gone := map[string]bool{} // namespaces, with their bindings
	for _, r := range found.removals {
		gone[r.object.GetName()] = gone[r.object.GetName()] || r.object.GetKind() == "Namespace" && r.how == deleted
	}
	bindings, err := c.RbacV1().RoleBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, b := range bindings.Items {
		if refers(b.RoleRef, names) && !gone[b.Namespace] {
			found.notes = append(found.notes, fmt.Sprintf("left to whoever made it: rolebinding %s in namespace %s, which refers to %s", b.Name, b.Namespace, b.RoleRef.Name))
		}
	}
	wide, err := c.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, b := range wide.Items {
		if refers(b.RoleRef, names) {
			found.notes = append(found.notes, fmt.Sprintf("left to whoever made it: clusterrolebinding %s, which refers to %s", b.Name, b.RoleRef.Name))
		}
	}
	return nil
}

func refers(ref rbacv1.RoleRef, clusterRoles map[string]bool) bool {
	return ref.Kind == "ClusterRole" && clusterRoles[ref.Name]
}

// findInside adds namespaces and what is in them.
func (c *manifestClient) findInside(ctx context.Context, namespaces []corev1.Namespace, found *installed) error {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(c.Discovery()))
	if err != nil {
		if !discovery.IsGroupDiscoveryFailedError(err) {
			return err
		}
		found.notes = append(found.notes, fmt.Sprintf("not looked at: %v", err))
	}
	resources := inNamespaces(lists)
	for i := range namespaces {
		namespace := &namespaces[i]
		inside, err := c.list(ctx, namespace.Name, resources, found)
		if err != nil {
			return err
		}
		ours := madeByHodei(namespace)
		for _, r := range inside {
			if ours {
				r.how = withNamespace
			} else if !isOurs(r.object) {
				continue
			}
			found.removals = append(found.removals, r)
		}
		r := removal{resource: manifestResources["Namespace"], how: deleted}
		if !ours {
			r.how = release
			found.kept = append(found.kept, namespace.Name)
		}
		namespace.APIVersion, namespace.Kind = "v1", "Namespace"
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(namespace)
		if err != nil {
			return err
		}
		r.object = metadataOf(&unstructured.Unstructured{Object: object})
		found.removals = append(found.removals, r)
		jobs, err := c.BatchV1().Jobs(namespace.Name).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy})
		if err != nil {
			return err
		}
		for j := range jobs.Items {
			if !hasEnded(&jobs.Items[j]) {
				found.running = append(found.running, namespace.Name+"/"+jobs.Items[j].Name)
			}
		}
	}
	return nil
}

func hasEnded(j *batchv1.Job) bool {
	return slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool {
		return c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed)
	})
}

// listed is a kind of the cluster.
type listed struct {
	resource schema.GroupVersionResource
	kind     string
}

// inNamespaces are the kinds that can be listed and deleted in a namespace. Events
// tell of objects, and are none that anybody keeps.
func inNamespaces(lists []*metav1.APIResourceList) []listed {
	var resources []listed
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil { // no version of a group is called that
			continue
		}
		for _, r := range list.APIResources {
			if r.Kind != "Event" && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") {
				resources = append(resources, listed{version.WithResource(r.Name), r.Kind})
			}
		}
	}
	return resources
}

// page is how many objects one request lists: some hundred KiB of metadata.
const page = 500

// list returns the objects of a namespace that no other owns, jobs first.
func (c *manifestClient) list(ctx context.Context, namespace string, resources []listed, found *installed) ([]removal, error) {
	inside := make([][]removal, len(resources))
	errs := make([]error, len(resources))
	inParallel(len(resources), func(i int) {
		r := resources[i]
		options := metav1.ListOptions{Limit: page}
		for {
			list, err := c.metadata.Resource(r.resource).Namespace(namespace).List(ctx, options)
			if err != nil {
				errs[i] = err
				return
			}
			for j := range list.Items {
				object := &list.Items[j]
				if metav1.GetControllerOf(object) == nil && !isAutomatic(r.kind, object.Name) {
					inside[i] = append(inside[i], removal{object: partial(r, object), resource: r.resource})
				}
			}
			if options.Continue = list.Continue; options.Continue == "" {
				return
			}
		}
	})
	var all []removal
	for i, err := range errs {
		switch {
		case apierrors.IsForbidden(err):
			found.notes = append(found.notes, fmt.Sprintf("not looked at: %s in namespace %s, which may not be listed", resources[i].resource.GroupResource(), namespace))
		case err != nil && !apierrors.IsMethodNotSupported(err) && !apierrors.IsNotFound(err):
			return nil, err
		}
		all = append(all, inside[i]...)
	}
	slices.SortFunc(all, func(a, b removal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.object.GetKind(), b.object.GetKind()), cmp.Compare(a.object.GetName(), b.object.GetName()))
	})
	return all, nil
}

// rank puts jobs first: they use the rest.
func rank(r removal) int {
	if r.object.GetKind() == "Job" {
		return 0
	}
	return 1
}

// isAutomatic tells what Kubernetes puts into every namespace.
func isAutomatic(kind, name string) bool {
	return kind == "ConfigMap" && name == "kube-root-ca.crt" || kind == "ServiceAccount" && name == "default"
}

// certificateSecrets are those of hodei certs. They have its labels, unless somebody
// has made them with kubectl as it prints.
var certificateSecrets = []string{"hodei-ca-cert", "hodei-ca-key", "hodei-server-cert", "hodei-client-cert"}

// isOurs tells what is hodei's in a namespace that is not.
func isOurs(object *unstructured.Unstructured) bool {
	return object.GetLabels()["app.kubernetes.io/part-of"] == "hodei" ||
		object.GetKind() == "Secret" && slices.Contains(certificateSecrets, object.GetName())
}

// partial is an object as its metadata, under its own kind.
func partial(r listed, object *metav1.PartialObjectMetadata) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(r.resource.GroupVersion().WithKind(r.kind))
	u.SetName(object.Name)
	u.SetNamespace(object.Namespace)
	u.SetUID(object.UID)
	u.SetLabels(object.Labels)
	return u
}

// metadataOf is what of an object is shown: no Secret's data, and no status.
func metadataOf(object *unstructured.Unstructured) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(object.GroupVersionKind())
	u.SetName(object.GetName())
	u.SetNamespace(object.GetNamespace())
	u.SetUID(object.GetUID())
	u.SetLabels(object.GetLabels())
	return u
}
