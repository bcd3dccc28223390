package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// goneEvery is the time between two looks at what is being deleted; a namespace
// takes seconds.
const goneEvery = 500 * time.Millisecond

// remove does one removal. What is gone already is no error.
func (c *manifestClient) remove(ctx context.Context, r removal, dryRun bool) error {
	switch r.how {
	case withNamespace:
		return nil
	case release:
		return c.release(ctx, r.object.GetName(), dryRun)
	}
	uid, background := r.object.GetUID(), metav1.DeletePropagationBackground
	err := c.dynamic.Resource(r.resource).Namespace(r.object.GetNamespace()).Delete(ctx, r.object.GetName(), metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &uid}, PropagationPolicy: &background, DryRun: dryRunAll(dryRun),
	})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// release takes out of a namespace what hodei has set: what it has applied, by
// applying nothing, and the labels that make it one of hodei's, whoever set them.
func (c *manifestClient) release(ctx context.Context, name string, dryRun bool) error {
	empty := &unstructured.Unstructured{}
	empty.SetAPIVersion("v1")
	empty.SetKind("Namespace")
	empty.SetName(name)
	left, err := c.apply(ctx, empty, applyOptions{dryRun: dryRun})
	if err != nil {
		return err
	}
	if left.GetLabels()["app.kubernetes.io/part-of"] != "hodei" {
		return nil
	}
	_, err = c.CoreV1().Namespaces().Patch(ctx, name, types.MergePatchType,
		[]byte(`{"metadata":{"labels":{"app.kubernetes.io/name":null,"app.kubernetes.io/part-of":null}}}`),
		metav1.PatchOptions{FieldManager: fieldManager, DryRun: dryRunAll(dryRun)})
	return err
}

// await returns when everything is gone, the Pods of jobs too.
func (o *uninstallOptions) await(ctx context.Context, c *manifestClient, found *installed) error {
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	var left string
	err := wait.PollUntilContextCancel(ctx, goneEvery, true, func(ctx context.Context) (bool, error) {
		var err error
		left, err = c.left(ctx, found)
		return err == nil && left == "", err
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) && left != "" {
		return &hinted{
			err:  fmt.Errorf("still there after %s: %s; the cluster goes on deleting", o.timeout, left),
			hint: "wait longer with --timeout, or see what holds it: kubectl get namespaces -o yaml",
		}
	}
	if err != nil {
		return kubernetes.Explain(err)
	}
	return nil
}

// left names one thing that is still there; "": nothing is.
func (c *manifestClient) left(ctx context.Context, found *installed) (string, error) {
	for _, r := range found.removals {
		if r.how != deleted {
			continue
		}
		live, err := c.dynamic.Resource(r.resource).Namespace(r.object.GetNamespace()).Get(ctx, r.object.GetName(), metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return "", err
		case live.GetUID() == r.object.GetUID():
			return describe(r.object) + remaining(live), nil
		}
	}
	for _, namespace := range found.kept {
		pods, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob})
		if err != nil {
			return "", err
		}
		secrets, err := c.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: kubernetes.LabelJob})
		if err != nil {
			return "", err
		}
		if n := len(pods.Items) + len(secrets.Items); n > 0 {
			return fmt.Sprintf("%d pods and secrets of jobs in namespace %s", n, namespace), nil
		}
	}
	return "", nil
}

// remaining says what of a namespace is left, by its own conditions.
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
