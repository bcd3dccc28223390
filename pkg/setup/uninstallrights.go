package setup

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// sharedRights returns the rights to find what all namespaces share, and the bindings that refer to it.
func sharedRights() Rights {
	return Rights{
		{"list", "", manifestResources["ClusterRole"].GroupResource(), ""},
		{"list", "", manifestResources["RoleBinding"].GroupResource(), ""},
		{"list", "", schema.GroupResource{Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings"}, ""},
	}
}

// findRights returns the rights to find what is in namespaces. In a namespace that hodei made, only the jobs must be
// listed: everything else goes with the namespace.
func findRights(namespaces []corev1.Namespace, shared bool) Rights {
	var rights Rights
	if shared {
		rights = sharedRights()
	}
	for i := range namespaces {
		rights = append(rights, Right{"list", namespaces[i].Name, jobKind.resource.GroupResource(), ""})
		if madeByHodei(&namespaces[i]) {
			continue
		}
		for _, kind := range keptKinds() {
			rights = append(rights, Right{"list", namespaces[i].Name, kind.resource.GroupResource(), ""})
		}
	}
	return sortRights(rights)
}

// CheckRights returns an error that names every right that the caller lacks to remove everything that was found. If the
// caller waits, these include the rights to see that everything is gone, and to release the namespaces that stay.
func (u *Uninstaller) CheckRights(ctx context.Context, found *Found, waits bool) error {
	return u.Client.checkRights(ctx, removalRights(slices.Concat(found.Removals, found.Released), waits), u.Hints.ByAdministrator)
}

// removalRights returns the rights to remove everything, and with waits those to see that it is gone.
func removalRights(removals []Removal, waits bool) Rights {
	var rights Rights
	for _, r := range removals {
		namespace, name, resource := r.Object.GetNamespace(), r.Object.GetName(), r.resource.GroupResource()
		switch r.way {
		case deleteObject:
			rights = append(rights, Right{"delete", namespace, resource, name})
			if waits {
				rights = append(rights, Right{"get", namespace, resource, name})
			}
		case releaseNamespace:
			if waits {
				rights = append(rights, Right{"patch", "", resource, name}, Right{"list", name, schema.GroupResource{Resource: "pods"}, ""})
			}
		}
	}
	return sortRights(rights)
}
