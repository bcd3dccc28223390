package cli

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// sharedRights are those that finding what all namespaces share takes, and what
// refers to it.
func sharedRights() []right {
	return []right{
		{"list", "", manifestResources["ClusterRole"].GroupResource(), ""},
		{"list", "", manifestResources["RoleBinding"].GroupResource(), ""},
		{"list", "", schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, ""},
	}
}

// findRights are those that finding takes in namespaces. In one of hodei's own all
// goes, whether or not it can be listed; only the jobs have to be known.
func findRights(namespaces []corev1.Namespace, shared bool) []right {
	var rights []right
	if shared {
		rights = sharedRights()
	}
	for i := range namespaces {
		rights = append(rights, right{"list", namespaces[i].Name, jobKind.resource.GroupResource(), ""})
		if madeByHodei(&namespaces[i]) {
			continue
		}
		for _, kind := range keptKinds() {
			rights = append(rights, right{"list", namespaces[i].Name, kind.resource.GroupResource(), ""})
		}
	}
	return sortRights(rights)
}

// removalRights are those that removing takes, and seeing that it is done.
func (o *uninstallOptions) removalRights(removals []removal) []right {
	var rights []right
	for _, r := range removals {
		namespace, name, resource := r.object.GetNamespace(), r.object.GetName(), r.resource.GroupResource()
		switch r.way {
		case deleteObject:
			rights = append(rights, right{"delete", namespace, resource, name})
			if o.wait {
				rights = append(rights, right{"get", namespace, resource, name})
			}
		case releaseNamespace:
			if o.wait {
				rights = append(rights, right{"patch", "", resource, name}, right{"list", name, schema.GroupResource{Resource: "pods"}, ""})
			}
		}
	}
	return sortRights(rights)
}
