package setup

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Uninstaller takes hodei out of a cluster, in this order: Find, CheckRights, Remove what was found, Await, Remove the
// namespaces that stay. Find and CheckRights change nothing.
type Uninstaller struct {
	Client *Client
	// WorkersNamespace is the only namespace of jobs to remove; empty: all are removed. With the last one goes what all
	// of them share.
	WorkersNamespace string
	Hints            Hints
}

// Remove does the removals in their order, and calls removed after each. It stops at the first error, also at one from
// removed. An object that is gone already is no error. With dryRun the API server checks each removal, and removes
// nothing.
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

// explain returns what kubernetes.Explain does, with another hint for a missing right: Explain's is about running jobs.
func (u *Uninstaller) explain(err error) error {
	if _, told := errors.AsType[*job.Hinted](err); told {
		return err
	}
	if apierrors.IsForbidden(err) {
		return &job.Hinted{Err: kubernetes.Explain(err), Hint: u.Hints.ByAdministrator}
	}
	return kubernetes.Explain(err)
}
