package setup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// problem is why an object can't be applied.
type problem struct {
	object *unstructured.Unstructured
	err    error
}

// explain returns an error that says what can't be applied, with a hint. It names all conflicts, because one flag
// solves them together. Of other problems it names the first.
func (i *Installer) explain(ctx context.Context, problems []problem) error {
	var conflicts []string
	for _, p := range problems {
		if !apierrors.IsConflict(p.err) {
			return i.explainOne(ctx, p)
		}
		conflicts = append(conflicts, describeConflict(p))
	}
	err := fmt.Errorf("somebody else has set what would be applied: %s", strings.Join(conflicts, "; "))
	hint := i.Hints.Conflict
	if i.Hints.Profile != "" && strings.Contains(err.Error(), "pod-security.kubernetes.io/") {
		hint = i.Hints.Profile + "; " + hint
	}
	return &job.Hinted{Err: err, Hint: hint}
}

func (i *Installer) explainOne(ctx context.Context, p problem) error {
	// Rights that a webhook grants count in an access review, and not when RBAC checks what a role grants.
	if strings.Contains(p.err.Error(), "attempting to grant RBAC permissions not currently held") {
		return &job.Hinted{
			Err: fmt.Errorf("%s grants rights that %s does not have, and Kubernetes lets nobody grant more than they have",
				describe(p.object), i.Client.WhoAmI(ctx)),
			Hint: i.Hints.ByAdministrator,
		}
	}
	if _, told := errors.AsType[*job.Hinted](p.err); told {
		return p.err
	}
	explained := fmt.Errorf("install %s: %w", describe(p.object), kubernetes.Explain(p.err))
	if apierrors.IsForbidden(p.err) && !apierrors.HasStatusCause(p.err, corev1.NamespaceTerminatingCause) {
		return &job.Hinted{Err: explained, Hint: i.Hints.ByAdministrator}
	}
	return explained
}

// describeConflict says which fields of an object were set by somebody else, and by whom.
func describeConflict(p problem) string {
	fields := p.err.Error()
	if status, ok := p.err.(apierrors.APIStatus); ok && status.Status().Details != nil {
		var list []string
		for _, cause := range status.Status().Details.Causes {
			if cause.Type != metav1.CauseTypeFieldManagerConflict {
				continue
			}
			// conflict with "kubectl-edit" using v1
			_, manager, _ := strings.Cut(cause.Message, "conflict with ")
			list = append(list, fmt.Sprintf("%s by %s", cause.Field, manager))
		}
		if len(list) > 0 {
			fields = job.Words(list)
		}
	}
	return describe(p.object) + ": " + fields
}
