package history

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// maxPastRuns bounds the runs of one command that an advice is made from. More would keep it from following a command
// that changes; fewer could miss a rare peak. Reading a run takes some milliseconds.
const maxPastRuns = 100

// maxCommands bounds the commands whose runs are collected at once. Each takes a look through the whole store, and
// nobody reads more advice.
const maxCommands = 50

// Command is one command in one image, with its runs.
type Command struct {
	Name string // of a job that ran it
	Spec *job.Spec
	Job  *Job      // the job that was named; nil: a selector chose it
	Runs []job.Run // at most 100 that are over, latest first
}

// Runs returns the runs of the command of the job called name. If name is empty, it returns those of each command
// among the jobs that the label selector chooses, of which there may be 50. A selector that chooses no job is no
// error.
func (f *Finder) Runs(ctx context.Context, name, selector string) ([]Command, error) {
	commands, err := f.commands(ctx, name, selector)
	if err != nil || len(commands) == 0 {
		return nil, err
	}
	var inCluster []*kubernetes.Found
	if f.Cluster != nil {
		// A user who may not list Jobs still has the one that was named, and those stored here.
		if inCluster, err = f.Cluster.FindAll(ctx, ""); err != nil {
			f.Note(fmt.Sprintf("without the cluster's other jobs: %v", err))
		}
	}
	namespace := f.Namespace
	if j := commands[0].Job; j != nil && j.Found == nil { // it may have run on this machine, in another namespace
		for _, a := range j.Attempts {
			if a.Stored != nil {
				namespace = a.Stored.Key.Namespace
			}
		}
	}
	keys, err := f.Store.Keys(namespace)
	if err != nil {
		f.Note(err.Error()) // the rest could be read
	}
	for i := range commands {
		c := &collection{Command: &commands[i], finder: f, seen: map[string]bool{}}
		if err := c.collect(ctx, inCluster, keys); err != nil {
			return nil, err
		}
	}
	return commands, nil
}

// collection collects the runs of one command.
type collection struct {
	*Command
	finder *Finder
	seen   map[string]bool // UIDs of attempts that have been looked at
}

// collect adds the runs of the job that was named, of other jobs in the cluster, and of the store, in this order.
func (c *collection) collect(ctx context.Context, inCluster []*kubernetes.Found, keys []logstore.Key) error {
	if c.Job != nil && c.Job.Found != nil { // a job that is gone is found in the store, below
		c.addJob(c.Job)
		if err := c.addEnding(ctx); err != nil {
			return err
		}
	}
	for _, found := range inCluster {
		if sameCommand(found.Spec, c.Spec) {
			c.addJob(c.finder.Known(found))
		}
	}
	for _, key := range keys {
		if len(c.Runs) >= 2*maxPastRuns {
			break
		}
		c.addStored(key)
	}
	c.settle()
	return nil
}

// commands returns the commands whose runs are wanted, without the runs.
func (f *Finder) commands(ctx context.Context, name, selector string) ([]Command, error) {
	if name != "" {
		j, err := f.FindRun(ctx, name)
		if err != nil {
			return nil, err
		}
		spec, err := f.SpecOf(j)
		if err != nil {
			return nil, err
		}
		return []Command{{Name: j.Name, Spec: spec, Job: j}}, nil
	}
	all, err := f.Select(ctx, selector)
	if err != nil {
		return nil, err
	}
	var commands []Command
	for _, found := range slices.Backward(all) { // the latest job gives its command a name
		if !slices.ContainsFunc(commands, func(c Command) bool { return sameCommand(c.Spec, found.Spec) }) {
			commands = append(commands, Command{Name: found.Spec.Name, Spec: found.Spec})
		}
	}
	if len(commands) > maxCommands {
		err := fmt.Errorf("%d commands match -l %s, %d can be advised on at once", len(commands), selector, maxCommands)
		return nil, &job.Hinted{Err: err,
			Hint: "choose fewer: {hodei} jobs -l " + shell.Quote(selector) + " --show-labels"}
	}
	return commands, nil
}

// SpecOf returns what a job asked for. That of a job which is only stored has no values of variables. It is an error,
// with a hint, if nobody knows.
func (f *Finder) SpecOf(j *Job) (*job.Spec, error) {
	if j.Found != nil {
		return j.Found.Spec, nil
	}
	for _, a := range slices.Backward(j.Attempts) {
		if a.Stored == nil {
			continue
		}
		if run, err := StoredRun(f.Store, a.Stored.Key); err == nil && run.Spec != nil {
			return run.Spec, nil
		}
	}
	return nil, &job.Hinted{Err: fmt.Errorf("what job %s ran is not known here: it was stored by an older version", j.Name),
		Hint: "run it again, and follow it: {hodei} run -- COMMAND"}
}

// sameCommand reports whether two jobs ran the same command in the same image.
func sameCommand(a, b *job.Spec) bool {
	return a != nil && b != nil && a.Image == b.Image && slices.Equal(a.Command, b.Command)
}

// addJob adds the attempts of a job that are over.
func (c *collection) addJob(j *Job) {
	for i := range j.Attempts {
		a := &j.Attempts[i]
		if c.seen[a.UID] || a.Pod != nil && !a.Pod.Ended {
			continue
		}
		c.seen[a.UID] = true
		p := c.finder.PastRun(j, a)
		p.NoteDamage(c.finder.Note)
		c.Runs = append(c.Runs, p.Run)
	}
}

// addEnding adds the last attempt of the job that was named if its command has just ended: its agent is still there
// and is asked.
func (c *collection) addEnding(ctx context.Context) error {
	n := len(c.Job.Attempts)
	if n == 0 {
		return nil
	}
	a := &c.Job.Attempts[n-1]
	if c.seen[a.UID] || a.Pod == nil || !a.Pod.Running {
		return nil
	}
	p := c.finder.PastRun(c.Job, a)
	if err := c.finder.Ask(ctx, c.Job.Found, a, p); err != nil {
		return err
	}
	if !p.Running {
		c.seen[a.UID] = true
		c.Runs = append(c.Runs, p.Run)
	}
	return nil
}

// addStored adds an attempt of this machine's store, if it ran the command and is over.
func (c *collection) addStored(key logstore.Key) {
	if c.seen[key.AttemptUID] {
		return
	}
	kept, err := StoredRun(c.finder.Store, key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.finder.Note("left out: " + err.Error())
		c.seen[key.AttemptUID] = true
	}
	if err != nil || !sameCommand(kept.Spec, c.Spec) { // stored by an older version, or of another command
		return
	}
	c.seen[key.AttemptUID] = true
	run, record, _, damaged := readRun(c.finder.Store, key)
	(&PastRun{Damaged: damaged}).NoteDamage(c.finder.Note)
	if run.Outcome = bestOutcome(run.Outcome, record); run.Outcome != nil {
		c.Runs = append(c.Runs, run)
	}
}

// settle sorts the runs, and keeps the latest.
func (c *Command) settle() {
	slices.SortStableFunc(c.Runs, func(a, b job.Run) int { return runTime(b).Compare(runTime(a)) })
	c.Runs = c.Runs[:min(len(c.Runs), maxPastRuns)]
}

// runTime returns when a run took place, as far as is known; zero: not known.
func runTime(r job.Run) time.Time {
	switch {
	case r.Outcome != nil && !r.Outcome.Finished.IsZero():
		return r.Outcome.Finished
	case len(r.Phases) > 0:
		return r.Phases[len(r.Phases)-1].Time
	}
	return time.Time{}
}
