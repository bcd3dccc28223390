package kubernetes

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
)

// ErrNotFound is under the Failure of a job that is not in the cluster.
var ErrNotFound = errors.New("job not found")

// Found is a job that is in the cluster, as it was when it was looked for.
type Found struct {
	// Job is the Job itself.
	Job *batchv1.Job
	// Spec is what was asked for, with defaults.
	Spec *job.Spec
	// Attempts are those whose Pods are there, the oldest first.
	Attempts []Attempt
	// Finished tells that no other attempt follows, and Outcome how it ended: never
	// nil then, and nil before. The Job itself may wait for containers of others, which
	// the last attempt names.
	Finished bool
	Outcome  *job.Outcome
}

// Attempt is one Pod of a job.
type Attempt struct {
	// Name and UID of the Pod; the agent says hello with both.
	Name, UID string
	Created   time.Time
	// Running tells that its agent runs and can be attached to, be it that the
	// command has ended and only its output is left.
	Running bool
	// MayRun tells of an attempt that is not Running that its agent may be there all the same: the Pod has a node, and
	// says of nothing that keeps it from starting. A Pod's status is up to some seconds old.
	MayRun bool
	// Started tells that its command was started, by what the Pod says, which may be some seconds old.
	Started bool
	// Left tells that of a Running attempt only its output is left: the command has ended.
	Left bool
	// LeftCode is the exit code of the container in which the command of a Left attempt ran: the launcher makes it that
	// of the attempt's Outcome.
	LeftCode int
	// Ended tells that its agent and its command have, and Outcome how: never nil then, and
	// nil before.
	Ended   bool
	Outcome *job.Outcome
	// Others are containers that the cluster added to the Pod of an attempt that has Ended:
	// they keep the Job from completing until they end.
	Others []string
	// Phases are those of its start that the cluster still knows.
	Phases []job.Event

	waits string // why its command has not started; "" where that is not known
	bound bool   // to a node, whose kubelet gives it its certificates
}

// Find looks for the job of that name. A *job.Failure is returned for one that is
// not there, with ErrNotFound under it, and for a cluster that can't be asked;
// another error for a Job that hodei did not make.
func (p *Provider) Find(ctx context.Context, name string) (*Found, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	namespace := p.settings.Namespace
	j, err := p.client.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, &job.Failure{Cause: job.ConfigError, Err: ErrNotFound,
			Message: fmt.Sprintf("job %q not found in namespace %s", name, namespace), Hint: "{hodei} jobs -n " + namespace}
	case err != nil:
		return nil, explain.Error(err)
	}
	spec, err := manifest.SpecOf(j)
	if err != nil {
		return nil, err
	}
	pods, err := p.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: manifest.LabelJob + "=" + name})
	if err != nil {
		return nil, explain.Error(err)
	}
	found := newFound(j, spec, pods.Items)
	if o := found.Outcome; o != nil && o.NeverStarted {
		for i := range pods.Items {
			if pods.Items[i].Name == o.Attempt {
				found.Outcome = p.withWords(ctx, &pods.Items[i], o)
			}
		}
	}
	return found, nil
}

// FindAll looks for the jobs whose labels match the selector, in kubectl's syntax;
// "" is all of them. They come in the order in which they were made. A Job that
// hodei did not make is passed over. Errors are a *job.Failure.
func (p *Provider) FindAll(ctx context.Context, selector string) ([]*Found, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	ours := manifest.LabelManagedBy + "=" + manifest.ManagedBy
	jobs, err := p.client.BatchV1().Jobs(p.settings.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: strings.TrimSuffix(ours+","+selector, ","),
	})
	if err != nil {
		return nil, explain.Error(err)
	}
	if len(jobs.Items) == 0 {
		return nil, nil
	}
	// Labels of a user's are on the Job alone. All Pods are one request, too.
	pods, err := p.client.CoreV1().Pods(p.settings.Namespace).List(ctx, metav1.ListOptions{LabelSelector: ours})
	if err != nil {
		return nil, explain.Error(err)
	}
	owned := map[types.UID][]corev1.Pod{}
	for _, pod := range pods.Items {
		if owner := metav1.GetControllerOfNoCopy(&pod); owner != nil {
			owned[owner.UID] = append(owned[owner.UID], pod)
		}
	}
	var found []*Found
	for i := range jobs.Items {
		j := &jobs.Items[i]
		if spec, err := manifest.SpecOf(j); err == nil {
			found = append(found, newFound(j, spec, owned[j.UID]))
		}
	}
	slices.SortStableFunc(found, func(a, b *Found) int {
		return cmp.Or(a.Job.CreationTimestamp.Compare(b.Job.CreationTimestamp.Time), strings.Compare(a.Job.Name, b.Job.Name))
	})
	return found, nil
}

