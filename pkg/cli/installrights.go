package cli

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

// right is one that a command needs of its caller.
type right struct {
	verb, namespace string // "": at cluster scope
	resource        schema.GroupResource
	name            string // of the one object; "": any
}

// installRights are those that applying objects takes, and finding and deleting
// what is stale. An object that is there needs no create; that it may be there
// and may not is not worth two lists of rights.
func installRights(objects []*unstructured.Unstructured) []right {
	var rights []right
	for _, object := range objects {
		needed := right{"create", object.GetNamespace(), manifestResources[object.GetKind()].GroupResource(), ""}
		rights = append(rights, needed)
		needed.name = object.GetName()
		for _, needed.verb = range []string{"get", "patch"} {
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
				rights = append(rights, right{verb, namespace, manifestResources[kind.kind].GroupResource(), ""})
			}
		}
	}
	return sortRights(rights)
}

// missingToInstall are the rights that we lack to apply objects and to grant what
// their roles grant, in the order of sortRights. Kubernetes lets nobody grant more
// than they have, save who may escalate that role, or bind it: only who may not is
// asked for the role's rights one by one.
func (c *manifestClient) missingToInstall(ctx context.Context, objects []*unstructured.Unstructured, granted []deploy.Right) ([]right, error) {
	needed := installRights(objects)
	for _, grant := range granted {
		needed = append(needed, exemptions(grant)...)
	}
	missing, err := c.missing(ctx, sortRights(needed))
	if err != nil {
		return nil, err
	}
	var held []right
	for _, grant := range granted {
		if !slices.ContainsFunc(exemptions(grant), func(r right) bool { return slices.Contains(missing, r) }) {
			continue
		}
		for _, verb := range grant.Verbs {
			held = append(held, right{verb, grant.Namespace, schema.GroupResource{Group: grant.Group, Resource: grant.Resource}, ""})
		}
	}
	lacking, err := c.missing(ctx, sortRights(held))
	if err != nil {
		return nil, err
	}
	missing = slices.DeleteFunc(missing, func(r right) bool { return r.verb == "escalate" || r.verb == "bind" })
	return sortRights(append(missing, lacking...)), nil
}

// exemptions are the rights that let one make and bind a role without having what
// it grants.
func exemptions(granted deploy.Right) []right {
	escalate := right{"escalate", granted.Namespace, manifestResources[granted.Kind].GroupResource(), granted.Role}
	if granted.Subject == "" { // it is bound to nobody
		return []right{escalate}
	}
	bind := escalate
	bind.verb = "bind"
	return []right{escalate, bind}
}

// sortRights puts those of one resource together, and each once.
func sortRights(rights []right) []right {
	slices.SortFunc(rights, func(a, b right) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.resource.String(), b.resource.String()), cmp.Compare(a.verb, b.verb), cmp.Compare(a.name, b.name))
	})
	return slices.Compact(rights)
}

// checkRights asks before anything else whether we may, and names everything that
// we may not.
func (c *manifestClient) checkRights(ctx context.Context, rights []right, hint string) error {
	missing, err := c.missing(ctx, rights)
	if err != nil {
		return err
	}
	return c.refuse(ctx, missing, hint)
}

// refuse names the rights that are missing; nil if none is.
func (c *manifestClient) refuse(ctx context.Context, missing []right, hint string) error {
	if len(missing) == 0 {
		return nil
	}
	return &job.Hinted{
		Err:  fmt.Errorf("%s may not %s", c.whoami(ctx), describeRights(missing)),
		Hint: hint,
	}
}

// missing are those of the rights that we do not have, in the same order.
func (c *manifestClient) missing(ctx context.Context, rights []right) ([]right, error) {
	allowed := make([]bool, len(rights))
	errs := make([]error, len(rights))
	inParallel(len(rights), func(i int) {
		resource, subresource, _ := strings.Cut(rights[i].resource.Resource, "/")
		answer, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: rights[i].namespace, Verb: rights[i].verb, Group: rights[i].resource.Group, Resource: resource, Subresource: subresource, Name: rights[i].name,
			}},
		}, metav1.CreateOptions{})
		if errs[i] = err; err == nil {
			allowed[i] = answer.Status.Allowed
		}
	})
	if err := firstError(errs); err != nil {
		return nil, kubernetes.Explain(err)
	}
	var missing []right
	for i, ok := range allowed {
		if !ok {
			missing = append(missing, rights[i])
		}
	}
	return missing, nil
}

// whoami names the caller in a message.
func (c *manifestClient) whoami(ctx context.Context) string {
	review, err := c.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil { // before 1.28 nobody can say
		return "the user of this context"
	}
	return fmt.Sprintf("user %q", review.Status.UserInfo.Username)
}

// describeRights lists rights that are sorted, those of one resource together.
func describeRights(rights []right) string {
	var list []string
	for len(rights) > 0 {
		first, verbs := rights[0], []string{}
		for len(rights) > 0 && rights[0].namespace == first.namespace && rights[0].resource == first.resource {
			if !slices.Contains(verbs, rights[0].verb) {
				verbs = append(verbs, rights[0].verb)
			}
			rights = rights[1:]
		}
		text := job.Words(verbs) + " " + first.resource.String()
		if first.namespace != "" {
			text += " in " + first.namespace
		}
		list = append(list, text)
	}
	return strings.Join(list, "; ")
}
