package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/explain"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/manifest"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// suspendedUnderWay is said of a run whose Job was suspended: Kubernetes deletes its Pod,
// and makes another once the Job is resumed. suspendedByHand is said where the end of that
// Pod may be the Job's instead, by its podFailurePolicy, if Kubernetes sees how the Pod ended before it
// looks at the suspension.
const (
	suspendedUnderWay = "the job was suspended under way, and will run again when it is resumed"
	suspendedByHand   = "the job was suspended under way: it has failed, or runs again when it is resumed"
)

// suspendedWords is what is said of this job when it is suspended under way.
func (r *Run) suspendedWords() string {
	if r.job.Labels[manifest.LabelQueue] == "" && r.spec.Retries == 0 {
		return suspendedByHand
	}
	return suspendedUnderWay
}

// ResumeHint is what to type after the end of a run whose job was suspended under
// way; of any other outcome it is "".
func ResumeHint(o *job.Outcome, name string) string {
	if o.Cause == job.Preempted && strings.Contains(o.Message, suspendedUnderWay) {
		return "follow it on: {hodei} attach " + name
	}
	return ""
}

// suspendedVerdict is what is said of a Job that is suspended.
func suspendedVerdict(j *batchv1.Job) explain.Verdict {
	if queue := j.Labels[manifest.LabelQueue]; queue != "" {
		return explain.Verdict{Waiting: "queue " + explain.OneLine(queue) + " has not admitted the job yet"}
	}
	return explain.Verdict{Waiting: "the job is suspended"}
}

// Suspended says of a job that it is suspended, so that no command of it runs; nil: it is not. One in a queue is resumed
// by that.
func (f *Found) Suspended() error {
	if f.Job == nil || !isSuspended(f.Job) {
		return nil
	}
	name := shell.Quote(f.Job.Name)
	hint := "{hodei} wait --for running " + name
	if f.Job.Labels[manifest.LabelQueue] == "" {
		hint = fmt.Sprintf(`resume it: kubectl patch job %s -n %s --type merge -p '{"spec":{"suspend":false}}'`, name, f.Job.Namespace)
	}
	return &job.Hinted{Err: fmt.Errorf("job %s is suspended, and no command of it runs", name), Hint: hint}
}

func isSuspended(j *batchv1.Job) bool { return j.Spec.Suspend != nil && *j.Spec.Suspend }

// wasSuspended reports whether a Job is suspended, or was at some time. Its start time tells
// when it was resumed, but a moment late; nothing tells whether it ran before.
func wasSuspended(j *batchv1.Job) bool {
	return isSuspended(j) ||
		slices.ContainsFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == batchv1.JobSuspended })
}

// isSuspended asks for the Job. Without an answer, what is known of the Pod has to do.
func (r *Run) isSuspended(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, goneWait)
	defer cancel()
	j, err := r.provider.client.BatchV1().Jobs(r.job.Namespace).Get(ctx, r.job.Name, metav1.GetOptions{})
	return err == nil && j.UID == r.job.UID && isSuspended(j)
}
