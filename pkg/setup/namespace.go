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

// createNamespace makes a namespace, and notes on it that hodei has: uninstall
// deletes no other. One that somebody else has made meanwhile stays theirs.
func (c *Client) createNamespace(ctx context.Context, name string) error {
	_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: map[string]string{deploy.AnnotationCreatedBy: FieldManager},
	}}, metav1.CreateOptions{FieldManager: FieldManager})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// claimNamespace notes that hodei has made a namespace that was made without the
// note, by kubectl or an older version.
func (c *Client) claimNamespace(ctx context.Context, namespace metav1.Object) error {
	// The version is a precondition: what was concluded is of this one.
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

// madeByHodei tells whether a namespace came with hodei: by its note, or, of one
// that the manifests made without hodei install, by what the API server keeps of
// who set which field and when. Whoever creates a namespace with a POST sets the
// label kubernetes.io/metadata.name, by default; a server-side apply that creates
// one does not, and one that comes later leaves the creator's entry. So it is ours
// if, in the second in which it was created,
//
//   - hodei has applied it, nobody else has, and nobody has set that label, or
//   - who has set that label has set ours too: kubectl apply of the manifests.
//
// An entry's time is that of its last change, so that later nobody may be able to
// say. What is not known counts as somebody else's: a namespace that stays is less
// harm than one that is gone.
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
