package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/remedies"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// pastRun is what is known of an attempt, and why it is no more.
type pastRun struct {
	job.Run
	running bool
	// missing is why there are no samples; empty: there are.
	missing string
	// damaged is what is stored of it and can't be read.
	damaged []error
	// coarse tells that the phases are by the Pod's own times.
	coarse bool
}

// pastRun puts together what cluster and store know of an attempt.
func (o *logsOptions) pastRun(j *knownJob, a *knownAttempt) *pastRun {
	p := &pastRun{missing: "nobody followed this run from this machine, and with its Pod its agent's samples are gone"}
	var record, ended *job.Outcome
	if a.stored != nil {
		p.Run, record, p.missing, p.damaged = readRun(o.store.Store, a.stored.Key)
		if a.stored.Unnamed != nil {
			p.damaged = append(p.damaged, a.stored.Unnamed)
		}
	}
	if j.found != nil {
		p.Spec = j.found.Spec
		p.Provider = cmp.Or(p.Provider, o.cluster.Name())
	}
	if a.pod != nil {
		ended = a.pod.Outcome
		if !started(p.Phases) || len(p.Phases) < len(a.pod.Phases) {
			p.Phases, p.coarse = a.pod.Phases, true
		}
		p.running = !a.pod.Ended
	}
	p.Namespace, p.Attempt = cmp.Or(p.Namespace, o.namespace), a.name
	// What the provider has concluded knows of the record, and of the Pod's end.
	p.Outcome = bestOutcome(ended, p.Outcome, record)
	p.Spec = withoutValues(p.Spec)
	return p
}

// noteDamage says what of it can't be read.
func (p *pastRun) noteDamage(s *output.Screen) {
	for _, err := range p.damaged {
		s.Note(err.Error())
	}
}

// readRun reads what the store has of an attempt: its run without an outcome but for
// what its follower has concluded, that of its exit record, why there are no samples, and
// what can't be read.
func readRun(s *logstore.Store, k logstore.Key) (run job.Run, record *job.Outcome, missing string, damaged []error) {
	run = job.Run{Namespace: k.Namespace, Attempt: k.Attempt}
	note := func(err error) bool {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			damaged = append(damaged, err)
		}
		return err == nil
	}
	if kept, err := storedRun(s, k); note(err) {
		run = *kept
	}
	if log, err := s.Read(k); note(err) {
		if exit := log.Exit(); exit != nil {
			record = wire.Outcome(exit)
		} else {
			note(log.Damage())
		}
		_ = log.Close() // it was only read
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

// endOf returns how a job has ended; nil: it has not. Once the Pod is gone, the cluster may not
// know why. Then the stored outcome helps, if the job had only one attempt; known is how many
// are known.
func endOf(found *kubernetes.Found, known int, stored *job.Outcome) *job.Outcome {
	pods := found.Job.Status.Succeeded + found.Job.Status.Failed
	if !found.Finished || known != 1 || pods > 1 {
		return found.Outcome
	}
	return bestOutcome(found.Outcome, stored)
}

// bestOutcome is the first of several accounts of one end that names a cause, with
// the figures of the others where it has none; nil if there is none.
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
		// The Pod's message has no room for all figures, a record has.
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

// withoutValues is a Spec without the values of its variables: a report is for others
// to see, too.
func withoutValues(s *job.Spec) *job.Spec {
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

// current adds what the agent of a run that goes on has: its samples up to now. What
// can't be had is said in place of it.
func (o *logsOptions) current(ctx context.Context, found *kubernetes.Found, a *knownAttempt, p *pastRun) error {
	if !a.pod.Running {
		p.missing = cmp.Or(p.missing, "its agent does not run")
		return nil
	}
	h, err := o.history(ctx, found, a.uid)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f, ok := errors.AsType[*job.Failure](err); ok { // also where what was stored will do
		o.screen.Note(fmt.Sprintf("the agent of %s can't be asked what it has: %v", a.name, f))
		o.screen.Note("hint: " + o.named(f.Hint))
	}
	if len(h.Samples) > 0 { // all that its agent has, which is all that was stored and more
		p.Samples, p.missing = h.Samples, ""
	}
	switch {
	case h.Outcome != nil:
		p.Outcome, p.running = h.Outcome, false
	case err != nil && len(p.Samples) == 0:
		p.missing = "its agent was not reached: " + err.Error()
	case len(p.Samples) == 0:
		p.missing = "its agent has none yet"
	}
	return nil
}

// noAttempt says why nothing is known of any attempt of a job.
func noAttempt(j *knownJob) error {
	if j.found != nil && !j.found.Finished {
		return &job.Hinted{Err: fmt.Errorf("job %s has not started", j.name), Hint: "see why: {hodei} describe " + j.name}
	}
	h := &job.Hinted{Err: fmt.Errorf("nothing is left of the runs of job %s: its Pods are gone, and it was not followed from this machine", j.name)}
	if j.found != nil {
		h.Hint = "run it again, and follow it: " + remedies.RunLine(j.found.Spec)
	}
	return h
}
