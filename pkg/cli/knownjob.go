package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/provider/local"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// knownJob is what cluster and store know of a job.
type knownJob struct {
	name     string
	found    *kubernetes.Found // nil: it is not in the cluster
	absent   error             // why it is not; nil: no cluster was to be asked
	attempts []knownAttempt    // the oldest first
}

// knownAttempt is known by its Pod or by the store, or by both.
type knownAttempt struct {
	name, uid string
	pod       *kubernetes.Attempt
	stored    *logstore.Attempt
}

// find looks for the job in the cluster and in the store.
func (o *logsOptions) find(ctx context.Context) (*knownJob, error) {
	err := o.unreachable
	if o.cluster != nil {
		var found *kubernetes.Found
		ask := func(ctx context.Context) (*kubernetes.Found, error) { return o.cluster.Find(ctx, o.name) }
		if found, err = kubernetes.Ask(ctx, o.patient, o.screen.Note, ask); err == nil {
			return o.known(found), nil
		}
	}
	var unread error
	namespaces := []string{o.namespace}
	if o.cluster == nil && o.namespace != local.Namespace {
		namespaces = append(namespaces, local.Namespace)
	}
	for _, namespace := range namespaces {
		stored, e := o.store.Find(namespace, o.name)
		if len(stored) == 0 {
			if !errors.Is(e, logstore.ErrName) { // nothing can be stored under such a name
				unread = cmp.Or(unread, e)
			}
			continue
		}
		if e != nil {
			o.damaged(e) // what could be read is there
		}
		last := ""
		for _, a := range stored {
			last = cmp.Or(a.JobUID, last)
		}
		return &knownJob{name: o.name, absent: err, attempts: ofJob(stored, last)}, nil
	}
	if unread != nil { // what it is, nobody knows
		return nil, errors.Join(err, unread)
	}
	if err == nil {
		err = &job.Hinted{Err: fmt.Errorf("no output of a job %q is stored on this machine", o.name), Hint: "{hodei} logs --context " + o.currentContext() + " " + shell.Quote(o.name)}
	}
	return nil, err
}

// ofJob chooses the attempts of one of several jobs of the same name, with those that may
// be of any.
func ofJob(stored []logstore.Attempt, uid string) []knownAttempt {
	var of []knownAttempt
	for _, a := range stored {
		if a.JobUID == uid || a.Unnamed != nil {
			of = append(of, knownAttempt{name: a.Attempt, uid: a.AttemptUID, stored: &a})
		}
	}
	return of
}

// known adds what the store has of a job that is in the cluster.
func (o *logsOptions) known(found *kubernetes.Found) *knownJob {
	stored, err := o.store.Find(o.namespace, found.Spec.Name)
	if err != nil {
		o.damaged(err) // what could be read is there
	}
	j := &knownJob{name: found.Spec.Name, found: found}
	earlier := ofJob(stored, string(found.Job.UID))
	for i := range found.Attempts {
		pod := &found.Attempts[i]
		a := knownAttempt{name: pod.Name, uid: pod.UID, pod: pod}
		if at := slices.IndexFunc(earlier, func(e knownAttempt) bool { return e.uid == pod.UID }); at >= 0 {
			a.stored = earlier[at].stored
			earlier = slices.Delete(earlier, at, at+1)
		}
		j.attempts = append(j.attempts, a)
	}
	j.attempts = append(earlier, j.attempts...) // Pods that are gone are the older ones
	return j
}
