package cli

import (
	"cmp"
	"context"
	"fmt"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// show shows the chosen attempt of a job, and with -f what comes after it.
func (o *logsOptions) show(ctx context.Context, j *knownJob) error {
	running := j.found != nil && !j.found.Finished
	n := len(j.attempts)
	switch {
	case o.attempt > n && n > 0:
		return fmt.Errorf("job %s has no attempt %d: up to now it has had %d", j.name, o.attempt, n)
	case o.attempt > 0:
		n = o.attempt
	case n == 0 && running && o.follow:
		return o.live(ctx, j, nil)
	case n == 0 && running:
		return &job.Hinted{Err: fmt.Errorf("job %s has not started", j.name), Hint: "wait for it: {hodei} logs -f " + j.name}
	}
	if n == 0 {
		return gone(j.name, j.name, 0)
	}
	a := &j.attempts[n-1]
	if a.pod != nil && !a.pod.Ended {
		switch {
		case a.pod.Running || o.follow:
			return o.live(ctx, j, a)
		case running && !a.isStored():
			return &job.Hinted{Err: fmt.Errorf("the agent of job %s does not run: its command has not started, or the agent was lost", j.name),
				Hint: "see how it is: {hodei} describe " + j.name}
		}
	}
	if err := o.showOver(ctx, j, a); err != nil {
		return err
	}
	if running && o.follow && o.attempt == 0 {
		return o.live(ctx, j, nil) // the attempts to come
	}
	return nil
}

// goneError is that nothing is left of the output of an attempt.
type goneError struct {
	job, attempt string
	bytes        uint64 // that it had; 0: nobody knows
}

func (e *goneError) Error() string {
	return fmt.Sprintf("the output of job %s is gone: it was not stored on this machine, and its container's log is not there", e.job)
}

func gone(name, attempt string, bytes uint64) error {
	return &job.Hinted{Err: &goneError{name, attempt, bytes},
		Hint: "follow a job while it runs, or keep its output in the container's log: {hodei} run --container-logs"}
}

// isStored tells that the store has some of the attempt's output, or all.
func (a *knownAttempt) isStored() bool {
	return a.stored != nil && (a.stored.End > 0 || a.stored.Exit != nil || a.stored.Damage != nil)
}

// counted tells that the outcome says how much was printed: it was made of an exit
// record, or the command never ran. Without a record OutputBytes is 0.
func counted(o *job.Outcome) bool {
	switch o.Cause {
	case job.Completed, job.Error, job.Signaled, job.OOMKilled, job.Cancelled, job.StartTimeout:
		return true
	}
	return o.NeverStarted || o.OutputBytes > 0 || !o.Started.IsZero()
}

// showOver shows an attempt that is over: from the store, else from its container's
// log.
func (o *logsOptions) showOver(ctx context.Context, j *knownJob, a *knownAttempt) error {
	if a.isStored() {
		return o.showStored(ctx, j, a)
	}
	if a.pod == nil {
		return gone(j.name, a.name, 0)
	}
	if out := a.pod.Outcome; out != nil && counted(out) && out.OutputBytes+out.LostBytes == 0 {
		o.silent(a.name, out)
		return nil
	}
	return o.showContainer(ctx, j, a)
}

// showStored shows what the store has of an attempt.
func (o *logsOptions) showStored(ctx context.Context, j *knownJob, a *knownAttempt) error {
	if err := a.stored.Unnamed; err != nil {
		o.damaged(err)
	}
	log, err := o.store.Read(a.stored.Key)
	if err != nil {
		return err
	}
	defer log.Close()
	_, end := log.Extent()
	start, err := o.start(log, end)
	if err != nil {
		return err
	}
	s := o.saying(j.name)
	p := output.NewPassage(a.name, log, start)
	if err := p.Show(ctx, s); err != nil {
		return err
	}
	rest := output.Gap{Attempt: a.name, Offset: p.Offset(), Damage: p.Damage()}
	if record := log.Exit(); record != nil && rest.Damage == nil {
		return o.conclude(s, a.name, record)
	}
	rest.Damage = cmp.Or(rest.Damage, log.Damage())
	out := storedOutcome(o.store.Store, a)
	switch {
	case out != nil && counted(out) && out.OutputBytes <= p.Offset():
		return nil
	case out != nil && counted(out):
		rest.Bytes = out.OutputBytes - p.Offset()
	case j.found == nil && o.store.InUse(a.stored.Key):
		o.screen.Note(fmt.Sprintf("%s is still followed by another hodei on this machine: this is its output up to now", a.name))
		return nil
	}
	return s.Gap(rest)
}

// storedOutcome is how an attempt ended, as its Pod says, or whoever followed it has
// stored; nil: nobody knows.
func storedOutcome(s *logstore.Store, a *knownAttempt) *job.Outcome {
	if a.pod != nil && a.pod.Outcome != nil {
		return a.pod.Outcome
	}
	if run, err := storedRun(s, a.stored.Key); err == nil {
		return run.Outcome
	}
	return nil
}

// silent says how an attempt that printed nothing ended: without it, nothing tells no output
// from output that hodei overlooked.
func (o *logsOptions) silent(attempt string, out *job.Outcome) {
	if o.endSaid {
		return
	}
	o.screen.Note(fmt.Sprintf("%s has printed nothing: %s", attempt, ui.Printable(out.Summary())))
}

// conclude says what the agent itself had no room for, behind all that it sent, and that
// there was nothing.
func (o *logsOptions) conclude(s output.Sink, attempt string, r *hodeipb.ExitRecord) error {
	if r.Lost == 0 && r.End == 0 {
		o.silent(attempt, wire.Outcome(r))
	}
	if r.Lost == 0 {
		return nil
	}
	return s.Gap(output.Gap{Attempt: attempt, Offset: r.End, Bytes: r.Lost})
}

// start is where what is to be shown of a log begins.
func (o *logsOptions) start(log *logstore.Log, end uint64) (uint64, error) {
	var start uint64
	if !o.since.IsZero() {
		at, err := log.OffsetAtTime(o.since)
		if err != nil {
			return 0, err
		}
		start = at
	}
	if o.tail >= 0 {
		at, err := log.OffsetOfLastLines(o.tail, o.stream, end)
		if err != nil {
			return 0, err
		}
		start = max(start, at)
	}
	return start, nil
}
