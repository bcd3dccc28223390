package history

import (
	"cmp"
	"errors"
	"io/fs"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// PastRun is what is known of an attempt, and why no more is known.
type PastRun struct {
	job.Run
	// Running is true if the attempt has not ended.
	Running bool
	// Missing is why there are no samples; empty: there are some.
	Missing string
	// Damaged has an error for each part of the stored data that can't be read.
	Damaged []error
	// Coarse is true if the times of the phases are the Pod's own, which are whole seconds.
	Coarse bool
	// Gone is true if the cluster has no Job of it any more.
	Gone bool
}

// PastRun returns what cluster and store know of an attempt. Its Spec has no values of variables. It asks no agent;
// [Finder.Ask] does.
func (f *Finder) PastRun(j *Job, a *Attempt) *PastRun {
	p := &PastRun{
		Gone:    j.Found == nil,
		Missing: "nobody followed this run from this machine, and with its Pod its agent's samples are gone",
	}
	var record, ended *job.Outcome
	if a.Stored != nil {
		p.Run, record, p.Missing, p.Damaged = readRun(f.Store, a.Stored.Key)
		if a.Stored.Unnamed != nil {
			p.Damaged = append(p.Damaged, a.Stored.Unnamed)
		}
	}
	if j.Found != nil {
		p.Spec = j.Found.Spec
		p.Provider = cmp.Or(p.Provider, f.Cluster.Name())
	}
	if a.Pod != nil {
		ended = a.Pod.Outcome
		if !Started(p.Phases) || len(p.Phases) < len(a.Pod.Phases) {
			p.Phases, p.Coarse = a.Pod.Phases, true
		}
		p.Running = !a.Pod.Ended
	}
	p.Running = p.Running || f.RunsHere(a) && p.Outcome == nil && record == nil
	p.Namespace, p.Attempt = cmp.Or(p.Namespace, f.Namespace), a.Name
	// The provider's conclusion comes first: it takes both the record and the Pod's end into account.
	p.Outcome = bestOutcome(ended, p.Outcome, record)
	p.Spec = WithoutValues(p.Spec)
	return p
}

// NoteDamage tells note of each part of the stored data that can't be read.
func (p *PastRun) NoteDamage(note func(string)) {
	for _, err := range p.Damaged {
		note(err.Error())
	}
}

// readRun reads what the store has of an attempt. The run's outcome is what its follower has concluded; record is the
// outcome of its exit record. missing is why there are no samples, and damaged is what can't be read.
func readRun(s *logstore.Store, k logstore.Key) (run job.Run, record *job.Outcome, missing string, damaged []error) {
	run = job.Run{Namespace: k.Namespace, Attempt: k.Attempt}
	note := func(err error) bool {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			damaged = append(damaged, err)
		}
		return err == nil
	}
	if kept, err := StoredRun(s, k); note(err) {
		run = *kept
	}
	if log, err := s.Read(k); note(err) {
		if exit := log.Exit(); exit != nil {
			record = wire.Outcome(exit)
		} else {
			note(log.Damage())
		}
		_ = log.Close() // nothing was written
	}
	samples, err := coordinator.Samples(s, k)
	note(err)
	for _, m := range samples {
		run.Samples = append(run.Samples, wire.Sample(m))
	}
	switch {
	case len(samples) > 0: // with damage, those before it
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		missing = err.Error()
	default:
		missing = "no samples came from its agent, or whoever followed the run did not ask for them"
	}
	return run, record, missing, damaged
}

// EndOf returns how a job has ended; nil: it has not. Once the Pod is gone, the cluster may not know why. stored is
// the outcome of the last attempt, and known the number of attempts that are known. If the job had only one, stored
// completes what the cluster says.
func EndOf(found *kubernetes.Found, known int, stored *job.Outcome) *job.Outcome {
	pods := found.Job.Status.Succeeded + found.Job.Status.Failed
	if !found.Finished || known != 1 || pods > 1 {
		return found.Outcome
	}
	return bestOutcome(found.Outcome, stored)
}

// StoredEnd returns how a job ended, if it has had one attempt and the store has it; nil: not known.
func StoredEnd(s *logstore.Store, j *batchv1.Job) *job.Outcome {
	stored, _ := s.Find(j.Namespace, j.Name) // what can't be read counts as unknown
	of := ofJob(stored, string(j.UID))
	if len(of) != 1 || of[0].Stored.Unnamed != nil || j.Status.Succeeded+j.Status.Failed > 1 {
		return nil
	}
	var concluded, record *job.Outcome
	if run, err := StoredRun(s, of[0].Stored.Key); err == nil {
		concluded = run.Outcome
	}
	if exit := of[0].Stored.Exit; exit != nil {
		record = wire.Outcome(exit)
	}
	return bestOutcome(concluded, record)
}

// bestOutcome merges several accounts of one end: the first that names a cause, with the figures of the others where
// it has none. Accounts may be nil; without any it returns nil.
func bestOutcome(accounts ...*job.Outcome) *job.Outcome {
	var best *job.Outcome
	for _, o := range accounts {
		switch {
		case o == nil:
		case best == nil, best.Cause == job.Unknown && o.Cause != job.Unknown:
			best = o
		case best.PodEnded && !o.PodEnded:
			best = job.Settled(best, o)
		}
	}
	if best == nil {
		return nil
	}
	merged := *best
	for _, o := range accounts {
		if o == nil {
			continue
		}
		// The Pod's message has no room for all figures; the exit record has.
		if merged.Usage == nil || o.Usage != nil && len(o.Usage.RunQueueWaits) > len(merged.Usage.RunQueueWaits) {
			merged.Usage = o.Usage
		}
		if len(merged.Probes) == 0 {
			merged.Probes = o.Probes
		}
		if merged.Started.IsZero() {
			merged.Started, merged.Finished = o.Started, o.Finished
		}
	}
	return &merged
}

// WithoutValues returns s without the values of its variables, which may be secrets. WithoutValues(nil) is nil.
func WithoutValues(s *job.Spec) *job.Spec {
	if s == nil {
		return nil
	}
	bare := *s
	bare.Env = nil
	for _, v := range s.Env {
		bare.Env = append(bare.Env, job.EnvVar{Name: v.Name})
	}
	return &bare
}

// StoredSamples returns the samples that the store has of an attempt, oldest first. If some can't be read it returns
// those before them.
func StoredSamples(store *logstore.Store, k logstore.Key) []job.Sample {
	metrics, _ := coordinator.Samples(store, k)
	return wire.Samples(metrics)
}
