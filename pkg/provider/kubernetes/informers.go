package kubernetes

import (
	"context"
	"sync/atomic"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// watch starts the informers. They live until Close.
func (r *Run) watch(ctx context.Context) {
	c, namespace, name := r.provider.client, r.provider.settings.Namespace, r.spec.Name
	r.inform(ctx, &corev1.Pod{}, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.LabelSelector = manifest.LabelJob + "=" + name
			return c.CoreV1().Pods(namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector = manifest.LabelJob + "=" + name
			return c.CoreV1().Pods(namespace).Watch(ctx, o)
		},
	}, &right{resource: "pods"}, func(o any, gone bool) any { return podUpdate{o.(*corev1.Pod), gone} })
	jobs := r.inform(ctx, &batchv1.Job{}, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = "metadata.name=" + name
			return c.BatchV1().Jobs(namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = "metadata.name=" + name
			return c.BatchV1().Jobs(namespace).Watch(ctx, o)
		},
	}, &right{group: "batch", resource: "jobs"}, func(o any, gone bool) any { return jobUpdate{o.(*batchv1.Job), gone} })
	if r.found != nil {
		r.work.Go(ctx, func(ctx context.Context) { r.checkThere(ctx, jobs) })
	}
	r.watchEvents(ctx, "Job", name)
}

// checkThere tells of a Job that was found and deleted before its informer saw it:
// no update would come of it.
func (r *Run) checkThere(ctx context.Context, jobs cache.SharedIndexInformer) {
	if !cache.WaitFor(ctx, "", jobs.HasSyncedChecker()) {
		return
	}
	for _, o := range jobs.GetStore().List() {
		if j, ok := o.(*batchv1.Job); ok && j.UID == r.job.UID {
			return
		}
	}
	r.send(ctx, jobUpdate{r.job, true})
}

// watchEvents follows what the cluster says about one object. It explains a
// start that hangs; without the right to read events we do without, and say so of
// a start that hangs for no other reason that is known.
func (r *Run) watchEvents(ctx context.Context, kind, name string) {
	c, namespace := r.provider.client, r.provider.settings.Namespace
	selector := fields.Set{"involvedObject.kind": kind, "involvedObject.name": name}.String()
	r.inform(ctx, &corev1.Event{}, &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector = selector
			return c.CoreV1().Events(namespace).List(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.FieldSelector = selector
			return c.CoreV1().Events(namespace).Watch(ctx, o)
		},
	}, nil, func(o any, gone bool) any {
		if gone {
			return nil
		}
		return o
	})
}

// inform runs one informer. If it can't be done without, its right is given, whose absence
// from the beginning ends the job; other errors are tried again, with back-off, by
// client-go, and looked into by doubt.
func (r *Run) inform(
	ctx context.Context, object runtime.Object, source *cache.ListWatch, required *right, update func(o any, gone bool) any,
) cache.SharedIndexInformer {
	send := func(ctx context.Context, o any, gone bool) {
		if tomb, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = tomb.Obj
		}
		if u := update(o, gone); u != nil {
			r.send(ctx, u)
		}
	}
	var granted atomic.Bool // once a watch has begun: it takes more rights than a list
	if required != nil {
		source = r.doubted(source, *required, &granted)
	}
	informer := cache.NewSharedIndexInformer(source, object, 0, nil)
	// Errors only from an informer that has started already.
	_ = informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		switch {
		case required != nil && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
			if !granted.Load() { // else doubt waits until it is granted again
				r.send(ctx, refusal{err})
			}
		case apierrors.IsForbidden(err):
			r.send(ctx, blindness{err})
		}
	})
	r.work.Go(ctx, func(ctx context.Context) {
		_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { send(ctx, o, false) },
			UpdateFunc: func(_, o any) { send(ctx, o, false) },
			DeleteFunc: func(o any) { send(ctx, o, true) },
		})
		informer.RunWithContext(ctx)
	})
	return informer
}

// doubted is a source whose errors doubt looks into, and that notes in granted when a watch has
// begun. The informer itself does not report all errors, for example a refused connection.
func (r *Run) doubted(source *cache.ListWatch, of right, granted *atomic.Bool) *cache.ListWatch {
	list, watches := of, of
	list.verb, watches.verb = "list", "watch"
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			objects, err := source.ListWithContextFunc(ctx, o)
			r.doubt(ctx, list, err)
			return objects, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			changes, err := source.WatchFuncWithContext(ctx, o)
			if err == nil {
				granted.Store(true)
			}
			r.doubt(ctx, watches, err)
			return changes, err
		},
	}
}

// send hands an update to Watch, and drops it when ctx ends before Watch takes it.
func (r *Run) send(ctx context.Context, u any) {
	select {
	case r.updates <- u:
	case <-ctx.Done():
	}
}
