package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// maxPastRuns bounds the runs of one command that an advice stands on: the latest, so
// that it follows the command as it changes, and so many that a rare peak is among
// them. A run is read in some milliseconds.
const maxPastRuns = 100

// pastRuns are the runs of one command in one image that are over, the latest first.
type pastRuns struct {
	name string // of a job that ran it
	spec *job.Spec
	job  *knownJob // the one that was named; nil: none was
	runs []job.Run
}

// pastRuns finds the runs of the command of the job that is named, or of each command
// of the jobs that are selected.
func (o *logsOptions) pastRuns(ctx context.Context) ([]pastRuns, error) {
	commands, err := o.commands(ctx)
	if err != nil || len(commands) == 0 {
		return nil, err
	}
	var inCluster []*kubernetes.Found
	if o.cluster != nil {
		// Who may not list the Jobs has the one that was named, and those stored here.
		if inCluster, err = o.cluster.FindAll(ctx, ""); err != nil {
			o.screen.Note(fmt.Sprintf("without the cluster's other jobs: %v", err))
		}
	}
	namespace := o.namespace
	if j := commands[0].job; j != nil && j.found == nil { // what is stored here may be of this machine
		for _, a := range j.attempts {
			if a.stored != nil {
				namespace = a.stored.Key.Namespace
			}
		}
	}
	keys, err := o.store.Keys(namespace)
	if err != nil {
		o.screen.Note(err.Error()) // what could be read is there
	}
	for i := range commands {
		c := &commands[i]
		seen := map[string]bool{}
		if c.job != nil && c.job.found != nil { // else it is in the store
			c.addJob(o, c.job, seen)
			if err := c.addEnding(ctx, o, seen); err != nil {
				return nil, err
			}
		}
		for _, found := range inCluster {
			if sameCommand(found.Spec, c.spec) {
				c.addJob(o, o.known(found), seen)
			}
		}
		for _, key := range keys {
			if len(c.runs) >= 2*maxPastRuns {
				break
			}
			c.addStored(o, key, seen)
		}
		c.settle()
	}
	return commands, nil
}

// commands are those whose runs are wanted, without them.
func (o *logsOptions) commands(ctx context.Context) ([]pastRuns, error) {
	if o.selector == "" {
		j, err := o.findRun(ctx)
		if err != nil {
			return nil, err
		}
		spec := o.specOf(j)
		if spec == nil {
			return nil, &job.Hinted{Err: fmt.Errorf("what job %s ran is not known here: it was stored by an older version", j.name), Hint: "run it again, and follow it: {hodei} run -- COMMAND"}
		}
		return []pastRuns{{name: j.name, spec: spec, job: j}}, nil
	}
	if o.cluster == nil {
		return nil, o.noSelection()
	}
	all, err := o.cluster.FindAll(ctx, o.selector)
	if err != nil {
		return nil, err
	}
	var commands []pastRuns
	for _, found := range slices.Backward(all) { // the latest of a command gives it its name
		if !slices.ContainsFunc(commands, func(c pastRuns) bool { return sameCommand(c.spec, found.Spec) }) {
			commands = append(commands, pastRuns{name: found.Spec.Name, spec: found.Spec})
		}
	}
	if len(commands) > follow.MaxJobs {
		return nil, &job.Hinted{Err: fmt.Errorf("%d commands match -l %s, %d can be advised on at once", len(commands), o.selector, follow.MaxJobs),
			Hint: "choose fewer: {hodei} jobs -l " + shell.Quote(o.selector) + " --show-labels"}
	}
	return commands, nil
}

// specOf is what a job asked for; nil: nobody knows.
func (o *logsOptions) specOf(j *knownJob) *job.Spec {
	if j.found != nil {
		return j.found.Spec
	}
	for _, a := range slices.Backward(j.attempts) {
		if a.stored == nil {
			continue
		}
		if run, err := storedRun(o.store.Store, a.stored.Key); err == nil && run.Spec != nil {
			return run.Spec
		}
	}
	return nil
}

// sameCommand tells whether two jobs did the same in the same image.
func sameCommand(a, b *job.Spec) bool {
	return a != nil && b != nil && a.Image == b.Image && slices.Equal(a.Command, b.Command)
}

// addJob takes the attempts of a job in the cluster that are over.
func (c *pastRuns) addJob(o *logsOptions, j *knownJob, seen map[string]bool) {
	for i := range j.attempts {
		a := &j.attempts[i]
		if seen[a.uid] || a.pod != nil && !a.pod.Ended {
			continue
		}
		seen[a.uid] = true
		p := o.pastRun(j, a)
		p.noteDamage(o.screen)
		c.runs = append(c.runs, p.Run)
	}
}

// addEnding takes the last attempt of the job that was named if its command is over,
// and its agent is still there with what it knows.
func (c *pastRuns) addEnding(ctx context.Context, o *logsOptions, seen map[string]bool) error {
	n := len(c.job.attempts)
	if n == 0 {
		return nil
	}
	a := &c.job.attempts[n-1]
	if seen[a.uid] || a.pod == nil || !a.pod.Running {
		return nil
	}
	p := o.pastRun(c.job, a)
	if err := o.current(ctx, c.job.found, a, p); err != nil {
		return err
	}
	if !p.running {
		seen[a.uid] = true
		c.runs = append(c.runs, p.Run)
	}
	return nil
}

// addStored takes an attempt of this machine's store, if it is one of the command and
// over.
func (c *pastRuns) addStored(o *logsOptions, key logstore.Key, seen map[string]bool) {
	if seen[key.AttemptUID] {
		return
	}
	kept, err := storedRun(o.store.Store, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		o.screen.Note("left out: " + err.Error())
		seen[key.AttemptUID] = true
	}
	if err != nil || !sameCommand(kept.Spec, c.spec) { // of an older version, or another's
		return
	}
	seen[key.AttemptUID] = true
	run, record, _, damaged := readRun(o.store.Store, key)
	(&pastRun{damaged: damaged}).noteDamage(o.screen)
	if run.Outcome = bestOutcome(run.Outcome, record); run.Outcome != nil {
		c.runs = append(c.runs, run)
	}
}

// settle orders the runs and leaves the latest.
func (c *pastRuns) settle() {
	slices.SortStableFunc(c.runs, func(a, b job.Run) int { return runTime(b).Compare(runTime(a)) })
	c.runs = c.runs[:min(len(c.runs), maxPastRuns)]
}

// runTime is when a run was, by what is known of it; zero: nothing.
func runTime(r job.Run) time.Time {
	switch {
	case r.Outcome != nil && !r.Outcome.Finished.IsZero():
		return r.Outcome.Finished
	case len(r.Phases) > 0:
		return r.Phases[len(r.Phases)-1].Time
	}
	return time.Time{}
}