// newFound puts together what the Job and its Pods say. Pods of others, such as an
// earlier job of the name, are passed over.
func newFound(j *batchv1.Job, spec *job.Spec, pods []corev1.Pod) *Found {
	f := &Found{Job: j, Spec: spec}
	for i := range pods {
		if metav1.IsControlledBy(&pods[i], j) {
			f.Attempts = append(f.Attempts, newAttempt(&pods[i]))
			f.Attempts[len(f.Attempts)-1].Phases = podPhases(j, &pods[i], spec.Retries == 0)
		}
	}
	slices.SortStableFunc(f.Attempts, func(a, b Attempt) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	outcome, over := jobEnd(j)
	if outcome == nil && over == "" {
		f.Outcome = f.keptEnd()
		f.Finished = f.Outcome != nil
		return f
	}
	f.Finished = true
	for _, a := range slices.Backward(f.Attempts) {
		if outcome == nil && a.Ended {
			outcome = a.Outcome
		}
	}
	if f.Outcome = outcome; outcome == nil {
		f.Outcome = &job.Outcome{Cause: job.Unknown, Message: over}
	}
	return f
}

// keptEnd returns how a job ended if its Job does not say so only because another container
// runs on; nil: it has not ended.
func (f *Found) keptEnd() *job.Outcome {
	n := len(f.Attempts)
	if n == 0 || f.Job.Spec.Suspend != nil && *f.Job.Spec.Suspend {
		return nil
	}
	a := f.Attempts[n-1]
	if a.Ended && a.Started && len(a.Others) > 0 && (f.Spec.Retries == 0 || a.Outcome.Succeeded()) {
		return a.Outcome
	}
	return nil
}

func newAttempt(pod *corev1.Pod) Attempt {
	a := Attempt{Name: pod.Name, UID: string(pod.UID), Created: pod.CreationTimestamp.Time, Started: hasRun(pod)}
	if a.Ended = hasEnded(pod); a.Ended {
		a.Outcome = podOutcome(pod)
		a.Outcome.Attempt = pod.Name
		a.Others = OthersLeft(pod)
		return a
	}
	if v := explain.Pod(pod); v.Failure != nil && !a.Started {
		a.waits = v.Failure.Message
	}
	a.Running, a.bound = explain.AgentRuns(pod), pod.Spec.NodeName != ""
	a.MayRun = !a.Running && !a.Started && a.bound && a.waits == ""
	if end := commandEnd(pod); a.Running && end != nil {
		a.Left, a.LeftCode = true, int(end.ExitCode)
	}
	return a
}

// commandEnd is how the job's container ended; nil: it has not.
func commandEnd(pod *corev1.Pod) *corev1.ContainerStateTerminated {
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == manifest.JobContainer {
			return s.State.Terminated
		}
	}
	return nil
}

// hasRun tells that the job's container was started, and that no agent denies that its
// command was.
func hasRun(pod *corev1.Pod) bool {
	if NeverStarted(pod) {
		return false
	}
	for _, s := range pod.Status.ContainerStatuses {
		ran := s.State.Running != nil || s.State.Terminated != nil && !explain.NeverRan(s.State.Terminated)
		if s.Name == manifest.JobContainer && ran {
			return true
		}
	}
	return false
}

// End returns how a job's latest attempt ended, from what pod still says; nil: it has not
// ended, or pod says nothing.
func End(j *batchv1.Job, pod *corev1.Pod) *job.Outcome {
	if end, _ := jobEnd(j); end != nil {
		return end
	}
	if pod == nil || !hasEnded(pod) {
		return nil
	}
	return podOutcome(pod)
}

// jobEnd is how a Job ended by its own conditions: an outcome where they name the
// cause, else that it has, in words, while its Pods know how. It is nil and "" for
// one that has not.
func jobEnd(j *batchv1.Job) (*job.Outcome, string) {
	for _, c := range j.Status.Conditions {
		if c.Status != corev1.ConditionTrue || c.Type != batchv1.JobFailed && c.Type != batchv1.JobComplete {
			continue
		}
		if c.Reason == batchv1.JobReasonDeadlineExceeded && isUnfinished(j) {
			return &job.Outcome{Cause: job.Unknown, Code: job.ExitFailed, Message: fmt.Sprintf(
				"the hodei that made the job was ended before it was complete, and the cluster ended the job after %s",
				makingSeconds*time.Second)}, ""
		}
		if c.Reason == batchv1.JobReasonDeadlineExceeded {
			return &job.Outcome{Cause: job.DeadlineExceeded, Message: explain.OneLine(c.Message)}, ""
		}
		return nil, strings.TrimSuffix("the job ended without an exit record: "+explain.OneLine(c.Message), ": ")
	}
	return nil, ""
}
