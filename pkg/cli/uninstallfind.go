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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// removalWay is how something is removed.
type removalWay int

const (
	deleteObject removalWay = iota
	deleteWithNamespace
	releaseNamespace // it stays, without what hodei has set
)

// removal is one thing that uninstall removes.
type removal struct {
	object   *unstructured.Unstructured // its metadata alone
	resource schema.GroupVersionResource
	way      removalWay
	ours     bool // hodei's, and not only in a namespace of hodei's
}

// done says what happened to it.
func (r removal) done() string {
	switch r.way {
	case deleteWithNamespace:
		text := "deleted with namespace " + r.object.GetNamespace()
		if !r.ours {
			text += ", though not hodei's"
		}
		return text
	case releaseNamespace:
		return "kept, without hodei's labels: hodei has not made it"
	}
	if namespace := r.object.GetNamespace(); namespace != "" {
		return "deleted in namespace " + namespace
	}
	return "deleted"
}

// installed is what is to be removed.
type installed struct {
	removals []removal // in that order
	// released are the namespaces that stay, once all of the removals is gone.
	released []removal
	running  []string // jobs that have not ended, as NAMESPACE/NAME
	notes    []string // what else there is to know
}

// find looks for everything that is to be removed.
func (o *uninstallOptions) find(ctx context.Context, c *manifestClient) (*installed, error) {
	first := []right{{"list", "", manifestResources["Namespace"].GroupResource(), ""}}
	if o.workersNamespace == "" {
		first = append(first, sharedRights()...)
	}
	if err := c.checkRights(ctx, sortRights(first), o.byAdministrator()); err != nil {
		return nil, err
	}
	all, err := c.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
	if err != nil {
		return nil, err
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
		return nil, &job.Hinted{Err: fmt.Errorf("namespace %q was not given to hodei", o.workersNamespace), Hint: "kubectl get namespaces -l " + deploy.Selector}
	}
	if last {
		for _, namespace := range all.Items {
			if namespace.Name == deploy.SystemNamespace {
				chosen = append(chosen, namespace)
			}
		}
	}
	if err := c.checkRights(ctx, findRights(chosen, last), o.byAdministrator()); err != nil {
		return nil, err
	}
	found := &installed{}
	if err := c.findInside(ctx, chosen, found); err != nil {
		return nil, err
	}
	if last {
		return found, c.findShared(ctx, found)
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
		if role := &roles.Items[i]; isApplied(role) || role.GetName() == deploy.UserRole {
			names[role.GetName()] = true
			found.removals = append(found.removals, removal{object: metadataOf(role), resource: manifestResources["ClusterRole"], ours: true})
		}
	}
	gone := map[string]bool{} // namespaces, with their bindings
	for _, r := range found.removals {
		gone[r.object.GetName()] = gone[r.object.GetName()] || r.object.GetKind() == "Namespace"
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
	for i := range namespaces {
		namespace := &namespaces[i]
		made := madeByHodei(namespace)
		kinds := keptKinds()
		if made {
			var err error
			if kinds, err = c.kinds(ctx, found); err != nil {
				return err
			}
		}
		inside, unlisted, err := c.list(ctx, namespace.Name, kinds)
		switch {
		case err != nil:
			return err
		case len(unlisted) > 0 && !made: // hodei's would be left, and nobody could find it again
			return fmt.Errorf("namespace %s, which stays: %s may not be listed", namespace.Name, job.Words(unlisted))
		case len(unlisted) > 0:
			found.notes = append(found.notes, fmt.Sprintf("in namespace %s these may not be listed, and go with it: %s", namespace.Name, job.Words(unlisted)))
		}
		for _, r := range inside {
			if made {
				r.way = deleteWithNamespace
			} else if !r.ours {
				continue
			}
			found.removals = append(found.removals, r)
		}
		namespace.APIVersion, namespace.Kind = "v1", "Namespace"
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(namespace)
		if err != nil {
			return err
		}
		r := removal{object: metadataOf(&unstructured.Unstructured{Object: object}), resource: manifestResources["Namespace"], ours: true}
		if made {
			found.removals = append(found.removals, r)
		} else {
			r.way = releaseNamespace
			found.released = append(found.released, r)
		}
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

// listableKind is a kind of object in namespaces.
type listableKind struct {
	resource schema.GroupVersionResource
	kind     string
}

var (
	jobKind    = listableKind{schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, "Job"}
	secretKind = listableKind{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "Secret"}
)

// keptKinds are what hodei makes in namespaces: nothing else is looked at in one
// that stays.
func keptKinds() []listableKind {
	kinds := []listableKind{jobKind, secretKind}
	for _, kind := range prunable {
		if kind.namespaced {
			kinds = append(kinds, listableKind{manifestResources[kind.kind], kind.kind})
		}
	}
	return kinds
}

// kinds are all that the cluster has; a group that does not answer is a note.
func (c *manifestClient) kinds(ctx context.Context, found *installed) ([]listableKind, error) {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(c.Discovery()))
	if err != nil {
		if !discovery.IsGroupDiscoveryFailedError(err) {
			return nil, err
		}
		if note := fmt.Sprintf("not looked at: %v", err); !slices.Contains(found.notes, note) {
			found.notes = append(found.notes, note)
		}
	}
	return inNamespaces(lists), nil
}

// inNamespaces are the kinds that can be listed and deleted in a namespace. Events
// tell of objects, and are none that anybody keeps.
func inNamespaces(lists []*metav1.APIResourceList) []listableKind {
	var kinds []listableKind
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil { // no version of a group is called that
			continue
		}
		for _, r := range list.APIResources {
			if r.Kind != "Event" && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") {
				kinds = append(kinds, listableKind{version.WithResource(r.Name), r.Kind})
			}
		}
	}
	return kinds
}

