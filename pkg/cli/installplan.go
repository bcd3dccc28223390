package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// installPlan is what installing would change.
type installPlan struct {
	steps []installStep // in the order of the manifests
	prune []*unstructured.Unstructured
}

// installStep is one object.
type installStep struct {
	object *unstructured.Unstructured // as it is applied
	live   *unstructured.Unstructured // as it is; nil: it is not there
	result *unstructured.Unstructured // as it would be; nil: that can't be asked before its namespace is there
	warned []string                   // what the API server says of that
	// claim is a namespace that gets the note that hodei has made it.
	claim bool
}

// problem is why an object can't be applied.
type problem struct {
	object *unstructured.Unstructured
	err    error
}

// plan asks the API server what applying would change, before anything is: what
// it refuses is known at once and whole.
func (o *installOptions) plan(ctx context.Context, c *manifestClient, objects []*unstructured.Unstructured) (*installPlan, error) {
	plan := &installPlan{steps: make([]installStep, len(objects))}
	errs := make([]error, len(objects))
	inParallel(len(objects), func(i int) {
		step := &plan.steps[i]
		step.object = objects[i]
		if step.live, errs[i] = c.get(ctx, step.object); apierrors.IsNotFound(errs[i]) {
			step.live, errs[i] = nil, nil
		}
		if errs[i] == nil && step.live != nil && step.object.GetKind() == "Namespace" && step.live.GetDeletionTimestamp() != nil {
			errs[i] = &job.Hinted{Err: fmt.Errorf("%s is being deleted", describe(step.object)), Hint: "wait until it is gone, then: " + o.command("")}
		}
		if errs[i] != nil {
			return
		}
		step.result, errs[i] = c.apply(context.WithValue(ctx, warningsKey{}, &step.warned), step.object, applyOptions{dryRun: true, force: o.force})
		if apierrors.IsNotFound(errs[i]) && step.object.GetNamespace() != "" {
			step.result, errs[i] = nil, nil
		}
		if errs[i] == nil && step.object.GetKind() == "Namespace" {
			step.planClaim()
		}
	})
	var problems []problem
	for i, err := range errs {
		if err != nil {
			problems = append(problems, problem{objects[i], err})
		}
	}
	if len(problems) > 0 {
		return nil, o.explain(ctx, c, problems)
	}
	var err error
	plan.prune, err = c.findStale(ctx, objects)
	return plan, err
}

// planClaim decides whether a namespace is to be noted as made by hodei.
func (s *installStep) planClaim() {
	if s.live != nil && (s.live.GetAnnotations()[deploy.AnnotationCreatedBy] == fieldManager || !madeByHodei(s.live)) {
		return
	}
	s.claim = true
	annotations := s.result.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[deploy.AnnotationCreatedBy] = fieldManager
	s.result.SetAnnotations(annotations)
}

// prunable are the kinds of which a stale object is deleted. A namespace may hold
// what is not ours, so none ever is.
var prunable = []struct {
	kind       string
	namespaced bool
}{
	{"NetworkPolicy", true}, {"ResourceQuota", true}, {"LimitRange", true},
	{"RoleBinding", true}, {"Role", true}, {"ServiceAccount", true}, {"ClusterRole", false},
}

// pruneNamespaces are the namespaces of objects.
func pruneNamespaces(objects []*unstructured.Unstructured) []string {
	var namespaces []string
	for _, object := range objects {
		if object.GetKind() == "Namespace" {
			namespaces = append(namespaces, object.GetName())
		}
	}
	return namespaces
}

// findStale returns what an install, of another version or with other choices, has
// applied and this one would not.
func (c *manifestClient) findStale(ctx context.Context, objects []*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
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
	errs := make([]error, len(places))
	inParallel(len(places), func(i int) {
		// Without a namespace it is all of them: only ClusterRole has none.
		list, err := c.dynamic.Resource(manifestResources[places[i].kind]).Namespace(places[i].namespace).
			List(ctx, metav1.ListOptions{LabelSelector: deploy.Selector})
		if errs[i] = err; err == nil {
			found[i] = list.Items
		}
	})
	if err := firstError(errs); err != nil {
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

// isApplied tells what hodei install has applied, or kubectl in its name, from what
// only has the same labels.
func isApplied(object metav1.Object) bool {
	return slices.ContainsFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == fieldManager && e.Operation == metav1.ManagedFieldsOperationApply
	})
}

// errDiffers is the end of a diff that is not empty.
var errDiffers = &exitError{code: 1}

// asDiff gives the error of a diff that could not be made a code of its own, as
// diff and kubectl diff do.
func asDiff(err error) error {
	if err == nil || errors.Is(err, errDiffers) {
		return err
	}
	return &exitError{code: exitUsage, err: err}
}

// diff writes what would change, and returns errDiffers if anything would.
func (p *installPlan) diff(w io.Writer) error {
	var all []byte
	for _, step := range p.steps {
		result := step.result
		if result == nil {
			result = step.object
		}
		changed, err := diffObject(step.live, result)
		if err != nil {
			return err
		}
		all = append(all, changed...)
	}
	for _, object := range p.prune {
		changed, err := diffObject(object, nil)
		if err != nil {
			return err
		}
		all = append(all, changed...)
	}
	if len(all) == 0 {
		return nil
	}
	if _, err := w.Write(all); err != nil {
		return err
	}
	return errDiffers
}

// diffObject is the unified diff of an object; nil is one that is not there.
func diffObject(live, result *unstructured.Unstructured) ([]byte, error) {
	named := result
	if named == nil {
		named = live
	}
	before, err := diffText(live)
	if err != nil {
		return nil, err
	}
	after, err := diffText(result)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(named.GetKind()) + "/" + named.GetName()
	if namespace := named.GetNamespace(); namespace != "" {
		name = namespace + "/" + name
	}
	return diff.Diff("live/"+name, before, "installed/"+name, after), nil
}

// diffText is an object without what the API server writes into it by itself.
func diffText(object *unstructured.Unstructured) ([]byte, error) {
	if object == nil {
		return nil, nil
	}
	object = object.DeepCopy()
	for _, field := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
		unstructured.RemoveNestedField(object.Object, "metadata", field)
	}
	unstructured.RemoveNestedField(object.Object, "status")
	return yaml.Marshal(object.Object)
}
