package setup

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/deploy"
)

// createNamespace makes a namespace, and notes on it that hodei made it: uninstall deletes only such a namespace. If
// somebody else has made the namespace meanwhile, it stays theirs.
func (c *Client) createNamespace(ctx context.Context, name string) error {
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: map[string]string{deploy.AnnotationCreatedBy: FieldManager},
	}}, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// claimNamespace adds that note to a namespace that hodei made without it: with kubectl, or by an older version.
func (c *Client) claimNamespace(ctx context.Context, namespace metav1.Object) error {
	// The version is a precondition, because madeByHodei was decided by this version of the object.
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"resourceVersion": namespace.GetResourceVersion(),
		"annotations":     map[string]string{deploy.AnnotationCreatedBy: FieldManager},
	}})
	if err != nil {
		return err
	}
	options := metav1.PatchOptions{FieldManager: FieldManager}
	if _, err := c.CoreV1().Namespaces().Patch(ctx, namespace.GetName(), types.MergePatchType, patch, options); err != nil {
		return fmt.Errorf("annotate namespace %s: %w", namespace.GetName(), err)
	}
	return nil
}

// madeByHodei reports whether hodei made a namespace. Its note says so. If the manifests made the namespace without
// hodei install, there is no note, and the managed fields decide: the API server records there who set which field, and
// when. A POST that creates a namespace also sets the label kubernetes.io/metadata.name. A server-side apply that
// creates one does not set it, and a later apply leaves the creator's entry as it is. So the namespace is ours if, in
// the second in which it was created,
//
//   - hodei applied it, nobody else did, and nobody set that label, or
//   - whoever set that label set ours too, as kubectl apply of the manifests does.
//
// An entry has the time of its last change, so a later change may hide who was first. A namespace of which nobody can
// tell counts as somebody else's, because keeping it does less harm than deleting it.
func madeByHodei(namespace metav1.Object) bool {
	if namespace.GetAnnotations()[deploy.AnnotationCreatedBy] == FieldManager {
		return true
	}
	created := namespace.GetCreationTimestamp()
	applied := false
	for _, entry := range namespace.GetManagedFields() {
		if entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		fields := entry.FieldsV1.GetRawString()
		first := entry.Time != nil && entry.Time.Equal(&created)
		switch {
		case strings.Contains(fields, `"f:`+corev1.LabelMetadataName+`"`):
			return first && strings.Contains(fields, `"f:app.kubernetes.io/part-of"`)
		case entry.Operation != metav1.ManagedFieldsOperationApply:
		case entry.Manager != FieldManager:
			return false
		default:
			applied = first
		}
	}
	return applied
}
