package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/document"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Plan is what installing would change.
type Plan struct {
	// Steps are all objects, in the order in which to apply them, also those that would not change.
	Steps []Step
	// Prune are objects that an install of another version, or with other choices, has applied and this one does not
	// have.
	Prune []*unstructured.Unstructured
}

// Step is one object to apply.
type Step struct {
	// Object is what is applied. Live is what the cluster has; nil: nothing.
	Object, Live *unstructured.Unstructured
	// Result is the object as it would be afterwards; nil: not known, because its namespace does not exist yet.
	Result *unstructured.Unstructured

	warned []string // the API server's warnings about Result
	claim  bool     // note on the namespace that hodei made it
}

// after returns the object as it would be afterwards, as far as is known.
func (s *Step) after() *unstructured.Unstructured {
	if s.Result == nil {
		return s.Object
	}
	return s.Result
}

// Plan asks the API server what applying would change, and changes nothing. So everything that the server would refuse
// is known before the first change.
func (i *Installer) Plan(ctx context.Context) (*Plan, error) {
	objects, err := deploy.Objects(i.Choices)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Steps: make([]Step, len(objects))}
	errs := make([]error, len(objects))
	if inParallel(len(objects), func(n int) error {
		plan.Steps[n].Object = objects[n]
		errs[n] = i.planStep(ctx, &plan.Steps[n])
		return errs[n]
	}) != nil {
		var problems []problem
		for n, err := range errs {
			if err != nil {
				problems = append(problems, problem{objects[n], err})
			}
		}
		return nil, i.explain(ctx, problems)
	}
	plan.Prune, err = i.Client.findStale(ctx, objects)
	return plan, err
}

// planStep asks what applying one object would change.
func (i *Installer) planStep(ctx context.Context, step *Step) error {
	live, err := i.Client.get(ctx, step.Object)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return err
	}
	step.Live = live
	namespace := step.Object.GetKind() == "Namespace"
	if namespace && live != nil && live.GetDeletionTimestamp() != nil {
		return &job.Hinted{
			Err:  fmt.Errorf("%s is being deleted", describe(step.Object)),
			Hint: "wait until it is gone, then: " + i.Hints.Again,
		}
	}
	warnsOf := context.WithValue(ctx, warningsKey{}, &step.warned)
	step.Result, err = i.Client.apply(warnsOf, step.Object, applyOptions{dryRun: true, force: i.Force})
	switch {
	case apierrors.IsNotFound(err) && step.Object.GetNamespace() != "":
		step.Result = nil
	case err != nil:
		return err
	case namespace:
		step.planClaim()
	}
	return nil
}

// planClaim decides whether to note on a namespace that hodei made it.
func (s *Step) planClaim() {
	if s.Live != nil && (s.Live.GetAnnotations()[deploy.AnnotationCreatedBy] == FieldManager || !madeByHodei(s.Live)) {
		return
	}
	s.claim = true
	annotations := s.Result.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[deploy.AnnotationCreatedBy] = FieldManager
	s.Result.SetAnnotations(annotations)
}

// prunable are the kinds of stale objects that are deleted. Namespaces are never deleted, because other objects may be
// in them.
var prunable = []struct {
	kind       string
	namespaced bool
}{
	{"NetworkPolicy", true}, {"ResourceQuota", true}, {"LimitRange", true},
	{"RoleBinding", true}, {"Role", true}, {"ServiceAccount", true}, {"ClusterRole", false},
}

// pruneNamespaces returns the names of the namespaces among objects.
func pruneNamespaces(objects []*unstructured.Unstructured) []string {
	var namespaces []string
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			namespaces = append(namespaces, object.GetName())
		}
	}
	return namespaces
}

// findStale returns the objects for Plan.Prune.
func (c *Client) findStale(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	type place struct{ kind, namespace string }
	var places []place
	for _, kind := range prunable {
		if !kind.namespaced {
			places = append(places, place{kind.kind, ""})
			continue
		}
		for _, namespace := range pruneNamespaces(objects) {
			places = append(places, place{kind.kind, namespace})
		}
	}
	found := make([][]unstructured.Unstructured, len(places))
	err := inParallel(len(places), func(i int) error {
		// Without a namespace this lists all of them. Only ClusterRole has no namespace.
		list, err := c.dynamic.Resource(manifestResources[places[i].kind]).Namespace(places[i].namespace).
			List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
		if err != nil {
			return err
		}
		found[i] = list.Items
		return nil
	})
	if err != nil {
		return nil, kubernetes.Explain(err)
	}
	current := map[string]bool{}
	for _, object := range objects {
		current[describe(object)] = true
	}
	var stale []*unstructured.Unstructured
	for i := range found {
		for j := range found[i] {
			if object := &found[i][j]; isApplied(object) && !current[describe(object)] {
				stale = append(stale, object)
			}
		}
	}
	return stale, nil
}

// isApplied reports whether hodei install, or kubectl with its field manager, has applied an object. Labels alone don't
// tell: others may have set the same.
func isApplied(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == FieldManager && e.Operation == metav1.ManagedFieldsOperationApply
	})
}

// Diff returns what would change as a unified diff; empty: nothing would. Characters that could command a terminal are
// written as escapes.
func (p *Plan) Diff() ([]byte, error) {
	var all []byte
	for _, step := range p.Steps {
		changed, err := diffObject(step.Live, step.after())
		if err != nil {
			return nil, err
		}
		all = append(all, changed...)
	}
	for _, object := range p.Prune {
		changed, err := diffObject(object, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, changed...)
	}
	return all, nil
}

// Differing returns the names of the objects that would change, such as: role x in namespace y.
func (p *Plan) Differing() ([]string, error) {
	var names []string
	for _, step := range p.Steps {
		changed, err := diffObject(step.Live, step.after())
		if err != nil {
			return nil, err
		}
		if len(changed) > 0 {
			names = append(names, describe(step.Object))
		}
	}
	for _, object := range p.Prune {
		names = append(names, describe(object))
	}
	return names, nil
}

// diffObject returns the unified diff of an object. A nil object does not exist.
func diffObject(live, result *unstructured.Unstructured) ([]byte, error) {
	named := result
	if named == nil {
		named = live
	}
	before, after, err := diffTexts(live, result)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(named.GetKind()) + "/" + named.GetName()
	if namespace := named.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	name = string(document.Escape([]byte(name))) // RBAC's names may hold nearly anything
	return diff.Diff("live/"+name, before, "installed/"+name, after), nil
}

// diffTexts returns both objects as YAML. If a text in one of them could command a terminal, it returns both as JSON
// with escapes, so that they can still be compared line by line. A nil object has no text.
func diffTexts(live, result *unstructured.Unstructured) (before, after []byte, err error) {
	live, result = withoutServerFields(live), withoutServerFields(result)
	marshal := document.YAML
	for _, object := range []*unstructured.Unstructured{live, result} {
		text, err := json.Marshal(object)
		if err != nil {
			return nil, nil, err
		}
		if !document.Plain(text) {
			marshal = document.JSON
		}
	}
	if live != nil {
		if before, err = marshal(live.Object, "    "); err != nil {
			return nil, nil, err
		}
	}
	if result != nil {
		after, err = marshal(result.Object, "    ")
	}
	return before, after, err
}

// withoutServerFields returns object without what the API server writes into it by itself.
func withoutServerFields(object *unstructured.Unstructured) *unstructured.Unstructured {
	if object == nil {
		return nil
	}
	object = object.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(object.Object, "status")
	return object
}
