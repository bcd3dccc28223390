package setup

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Right is one verb on one resource.
type Right struct {
	Verb      string
	Namespace string // empty: at cluster scope, or in all namespaces
	// Resource may have a subresource: pods/log.
	Resource schema.GroupResource
	Name     string // of one object; empty: any object
}

// Rights is a list of rights.
type Rights []Right

// installRights returns the rights to apply objects, and to find and delete stale ones. It includes create for objects
// that exist already: a second list of rights would not be worth it.
func installRights(objects []*unstructured.Unstructured) Rights {
	var rights Rights
	for _, object := range objects {
		needed := Right{"create", object.GetNamespace(), manifestResources[object.GetKind()].GroupResource(), ""}
		rights = append(rights, needed)
		needed.Name = object.GetName()
		for _, needed.Verb = range []string{"get", "patch"} {
			rights = append(rights, needed)
		}
	}
	for _, kind := range prunable {
		namespaces := []string{""}
		if kind.namespaced {
			namespaces = pruneNamespaces(objects)
		}
		for _, namespace := range namespaces {
			for _, verb := range []string{"delete", "list"} {
				rights = append(rights, Right{verb, namespace, manifestResources[kind.kind].GroupResource(), ""})
			}
		}
	}
	return sortRights(rights)
}

// missingToInstall returns the rights that the caller lacks to apply objects and to grant what their roles grant, in
// the order of sortRights. Kubernetes lets nobody grant rights that they don't have, unless they may escalate and bind
// the role. So the role's own rights are checked one by one only for callers who may not do that.
func (c *Client) missingToInstall(ctx context.Context, objects []*unstructured.Unstructured, granted []deploy.Right) (Rights, error) {
	needed := installRights(objects)
	for _, grant := range granted {
		needed = append(needed, exemptions(grant)...)
	}
	missing, err := c.Missing(ctx, sortRights(needed))
	if err != nil {
		return nil, err
	}
	var held Rights
	for _, grant := range granted {
		if !slices.ContainsFunc(exemptions(grant), func(r Right) bool { return slices.Contains(missing, r) }) {
			continue
		}
		for _, verb := range grant.Verbs {
			held = append(held, Right{verb, grant.Namespace, schema.GroupResource{Group: grant.Group, Resource: grant.Resource}, ""})
		}
	}
	lacking, err := c.Missing(ctx, sortRights(held))
	if err != nil {
		return nil, err
	}
	missing = slices.DeleteFunc(missing, func(r Right) bool { return r.Verb == "escalate" || r.Verb == "bind" })
	return sortRights(append(missing, lacking...)), nil
}

// exemptions returns the rights with which one may make and bind a role without having the rights that it grants.
func exemptions(granted deploy.Right) Rights {
	escalate := Right{"escalate", granted.Namespace, manifestResources[granted.Kind].GroupResource(), granted.Role}
	if granted.Subject == "" { // it is bound to nobody
		return Rights{escalate}
	}
	bind := escalate
	bind.Verb = "bind"
	return Rights{escalate, bind}
}

// sortRights puts the rights on one resource together, and removes duplicates.
func sortRights(rights Rights) Rights {
	slices.SortFunc(rights, func(a, b Right) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Resource.String(), b.Resource.String()),
			cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Name, b.Name))
	})
	return slices.Compact(rights)
}

// checkRights returns an error that names all rights that the caller does not have.
func (c *Client) checkRights(ctx context.Context, rights Rights, hint string) error {
	missing, err := c.Missing(ctx, rights)
	if err != nil {
		return err
	}
	return c.refuse(ctx, missing, hint)
}

// refuse returns an error that names the missing rights; nil: none is missing.
func (c *Client) refuse(ctx context.Context, missing Rights, hint string) error {
	if len(missing) == 0 {
		return nil
	}
	return &job.Hinted{
		Err:  fmt.Errorf("%s may not %s", c.WhoAmI(ctx), missing),
		Hint: hint,
	}
}

// Missing returns the rights that the caller does not have, in the order of rights.
func (c *Client) Missing(ctx context.Context, rights Rights) (Rights, error) {
	allowed := make([]bool, len(rights))
	err := inParallel(len(rights), func(i int) error {
		r := rights[i]
		resource, subresource, _ := strings.Cut(r.Resource.Resource, "/")
		answer, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: r.Namespace, Verb: r.Verb, Group: r.Resource.Group, Resource: resource, Subresource: subresource, Name: r.Name,
			}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		allowed[i] = answer.Status.Allowed
		return nil
	})
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	var missing Rights
	for i, ok := range allowed {
		if !ok {
			missing = append(missing, rights[i])
		}
	}
	return missing, nil
}

// WhoAmI names the caller for a message: user "alice", or, if the cluster can't say, the user of this context.
func (c *Client) WhoAmI(ctx context.Context) string {
	review, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil { // before 1.28 nobody can say
		return "the user of this context"
	}
	return fmt.Sprintf("user %q", review.Status.UserInfo.Username)
}

// String lists rights that are in the order of sortRights, such as: create and get pods in a; list nodes.
func (rights Rights) String() string {
	var list []string
	for len(rights) > 0 {
		first, verbs := rights[0], []string{}
		for len(rights) > 0 && rights[0].Namespace == first.Namespace && rights[0].Resource == first.Resource {
			if !slices.Contains(verbs, rights[0].Verb) {
				verbs = append(verbs, rights[0].Verb)
			}
			rights = rights[1:]
		}
		text := job.Words(verbs) + " " + first.Resource.String()
		if first.Namespace != "" {
			text += " in " + first.Namespace
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}