// listLimit is how many objects one request lists: some hundred KiB of metadata.
const listLimit = 500

// list returns the objects of a namespace that no other owns, jobs first, and the
// resources that may not be listed.
func (c *manifestClient) list(ctx context.Context, namespace string, kinds []listableKind) (all []removal, unlisted []string, err error) {
	names, err := manifestNames()
	if err != nil {
		return nil, nil, err
	}
	inside := make([][]removal, len(kinds))
	errs := make([]error, len(kinds))
	inParallel(len(kinds), func(i int) {
		kind := kinds[i]
		options := metav1.ListOptions{Limit: listLimit}
		for {
			list, err := c.metadata.Resource(kind.resource).Namespace(namespace).List(ctx, options)
			if err != nil {
				errs[i] = err
				return
			}
			for j := range list.Items {
				object := &list.Items[j]
				if metav1.GetControllerOf(object) == nil && !isAutomatic(kind.kind, object.Name) {
					inside[i] = append(inside[i], removal{object: partial(kind, object), resource: kind.resource, ours: isOurs(kind.kind, object, names)})
				}
			}
			if options.Continue = list.Continue; options.Continue == "" {
				return
			}
		}
	})
	for i, err := range errs {
		switch {
		case apierrors.IsForbidden(err):
			unlisted = append(unlisted, kinds[i].resource.GroupResource().String())
		case err != nil && !apierrors.IsMethodNotSupported(err) && !apierrors.IsNotFound(err):
			return nil, nil, err
		}
		all = append(all, inside[i]...)
	}
	slices.SortFunc(all, func(a, b removal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.object.GetKind(), b.object.GetKind()), cmp.Compare(a.object.GetName(), b.object.GetName()))
	})
	return all, unlisted, nil
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

// manifestNames are the kinds and names of what is installed in namespaces.
func manifestNames() (map[string]bool, error) {
	objects, err := deploy.Objects(deploy.Options{Quota: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}})
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, object := range objects {
		names[object.GetKind()+" "+object.GetName()] = true
	}
	return names, nil
}

// isOurs tells what is hodei's in a namespace: jobs and their certificates, and
// what was applied. kubectl apply without --server-side leaves no more than labels,
// which others may have set on what is theirs: there it has to be one of the names.
func isOurs(kind string, object metav1.Object, names map[string]bool) bool {
	labels := object.GetLabels()
	switch {
	case (kind == jobKind.kind || kind == secretKind.kind) && labels[kubernetes.LabelManagedBy] == kubernetes.ManagedBy:
		return true
	case kind == secretKind.kind:
		return slices.Contains(certificateSecrets, object.GetName())
	}
	return labels[deploy.LabelName] == "hodei" && labels[deploy.LabelPartOf] == "hodei" && (isApplied(object) || names[kind+" "+object.GetName()])
}

// partial is an object as its metadata, under its own kind.
func partial(r listableKind, object *metav1.PartialObjectMetadata) *unstructured.Unstructured {
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
