package setup

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

// Removal is one thing that uninstalling removes.
type Removal struct {
	// Object is its metadata alone: no Secret's data.
	Object *unstructured.Unstructured

	resource schema.GroupVersionResource
	way      removalWay
	ours     bool // made by hodei; else it is only in a namespace that hodei made
}

// Stays reports whether r is a namespace that stays and only loses what hodei has set.
func (r Removal) Stays() bool { return r.way == releaseNamespace }

// Done says what happens to the object, such as: deleted in namespace x.
func (r Removal) Done() string {
	switch r.way {
	case deleteWithNamespace:
		text := "deleted with namespace " + r.Object.GetNamespace()
		if !r.ours {
			text += ", though not hodei's"
		}
		return text
	case releaseNamespace:
		return "kept, without hodei's labels: hodei has not made it"
	}
	if namespace := r.Object.GetNamespace(); namespace != "" {
		return "deleted in namespace " + namespace
	}
	return "deleted"
}

// Found is what is to be removed.
type Found struct {
	// Removals are in the order in which to do them.
	Removals []Removal
	// Released are the namespaces that stay. The next Find knows them by their labels, so release them only when all
	// Removals are gone.
	Released []Removal
	// Running are the jobs that have not ended, as NAMESPACE/NAME.
	Running []string
	// Notes are sentences about what others have to remove, or what could not be looked at.
	Notes []string
}

// note adds a note, once.
func (f *Found) note(format string, args ...any) {
	if note := fmt.Sprintf(format, args...); !slices.Contains(f.Notes, note) {
		f.Notes = append(f.Notes, note)
	}
}

// Find looks for everything that is to be removed. Before that it checks the rights that this needs.
func (u *Uninstaller) Find(ctx context.Context) (*Found, error) {
	found, err := u.find(ctx)
	if err != nil {
		return nil, u.explain(err)
	}
	return found, nil
}

