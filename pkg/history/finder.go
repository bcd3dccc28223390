// Package history finds what is known of a job and its attempts, in the cluster and in the log store of this
// machine. Start with [Finder]: Find and Known return a [Job] with its attempts, PastRun puts together what is
// known of one attempt, and Runs collects all runs of a command. A [Record] writes what a Finder reads later: it
// stores what is learned of a run while somebody follows it.
//
// The package does not handle the output of jobs: joblog shows it, and a coordinator.Recorder stores it. It writes
// to no stream: what a person should read goes to functions that the caller gives.
package history

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

// Finder looks for jobs in one namespace of a cluster, and in a store. Namespace, Store and Note are required. The
// fields don't change after the first use. The methods may be called at the same time if Note, Hint and Damaged may.
type Finder struct {
	// Cluster is where a job is looked for first. If it is nil there is none, and Unreachable, if not nil, says why.
	Cluster     *kubernetes.Provider
	Unreachable error
	Namespace   string
	Store       *logstore.Store
	// Patient waits for a cluster that does not answer, for up to kubernetes.FirstWait.
	Patient bool
	// Note is told why somebody has to wait, or what is missing, in one line without a newline.
	Note func(text string)
	// Hint, if not nil, is told what to do about the last note; {hodei} in it is the program's name.
	Hint func(text string)
	// Damaged, if not nil, is told instead of Note of stored data that can't be read.
	Damaged func(error)
	// Context, if not nil, returns the kubeconfig's current context as it is typed, for hints.
	Context func() string
}

// Job is what cluster and store know of a job.
type Job struct {
	Name     string
	Found    *kubernetes.Found // nil: it is not in the cluster
	Absent   error             // why it is not; nil: there was no cluster to ask
	Attempts []Attempt         // oldest first
}

// Attempt is an attempt of a job. It is known by its Pod, by the store, or by both.
type Attempt struct {
	Name, UID string
	Pod       *kubernetes.Attempt // nil: its Pod is gone
	Stored    *logstore.Attempt   // nil: the store has nothing of it
}

// IsStored reports whether the store has at least some of the attempt's output.
func (a *Attempt) IsStored() bool {
	return a.Stored != nil && (a.Stored.End > 0 || a.Stored.Exit != nil || a.Stored.Damage != nil)
}

// Find looks for the job in the cluster and in the store. If neither has it, the error is the cluster's, if there is
// one.
func (f *Finder) Find(ctx context.Context, name string) (*Job, error) {
	err := f.Unreachable
	if f.Cluster != nil {
		var found *kubernetes.Found
		ask := func(ctx context.Context) (*kubernetes.Found, error) { return f.Cluster.Find(ctx, name) }
		if found, err = kubernetes.Ask(ctx, f.Patient, f.Note, ask); err == nil {
			return f.Known(found), nil
		}
	}
	j, unread := f.stored(name)
	switch {
	case j != nil:
		j.Absent = err
		return j, nil
	case unread != nil: // the job may be in what can't be read
		return nil, errors.Join(err, unread)
	case err == nil:
		text := "CONTEXT"
		if f.Context != nil {
			text = f.Context()
		}
		err = &job.Hinted{Err: fmt.Errorf("no output of a job %q is stored on this machine", name),
			Hint: "{hodei} logs --context " + text + " " + shell.Quote(name)}
	}
	return nil, err
}

// FindRun is Find for callers that show runs and not output. It differs in the error where no cluster was asked.
func (f *Finder) FindRun(ctx context.Context, name string) (*Job, error) {
	j, err := f.Find(ctx, name)
	if err != nil && f.Cluster == nil && f.Unreachable == nil {
		err = &job.Hinted{Err: fmt.Errorf("no run of a job %q is stored on this machine", name),
			Hint: "{hodei} run --provider local --name " + shell.Quote(name) + " -- COMMAND"}
	}
	return j, err
}

// stored looks for a job in the store alone; nil: it has none. An error then says why that is not certain.
func (f *Finder) stored(name string) (*Job, error) {
	namespaces := []string{f.Namespace}
	if f.Cluster == nil && f.Namespace != local.Namespace {
		namespaces = append(namespaces, local.Namespace)
	}
	var unread error
	for _, namespace := range namespaces {
		stored, err := f.Store.Find(namespace, name)
		if len(stored) == 0 {
			if !errors.Is(err, logstore.ErrName) { // nothing can be stored under such a name
				unread = cmp.Or(unread, err)
			}
			continue
		}
		if err != nil {
			f.damaged(err) // the rest could be read
		}
		last := ""
		for _, a := range stored {
			last = cmp.Or(a.JobUID, last)
		}
		return &Job{Name: name, Attempts: ofJob(stored, last)}, nil
	}
	return nil, unread
}

