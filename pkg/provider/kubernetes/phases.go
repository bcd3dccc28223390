package kubernetes

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// podPhases is what a Pod still tells of its start, in the order of the times, which
// are the cluster's, in whole seconds. The only attempt that a Job can have began with
// it, one of several with its Pod. When an image was there is not told.
func podPhases(j *batchv1.Job, pod *corev1.Pod, only bool) []job.Event {
	submitted := pod.CreationTimestamp.Time
	if only {
		submitted = j.CreationTimestamp.Time
	}
	events := []job.Event{{Phase: job.Submitted, Time: submitted, Detail: j.Name}}
	add := func(p job.Phase, at time.Time, detail string) {
		if !at.IsZero() {
			events = append(events, job.Event{Phase: p, Time: at, Detail: detail})
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			add(job.Scheduled, c.LastTransitionTime.Time, pod.Spec.NodeName)
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		switch at := began(s.State); s.Name {
		case manifest.AgentContainer:
			add(job.AgentUp, at, pod.Name)
		case manifest.JobContainer:
			if s.State.Terminated == nil || !explain.NeverRan(s.State.Terminated) {
				add(job.Running, at, pod.Name)
			}
		}
	}
	slices.SortStableFunc(events, func(a, b job.Event) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Phase, b.Phase))
	})
	return events
}

// began is when a container did; zero if it has not.
func began(s corev1.ContainerState) time.Time {
	switch {
	case s.Running != nil:
		return s.Running.StartedAt.Time
	case s.Terminated != nil:
		return s.Terminated.StartedAt.Time
	}
	return time.Time{}
}