func (u *Uninstaller) find(ctx context.Context) (*Found, error) {
	c := u.Client
	first := Rights{{"list", "", manifestResources["Namespace"].GroupResource(), ""}}
	if u.WorkersNamespace == "" {
		first = append(first, sharedRights()...)
	}
	if err := c.checkRights(ctx, sortRights(first), u.Hints.ByAdministrator); err != nil {
		return nil, err
	}
	chosen, last, err := u.choose(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.checkRights(ctx, findRights(chosen, last), u.Hints.ByAdministrator); err != nil {
		return nil, err
	}
	found := &Found{}
	for i := range chosen {
		if err := c.findInside(ctx, &chosen[i], found); err != nil {
			return nil, err
		}
	}
	if last {
		return found, c.findShared(ctx, found)
	}
	return found, nil
}

// choose returns the namespaces to remove. last is true if no namespace of jobs would be left: then hodei's own
// namespace is among them, and what all namespaces share goes too.
func (u *Uninstaller) choose(ctx context.Context) (chosen []corev1.Namespace, last bool, err error) {
	all, err := u.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
	if err != nil {
		return nil, false, err
	}
	var system []corev1.Namespace
	last = true
	for _, namespace := range all.Items {
		switch {
		case namespace.Name == deploy.SystemNamespace:
			system = append(system, namespace)
		case u.WorkersNamespace == "" || namespace.Name == u.WorkersNamespace:
			chosen = append(chosen, namespace)
		default:
			last = false
		}
	}
	if u.WorkersNamespace != "" && len(chosen) == 0 {
		return nil, false, &job.Hinted{
			Err:  fmt.Errorf("namespace %q was not given to hodei", u.WorkersNamespace),
			Hint: "kubectl get namespaces -l " + deploy.Selector,
		}
	}
	if last {
		chosen = append(chosen, system...)
	}
	return chosen, last, nil
}

// findShared adds the cluster roles, and a note for each binding that will refer to a role that is gone.
func (c *Client) findShared(ctx context.Context, found *Found) error {
	roles, err := c.dynamic.Resource(manifestResources["ClusterRole"]).List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for i := range roles.Items {
		if role := &roles.Items[i]; isApplied(role) || role.GetName() == deploy.UserRole {
			names[role.GetName()] = true
			found.Removals = append(found.Removals, Removal{
				Object: metadataOf(role.GroupVersionKind(), role), resource: manifestResources["ClusterRole"], ours: true,
			})
		}
	}
	gone := map[string]bool{} // namespaces, with their bindings
	for _, r := range found.Removals {
		gone[r.Object.GetName()] = gone[r.Object.GetName()] || r.Object.GetKind() == "Namespace"
	}
	bindings, err := c.RbacV1().RoleBindings(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, b := range bindings.Items {
		if refers(b.RoleRef, names) && !gone[b.Namespace] {
			found.note("left to whoever made it: rolebinding %s in namespace %s, which refers to %s", b.Name, b.Namespace, b.RoleRef.Name)
		}
	}
	wide, err := c.RbacV1().ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, b := range wide.Items {
		if refers(b.RoleRef, names) {
			found.note("left to whoever made it: clusterrolebinding %s, which refers to %s", b.Name, b.RoleRef.Name)
		}
	}
	return nil
}

func refers(ref rbacv1.RoleRef, clusterRoles map[string]bool) bool {
	return ref.Kind == "ClusterRole" && clusterRoles[ref.Name]
}

// findInside adds a namespace, what is in it, and the jobs that run there.
func (c *Client) findInside(ctx context.Context, namespace *corev1.Namespace, found *Found) error {
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
		found.note("in namespace %s these may not be listed, and go with it: %s", namespace.Name, job.Words(unlisted))
	}
	itself := Removal{
		Object:   metadataOf(corev1.SchemeGroupVersion.WithKind("Namespace"), namespace),
		resource: manifestResources["Namespace"], ours: true,
	}
	if made {
		for i := range inside {
			inside[i].way = deleteWithNamespace
		}
		found.Removals = append(append(found.Removals, inside...), itself)
	} else {
		inside = slices.DeleteFunc(inside, func(r Removal) bool { return !r.ours })
		itself.way = releaseNamespace
		found.Removals, found.Released = append(found.Removals, inside...), append(found.Released, itself)
	}
	ofHodei := metav1.ListOptions{LabelSelector: kubernetes.LabelManagedBy + "=" + kubernetes.ManagedBy}
	jobs, err := c.BatchV1().Jobs(namespace.Name).List(ctx, ofHodei)
	if err != nil {
		return err
	}
	for i := range jobs.Items {
		if !hasEnded(&jobs.Items[i]) {
			found.Running = append(found.Running, namespace.Name+"/"+jobs.Items[i].Name)
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

// keptKinds returns the kinds that hodei makes in namespaces. In a namespace that stays, only these are looked at.
func keptKinds() []listableKind {
	kinds := []listableKind{jobKind, secretKind}
	for _, kind := range prunable {
		if kind.namespaced {
			kinds = append(kinds, listableKind{manifestResources[kind.kind], kind.kind})
		}
	}
	return kinds
}

// kinds returns all kinds that the cluster has in namespaces. It notes API groups that don't answer.
func (c *Client) kinds(ctx context.Context, found *Found) ([]listableKind, error) {
	lists, err := discovery.ServerPreferredNamespacedResourcesWithContext(ctx, discovery.ToDiscoveryInterfaceWithContext(c.Discovery()))
	if err != nil {
		if !discovery.IsGroupDiscoveryFailedError(err) {
			return nil, err
		}
		found.note("not looked at: %v", err)
	}
	return inNamespaces(lists), nil
}

// inNamespaces returns the kinds that can be listed and deleted in a namespace, without Events: nobody keeps those.
func inNamespaces(lists []*metav1.APIResourceList) []listableKind {
	var kinds []listableKind
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil { // not a group and version
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

// listLimit is how many objects one request lists, which is some hundred KiB of metadata.
const listLimit = 500

// list returns the objects of a namespace that no other object owns, jobs first, and the resources that the caller may
// not list.
func (c *Client) list(ctx context.Context, namespace string, kinds []listableKind) (all []Removal, unlisted []string, err error) {
	names, err := manifestNames()
	if err != nil {
		return nil, nil, err
	}
	inside := make([][]Removal, len(kinds))
	forbidden := make([]bool, len(kinds))
	err = inParallel(len(kinds), func(i int) (err error) {
		inside[i], err = c.listKind(ctx, namespace, kinds[i], names)
		forbidden[i] = apierrors.IsForbidden(err)
		if forbidden[i] || apierrors.IsMethodNotSupported(err) || apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for i := range kinds {
		if forbidden[i] {
			unlisted = append(unlisted, kinds[i].resource.GroupResource().String())
		}
		all = append(all, inside[i]...)
	}
	slices.SortFunc(all, func(a, b Removal) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Object.GetKind(), b.Object.GetKind()),
			cmp.Compare(a.Object.GetName(), b.Object.GetName()))
	})
	return all, unlisted, nil
}

// listKind returns the objects of one kind. With an error it returns those that it had read before.
func (c *Client) listKind(ctx context.Context, namespace string, kind listableKind, names map[string]bool) ([]Removal, error) {
	var found []Removal
	options := metav1.ListOptions{Limit: listLimit}
	for {
		list, err := c.metadata.Resource(kind.resource).Namespace(namespace).List(ctx, options)
		if err != nil {
			return found, err
		}
		for i := range list.Items {
			object := &list.Items[i]
			if metav1.GetControllerOf(object) == nil && !isAutomatic(kind.kind, object.Name) {
				found = append(found, Removal{
					Object:   metadataOf(kind.resource.GroupVersion().WithKind(kind.kind), object),
					resource: kind.resource, ours: isOurs(kind.kind, object, names),
				})
			}
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return found, nil
		}
	}
}

// rank puts jobs first, because they use the other objects.
func rank(r Removal) int {
	if r.Object.GetKind() == "Job" {
		return 0
	}
	return 1
}

// isAutomatic reports whether Kubernetes puts this object into every namespace.
func isAutomatic(kind, name string) bool {
	return kind == "ConfigMap" && name == "kube-root-ca.crt" || kind == "ServiceAccount" && name == "default"
}

// manifestNames returns the kind and name of each object that is installed.
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

// isOurs reports whether an object in a namespace is hodei's: a job, a Secret with certificates, or one of the
// manifests'. After kubectl apply without --server-side, only labels tell of the manifests. Others may have set the
// same labels, so the object must then have one of the names, too.
func isOurs(kind string, object metav1.Object, names map[string]bool) bool {
	labels := object.GetLabels()
	switch {
	case (kind == jobKind.kind || kind == secretKind.kind) && labels[kubernetes.LabelManagedBy] == kubernetes.ManagedBy:
		return true
	case kind == secretKind.kind:
		// Secrets of hodei certs have its labels, unless somebody has made them with the kubectl commands that it
		// prints.
		return slices.ContainsFunc(CertSecrets(deploy.WorkersNamespace), func(s CertSecret) bool { return s.Name == object.GetName() })
	}
	return labels[deploy.LabelName] == "hodei" && labels[deploy.LabelPartOf] == "hodei" &&
		(isApplied(object) || names[kind+" "+object.GetName()])
}

// metadataOf returns the part of an object that is shown: no Secret's data and no status.
func metadataOf(kind schema.GroupVersionKind, object metav1.Object) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(kind)
	u.SetName(object.GetName())
	u.SetNamespace(object.GetNamespace())
	u.SetUID(object.GetUID())
	u.SetLabels(object.GetLabels())
	return u
}
