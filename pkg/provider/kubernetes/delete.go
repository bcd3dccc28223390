package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// deleteWait bounds all that a run does to take back what it has made: its caller's end
// waits for it. A cluster answers a deletion within some tens of milliseconds, and one
// that does not is left to collect by itself.
const deleteWait = 2 * time.Second

// Delete removes the Job and all that belongs to it, at once: it is for jobs that
// have not started or have ended, whose Pods have nothing to save. It works even
// after ctx has ended, and takes at most 2 s; a *job.Failure says what may be left, and how to delete it.
func (r *Run) Delete(ctx context.Context) error {
	if r.job == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWait)
	defer cancel()
	c, namespace, name := r.provider.client, r.job.Namespace, r.job.Name
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: precondition(r.job.UID)}
	err := c.BatchV1().Jobs(namespace).Delete(ctx, name, options)
	switch {
	case err == nil, isGone(err):
	case ctx.Err() != nil:
		return &job.Failure{Cause: job.Unknown, Err: err,
			Message: fmt.Sprintf("job %s may be left: the cluster has not answered its deletion within %s", name, deleteWait),
			Hint:    fmt.Sprintf("{hodei} delete -n %s %s", namespace, name)}
	default:
		return explain.Error(fmt.Errorf("delete job %s: %w", name, err))
	}
	// Kubernetes collects the rest by itself; this is sooner, and a Pod whose
	// postStart hook hangs would keep the collector waiting. Rights to it, and an answer
	// in what is left of the time, are not needed for a clean end.
	var rest sync.WaitGroup // one round trip for all of them
	defer rest.Wait()
	for _, s := range r.secrets {
		rest.Go(func() {
			_ = c.CoreV1().Secrets(namespace).Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: precondition(s.UID)})
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for pod := range r.pods {
		rest.Go(func() { _ = c.CoreV1().Pods(namespace).Delete(ctx, pod, *metav1.NewDeleteOptions(0)) })
	}
	return nil
}

// precondition keeps a deletion from hitting another object of the same name.
func precondition(uid types.UID) *metav1.Preconditions { return &metav1.Preconditions{UID: &uid} }

// isGone tells that there is nothing left to delete: no object of that name, or
// another one.
func isGone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// DeleteOptions say how [Provider.Delete] deletes a job. The zero value lets its Pods end as the kubelet ends any Pod.
type DeleteOptions struct {
	// Grace, if not nil, is what the job's command has between SIGTERM and SIGKILL, in place of the job's own.
	Grace *time.Duration
	// AtOnce removes the Pods without waiting for their command to end.
	AtOnce bool
	// Cancelled notes on the Job before that somebody cancels it, so that who follows it or waits for it knows.
	Cancelled bool
	// DryRun has the API server check the deletion of the Job, and nothing else.
	DryRun bool
}

// Delete deletes the Job that was found and all that belongs to it: its Secret, and its Pods with the command that may
// run in them. They end after Delete has returned; the job's name is free for another then. Another job of the same
// name, made since, stays. It is no error that the job is gone already. An error is a *job.Failure.
func (p *Provider) Delete(ctx context.Context, found *Found, o DeleteOptions) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	j := found.Job
	jobs := p.client.BatchV1().Jobs(j.Namespace)
	if o.Cancelled && !o.DryRun {
		p.noteCancelled(ctx, found)
	}
	background := metav1.DeletePropagationBackground
	options := metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: precondition(j.UID)}
	if o.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if err := jobs.Delete(ctx, j.Name, options); err != nil && !isGone(err) {
		return explain.Error(fmt.Errorf("delete job %s: %w", j.Name, err))
	}
	if !o.DryRun {
		p.deleteRest(ctx, found, o)
	}
	return nil
}

// AwaitGone waits until the Job that was found and its Pods are gone, which Delete only begins. The error is ctx's.
func (p *Provider) AwaitGone(ctx context.Context, found *Found) error {
	c, j := p.client, found.Job
	err := awaitNone(ctx, &batchv1.Job{}, func(o metav1.Object) bool { return o.GetUID() == j.UID }, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = "metadata.name=" + j.Name
			return c.BatchV1().Jobs(j.Namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = "metadata.name=" + j.Name
			return c.BatchV1().Jobs(j.Namespace).Watch(ctx, o)
		},
	})
	if err != nil {
		return err
	}
	return awaitNone(ctx, &corev1.Pod{}, func(o metav1.Object) bool { return metav1.IsControlledBy(o, j) }, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = manifest.LabelJob + "=" + j.Name
			return c.CoreV1().Pods(j.Namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = manifest.LabelJob + "=" + j.Name
			return c.CoreV1().Pods(j.Namespace).Watch(ctx, o)
		},
	})
}

// awaitNone waits until none of the objects of a kind that lw lists is one of those that is tells. It tries again after
// errors until ctx ends, whose error it returns.
func awaitNone(ctx context.Context, kind runtime.Object, is func(metav1.Object) bool, lw *cache.ListWatch) error {
	var known cache.Store
	none := func() bool {
		return !slices.ContainsFunc(known.List(), func(o any) bool {
			object, ok := o.(metav1.Object)
			return ok && is(object)
		})
	}
	_, err := watchtools.UntilWithSync(ctx, lw, kind, func(store cache.Store) (bool, error) {
		known = store
		return none(), nil
	}, func(watch.Event) (bool, error) { return none(), nil })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// noteCancelled puts the time into the annotation that says that a Job was cancelled. Without it, for want of a right,
// others learn only that the Job is gone.
func (p *Provider) noteCancelled(ctx context.Context, found *Found) {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid":         found.Job.UID, // of no other job of the name
		"annotations": map[string]string{manifest.AnnotationCancelled: time.Now().UTC().Format(time.RFC3339)},
	}})
	if err != nil {
		return
	}
	_, _ = p.client.BatchV1().Jobs(found.Job.Namespace).Patch(ctx, found.Job.Name, types.MergePatchType, patch, metav1.PatchOptions{})
}

// deleteRest deletes what the cluster would collect by itself, only later: the Secrets, whose names another job of the
// same name needs, and the Pods where they end in another way than by themselves. Without the rights to it the cluster
// does it.
func (p *Provider) deleteRest(ctx context.Context, found *Found, o DeleteOptions) {
	var rest sync.WaitGroup // one round trip for all of them
	defer rest.Wait()
	names := []string{found.Job.Name}
	if found.Spec.Exec {
		names = append(names, manifest.ExecName(found.Job.Name))
	}
	for _, name := range names {
		rest.Go(func() {
			if secret, err := p.jobSecret(ctx, found.Job, name); err == nil {
				_ = p.client.CoreV1().Secrets(secret.Namespace).Delete(ctx, secret.Name,
					metav1.DeleteOptions{Preconditions: precondition(secret.UID)})
			}
		})
	}
	grace := podGrace(o)
	if grace == nil {
		return
	}
	for _, a := range found.Attempts {
		rest.Go(func() {
			options := metav1.DeleteOptions{GracePeriodSeconds: grace, Preconditions: precondition(types.UID(a.UID))}
			_ = p.client.CoreV1().Pods(found.Job.Namespace).Delete(ctx, a.Name, options)
		})
	}
}

// podGrace returns the grace with which Pods are deleted, in seconds; nil: their own.
func podGrace(o DeleteOptions) *int64 {
	switch {
	case o.AtOnce:
		return new(int64(0))
	case o.Grace != nil:
		return new(max(1, int64(math.Ceil(o.Grace.Seconds())))) // 0 would remove the Pod before its containers end
	}
	return nil
}