// ofJob returns the attempts of one of several jobs with the same name, and those that may belong to any of them.
func ofJob(stored []logstore.Attempt, uid string) []Attempt {
	var of []Attempt
	for _, a := range stored {
		if a.JobUID == uid || a.Unnamed != nil {
			of = append(of, Attempt{Name: a.Attempt, UID: a.AttemptUID, Stored: &a})
		}
	}
	return of
}

// Known returns a job that was found in the cluster, with what the store has of it.
func (f *Finder) Known(found *kubernetes.Found) *Job {
	stored, err := f.Store.Find(f.Namespace, found.Spec.Name)
	if err != nil {
		f.damaged(err) // the rest could be read
	}
	j := &Job{Name: found.Spec.Name, Found: found}
	earlier := ofJob(stored, string(found.Job.UID))
	for i := range found.Attempts {
		pod := &found.Attempts[i]
		a := Attempt{Name: pod.Name, UID: pod.UID, Pod: pod}
		if at := slices.IndexFunc(earlier, func(e Attempt) bool { return e.UID == pod.UID }); at >= 0 {
			a.Stored = earlier[at].Stored
			earlier = slices.Delete(earlier, at, at+1)
		}
		j.Attempts = append(j.Attempts, a)
	}
	j.Attempts = append(earlier, j.Attempts...) // attempts whose Pods are gone are older
	return j
}

// RunsHere reports whether the attempt is one of this machine that runs: the hodei that started it still writes its log.
func (f *Finder) RunsHere(a *Attempt) bool { return a.IsHere() && f.Store.InUse(a.Stored.Key) }

// IsHere reports whether the attempt is, or was, a process of this machine.
func (a *Attempt) IsHere() bool {
	return a.Pod == nil && a.Stored != nil && a.Stored.Key.Namespace == local.Namespace
}

// Select returns the jobs of the cluster that a label selector chooses, oldest first.
func (f *Finder) Select(ctx context.Context, selector string) ([]*kubernetes.Found, error) {
	switch {
	case f.Cluster != nil:
		ask := func(ctx context.Context) ([]*kubernetes.Found, error) { return f.Cluster.FindAll(ctx, selector) }
		return kubernetes.Ask(ctx, f.Patient, f.Note, ask)
	case f.Unreachable != nil:
		return nil, f.Unreachable
	}
	context := "CONTEXT"
	if f.Context != nil {
		context = f.Context()
	}
	return nil, &job.Hinted{Err: errors.New("-l needs a cluster: this machine keeps no list of jobs"),
		Hint: "leave -l out and give the NAME of a job, or name a cluster: --context " + context}
}

// damaged tells of stored data that can't be read.
func (f *Finder) damaged(err error) {
	if f.Damaged != nil {
		f.Damaged(err)
		return
	}
	f.Note(err.Error())
}

// NoAttempt returns why no attempt of the job is known, with a hint.
func (j *Job) NoAttempt() error {
	if j.Found != nil && !j.Found.Finished {
		return &job.Hinted{Err: fmt.Errorf("job %s has not started", j.Name), Hint: "see why: {hodei} describe " + j.Name}
	}
	text := "nothing is left of the runs of job %s: its Pods are gone, and it was not followed from this machine"
	h := &job.Hinted{Err: fmt.Errorf(text, j.Name)}
	if j.Found != nil {
		h.Hint = "run it again, and follow it: " + j.Found.Spec.RunLine()
	}
	return h
}

// HasTerminal reports whether the job's command has, or had, a terminal, as far as the cluster or the store knows.
func (f *Finder) HasTerminal(j *Job) bool {
	if j.Found != nil {
		return j.Found.Spec.TTY
	}
	for _, a := range j.Attempts {
		if a.Stored == nil {
			continue
		}
		if run, err := StoredRun(f.Store, a.Stored.Key); err == nil && run.Spec != nil && run.Spec.TTY {
			return true
		}
	}
	return false
}
