package setup

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Uninstaller takes hodei out of a cluster, in this order: Find, CheckRights, Remove of
// what was found, Await, Remove of the namespaces that stay. Find and CheckRights change
// nothing.
type Uninstaller struct {
	Client *Client
	// WorkersNamespace is the only namespace of jobs to remove; with the last one goes
	// what all of them share. "" is all.
	WorkersNamespace string
	Hints            Hints
}

// Remove does the removals in their order, and calls removed after each. It stops at the
// first error, which may be one of removed. What is gone already is no error. With dryRun
// the API server checks each removal, and removes nothing.
func (u *Uninstaller) Remove(ctx context.Context, removals []Removal, dryRun bool, removed func(Removal) error) error {
	for _, r := range removals {
		if err := u.Client.remove(ctx, r, dryRun); err != nil {
			return u.explain(fmt.Errorf("remove %s: %w", describe(r.Object), err))
		}
		if err := removed(r); err != nil {
			return err
		}
	}
	return nil
}

// explain is kubernetes.Explain, whose hint for a right that is missing is about
// running jobs.
func (u *Uninstaller) explain(err error) error {
	if _, told := errors.AsType[*job.Hinted](err); told {
		return err
	}
	if apierrors.IsForbidden(err) {
		return &job.Hinted{Err: kubernetes.Explain(err), Hint: u.Hints.ByAdministrator}
	}
	return kubernetes.Explain(err)
}
