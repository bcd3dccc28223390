package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// goneEvery is how often we look whether deleted objects are gone. A namespace takes seconds.
const goneEvery = 500 * time.Millisecond

// remove does one removal. An object that is gone already is no error.
func (c *Client) remove(ctx context.Context, r Removal, dryRun bool) error {
	switch r.way {
	case deleteWithNamespace:
		return nil
	case releaseNamespace:
		return c.release(ctx, r.Object, dryRun)
	}
	uid, background := r.Object.GetUID(), metav1.DeletePropagationBackground
	err := c.dynamic.Resource(r.resource).Namespace(r.Object.GetNamespace()).Delete(ctx, r.Object.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background, DryRun: dryRunAll(dryRun),
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// release removes from a namespace what hodei has set. Applying nothing removes the fields that hodei has applied; a
// patch removes the labels by which hodei knows its namespaces, whoever set them.
func (c *Client) release(ctx context.Context, namespace metav1.Object, dryRun bool) error {
	empty := &unstructured.Unstructured{}
	empty.SetAPIVersion("v1")
	empty.SetKind("Namespace")
	empty.SetName(namespace.GetName())
	empty.SetUID(namespace.GetUID()) // without it, a namespace that is gone meanwhile would be created again
	left, err := c.apply(ctx, empty, applyOptions{dryRun: dryRun})
	if err != nil {
		return err
	}
	if left.GetLabels()[deploy.LabelPartOf] != "hodei" {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": releasedFields(left)})
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: FieldManager, DryRun: dryRunAll(dryRun)}
	_, err = c.CoreV1().Namespaces().Patch(ctx, namespace.GetName(), types.MergePatchType, patch, options)
	return err
}

// releasedFields returns a merge patch that removes what hodei install has not applied: the two labels, and, if kubectl
// apply of the manifests has set them, the other labels of the manifests and kubectl's annotation.
func releasedFields(namespace metav1.Object) map[string]any {
	labels := map[string]any{deploy.LabelName: nil, deploy.LabelPartOf: nil}
	fields := map[string]any{"labels": labels}
	for _, entry := range namespace.GetManagedFields() {
		if entry.Manager != "kubectl-client-side-apply" || entry.FieldsV1 == nil {
			continue
		}
		set := func(name string) bool { return strings.Contains(entry.FieldsV1.GetRawString(), `"f:`+name+`"`) }
		if !set(deploy.LabelPartOf) {
			continue
		}
		for _, label := range deploy.PodSecurityLabels {
			if set(label) {
				labels[label] = nil
			}
		}
		if set(corev1.LastAppliedConfigAnnotation) {
			fields["annotations"] = map[string]any{corev1.LastAppliedConfigAnnotation: nil}
		}
	}
	return fields
}

// Await returns when everything that was found is gone, with the Pods of jobs. After timeout, or when ctx ends, it
// returns an error that names what is still there.
func (u *Uninstaller) Await(ctx context.Context, found *Found, timeout time.Duration) error {
	left, err := awaitNothing(ctx, goneEvery, timeout, func(ctx context.Context) (string, error) { return u.Client.left(ctx, found) })
	hint := "see what holds it: kubectl get namespaces -o yaml"
	if len(found.Released) > 0 {
		hint += "; and when it is gone, for the namespaces that stay: " + u.Hints.Again
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &job.Hinted{Err: fmt.Errorf("still there after %s: %s; the cluster goes on deleting", timeout, left), Hint: hint}
	case errors.Is(err, context.Canceled):
		return &job.Hinted{Err: fmt.Errorf("interrupted, and still there: %s; the cluster goes on deleting", left), Hint: hint}
	case err != nil:
		return u.explain(err)
	}
	return nil
}

// left names one object that is still there; empty: all are gone.
func (c *Client) left(ctx context.Context, found *Found) (string, error) {
	for _, r := range found.Removals {
		if r.way != deleteObject {
			continue
		}
		live, err := c.dynamic.Resource(r.resource).Namespace(r.Object.GetNamespace()).Get(ctx, r.Object.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return "", err
		case live.GetUID() == r.Object.GetUID():
			return describe(r.Object) + remaining(live), nil
		}
	}
	for _, r := range found.Released {
		namespace := r.Object.GetName()
		pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob})
		if err != nil {
			return "", err
		}
		secrets, err := c.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob})
		if err != nil {
			return "", err
		}
		if n := len(pods.Items) + len(secrets.Items); n > 0 {
			return fmt.Sprintf("pods and secrets of jobs in namespace %s (%d)", namespace, n), nil
		}
	}
	return "", nil
}

// remaining says what is left of a namespace, in the words of its own conditions.
func remaining(live *unstructured.Unstructured) string {
	conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	var text strings.Builder
	for _, condition := range conditions {
		c, ok := condition.(map[string]any)
		if ok && c["status"] == string(corev1.ConditionTrue) {
			fmt.Fprintf(&text, " (%v)", c["message"])
		}
	}
	return text.String()
}
