package setup

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/hodei-jobs/hodei/deploy"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// Installer installs hodei in a cluster, in this order: CheckRights, Plan, Apply, Prune,
// Await. Plan alone, or with CheckRights, changes nothing.
type Installer struct {
	Client *Client
	// Choices say what is installed; the zero value is the manifests as they are.
	Choices deploy.Options
	// Force takes over fields that somebody else has set.
	Force bool
	Hints Hints
}

// chosen returns what the choices make, and the rights that it grants.
func (i *Installer) chosen() (objects []*unstructured.Unstructured, granted []deploy.Right, err error) {
	if objects, err = deploy.Objects(i.Choices); err != nil {
		return nil, nil, err
	}
	granted, err = deploy.Rights(i.Choices)
	return objects, granted, err
}

// CheckRights returns an error that names every right that the caller needs to install and does not have.
func (i *Installer) CheckRights(ctx context.Context) error {
	objects, granted, err := i.chosen()
	if err != nil {
		return err
	}
	missing, err := i.Client.missingToInstall(ctx, objects, granted)
	if err != nil {
		return err
	}
	return i.Client.refuse(ctx, missing, i.Hints.ByAdministrator)
}

// MayPlan reports whether the caller may apply the objects. Plan needs these rights to ask what would change.
// Installing may need more: nobody may grant rights that they don't have.
func (i *Installer) MayPlan(ctx context.Context) (bool, error) {
	objects, err := deploy.Objects(i.Choices)
	if err != nil {
		return false, err
	}
	missing, err := i.Client.Missing(ctx, installRights(objects))
	return len(missing) == 0, err
}

// Apply applies the plan's objects in their order, and calls applied with each object that the API server returned. It
// stops at the first error, also at one from applied.
func (i *Installer) Apply(ctx context.Context, plan *Plan, applied func(*unstructured.Unstructured) error) error {
	for _, step := range plan.Steps {
		object, err := i.Client.applyStep(ctx, step, i.Force)
		if err != nil {
			return i.explain(ctx, []problem{{step.Object, err}})
		}
		if err := applied(object); err != nil {
			return err
		}
	}
	return nil
}

// applyStep applies one object.
func (c *Client) applyStep(ctx context.Context, step Step, force bool) (*unstructured.Unstructured, error) {
	var err error
	switch {
	case step.claim && step.Live == nil:
		err = c.createNamespace(ctx, step.Object.GetName())
	case step.claim:
		err = c.claimNamespace(ctx, step.Live)
	}
	if err != nil {
		return nil, err
	}
	return c.apply(ctx, step.Object, applyOptions{force: force})
}

// Prune deletes the plan's stale objects, and calls pruned with each. It stops at the first error, also at one from
// pruned. An object that is gone already is no error.
func (i *Installer) Prune(ctx context.Context, plan *Plan, pruned func(*unstructured.Unstructured) error) error {
	for _, object := range plan.Prune {
		if err := i.Client.delete(ctx, object); err != nil && !apierrors.IsNotFound(err) {
			return kubernetes.Explain(fmt.Errorf("delete %s: %w", describe(object), err))
		}
		if err := pruned(object); err != nil {
			return err
		}
	}
	return nil
}
