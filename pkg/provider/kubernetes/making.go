package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// A job is a Job and a Secret, or two, made one after the other: the Job first, so that the Secret has
// an owner from its beginning. hodei may be killed in between, and a Pod whose Secret never
// comes has no agent that could end it. So the Job is made with a deadline that the cluster
// keeps, and hodei removes the deadline once the Secret exists.

// makingSeconds is that deadline. It leaves room for both requests, which requestTimeout
// bounds. It is less than any backstop, so the two can't be mistaken for each other.
const makingSeconds = 120

// completeEvery is the pause between two tries to take the deadline away.
const completeEvery = time.Second

// unfinished returns a Job as it is made, with that deadline.
func unfinished(final *batchv1.Job) *batchv1.Job {
	j := final.DeepCopy()
	j.Spec.ActiveDeadlineSeconds = new(int64(makingSeconds))
	return j
}

// isUnfinished reports whether a Job still has the deadline that it was made with.
func isUnfinished(j *batchv1.Job) bool {
	d := j.Spec.ActiveDeadlineSeconds
	return d != nil && *d == makingSeconds
}

// isHeld reports whether a Job has the deadline of one whose command's start is held.
func isHeld(j *batchv1.Job) bool {
	spec, err := manifest.SpecOf(j)
	d := j.Spec.ActiveDeadlineSeconds
	return err == nil && spec.Stdin && d != nil && *d == *manifest.HeldDeadline(spec)
}

// complete gives a Job its final deadline; nil: none.
func (r *Run) complete(ctx context.Context, deadline *int64) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"activeDeadlineSeconds": deadline}})
	if err != nil {
		return err
	}
	_, err = r.provider.client.BatchV1().Jobs(r.job.Namespace).Patch(ctx, r.job.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// keepCompleting is complete in a goroutine of its own until it succeeds, and then calls done, if
// that is not nil, or until ctx ends: a request under way then still has deleteWait. Of two calls the
// later one's deadline counts, whichever of their requests is the last. Whoever has no right to it
// can't have jobs.
func (r *Run) keepCompleting(ctx context.Context, deadline *int64, done func()) {
	r.mu.Lock()
	r.deadline = deadline
	r.mu.Unlock()
	r.work.Go(ctx, func(ctx context.Context) {
		r.completing.Lock()
		defer r.completing.Unlock()
		for {
			r.mu.Lock()
			deadline := r.deadline
			r.mu.Unlock()
			request, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
			stop := context.AfterFunc(ctx, func() { time.AfterFunc(deleteWait, cancel) })
			err := r.complete(request, deadline)
			stop()
			cancel()
			var status apierrors.APIStatus
			switch {
			case err == nil:
				if done != nil {
					done()
				}
				return
			case apierrors.IsNotFound(err): // taken back meanwhile
				return
			case errors.As(err, &status) && refused(err) && !apierrors.IsTooManyRequests(err) && !apierrors.IsConflict(err):
				r.send(ctx, refusal{err})
				return
			}
			select {
			case <-time.After(completeEvery):
			case <-ctx.Done():
				return
			}
		}
	})
}

// createSecret makes one of the job's Secrets.
func (r *Run) createSecret(ctx context.Context, wanted *corev1.Secret) error {
	secrets := r.provider.client.CoreV1().Secrets(wanted.Namespace)
	made, err := secrets.Create(ctx, wanted, metav1.CreateOptions{})
	switch {
	case err == nil:
		r.secrets = append(r.secrets, made)
		return nil
	case !apierrors.IsAlreadyExists(err):
		return err
	}
	there, unread := secrets.Get(ctx, wanted.Name, metav1.GetOptions{})
	switch {
	case unread != nil:
		there = nil // the plain error has to do
	case metav1.IsControlledBy(there, r.job): // the request was sent twice, and answered once
		r.secrets = append(r.secrets, there)
		return nil
	}
	return explain.SecretTaken(err, r.spec.Name, wanted.Name, explain.Holder(there))
}

// MayAllowExec says if a job of this name can have no second Secret, because there is one of that name that is not its
// own. What can't be found out is left to the making of the job.
func (p *Provider) MayAllowExec(ctx context.Context, name string) error {
	secret := manifest.ExecName(name)
	there, err := p.client.CoreV1().Secrets(p.settings.Namespace).Get(ctx, secret, metav1.GetOptions{})
	if err != nil || explain.Holder(there) == name {
		return nil //nolint:nilerr // the making meets it again
	}
	taken := apierrors.NewAlreadyExists(corev1.Resource("secrets"), secret)
	return explain.SecretTaken(taken, name, secret, explain.Holder(there))
}
