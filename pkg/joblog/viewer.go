// Package joblog shows what a job has printed, wherever that is: in the log store of this machine, at its agent
// while it runs, or in its container's log. Start with [New]. [Viewer.Show] shows an attempt of a job that a
// history.Finder has found, and with Follow goes on to the job's end. A [Tail] shows a container's log alone.
//
// The package does not follow a job as run and attach do: it starts, stops and deletes nothing, and shows no figures.
// It writes to the sinks that it is given, and what a person should know goes to the finder's Note.
package joblog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/ui"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Viewer shows the output of jobs. [New] makes one. Its fields don't change once it shows something; from then on its
// methods may be called for several jobs at the same time.
type Viewer struct {
	// Follow shows new output too, until the job ends.
	Follow bool
	// Since leaves out what was printed before it; the zero value leaves out nothing.
	Since time.Time
	// Tail is how many of the last lines are shown; negative: all.
	Tail int
	// Stream is the stream that is shown; STREAM_UNSPECIFIED: both.
	Stream hodeipb.Stream
	// Attempt is the attempt that is shown, counted from 1; 0: the last, and with Follow those that come.
	Attempt int
	// EndSaid is true if the caller says how the job has ended. Otherwise the Viewer does, for an attempt without
	// output.
	EndSaid bool
	// Tame is true if output is shown on a terminal: that of a job that had a terminal is shown by output.Tame.
	Tame bool
	// StoreDir is the directory of the store, for a hint to make room there.
	StoreDir string

	finder *history.Finder
	sink   func(job string) output.Sink

	mu     sync.Mutex
	missed string // the first loss
}

// New returns a Viewer that shows all output of jobs that finder has found, and sets the finder's Damaged. sink
// returns the sink for a job's output.
func New(finder *history.Finder, sink func(job string) output.Sink) *Viewer {
	v := &Viewer{Tail: -1, finder: finder, sink: sink}
	finder.Damaged = v.damaged
	return v
}

// Missed returns the first note that output is missing; empty: none is.
func (v *Viewer) Missed() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.missed
}

// miss remembers that output is missing, and why.
func (v *Viewer) miss(text string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.missed = cmp.Or(v.missed, text)
}

// damaged tells of stored data that can't be read, and counts it as missing output.
func (v *Viewer) damaged(err error) {
	v.miss(err.Error())
	v.finder.Note(err.Error())
}

// sinkOf returns the sink for a job's output.
func (v *Viewer) sinkOf(j *history.Job) output.Sink {
	if v.Tame && v.finder.HasTerminal(j) {
		return output.Tame(v.sink(j.Name))
	}
	return v.sink(j.Name)
}

// saying returns the job's sink, which also notes and remembers what is missing.
func (v *Viewer) saying(j *history.Job) output.Sink { return sayingSink{v.sinkOf(j), v} }

// sayingSink is a sink whose gaps a person is told of.
type sayingSink struct {
	output.Sink
	viewer *Viewer
}

// Gap passes g on, and tells of it.
func (s sayingSink) Gap(g output.Gap) error {
	s.viewer.miss(g.String())
	if err := s.Sink.Gap(g); err != nil {
		return err
	}
	s.viewer.finder.Note(g.String())
	return nil
}

// Loss turns an error that only means lost output into a note: nothing is left of it, or a container's log can't be
// read. It then returns nil, and Missed remembers the loss. It is for callers that show how the job has ended, whose
// exit code is the job's. Other errors are returned as they are.
func (v *Viewer) Loss(err error) error {
	if gone, ok := errors.AsType[*goneError](err); ok {
		v.finder.Note(gone.Error())
		return sayingSink{v.sink(gone.job), v}.Gap(output.Gap{Attempt: gone.attempt, Bytes: gone.bytes})
	}
	if unread, ok := errors.AsType[*UnreadError](err); ok {
		v.miss(unread.Error())
		return nil
	}
	return err
}

// goneError says that nothing is left of the output of an attempt.
type goneError struct {
	job, attempt string
	bytes        uint64 // size of the output; 0: not known
}

// Error says that the output is gone, and why.
func (e *goneError) Error() string {
	return fmt.Sprintf("the output of job %s is gone: it was not stored on this machine, and its container's log is not there", e.job)
}

// gone returns a goneError, with what to do the next time.
func gone(name, attempt string, bytes uint64) error {
	return &job.Hinted{Err: &goneError{name, attempt, bytes},
		Hint: "follow a job while it runs, or keep its output in the container's log: {hodei} run --container-logs -- COMMAND"}
}

// nothingHere is gone for a job of this machine.
func nothingHere(name string) error {
	return &job.Hinted{Err: fmt.Errorf("nothing is stored of the output of job %s: its \"run\" ended before any came", name),
		Hint: "see how far it came: {hodei} describe " + shell.Quote(name)}
}

// view is what is to be shown of a job.
type view struct {
	attempt *history.Attempt // nil: none is known yet
	live    bool             // fetch it from its agent, or wait for the next attempt if there is none
	further bool             // go on with the attempts that follow
}

// choose decides what is shown of a job, or returns why nothing can be. wanted is the attempt, counted from 1; 0: the
// last.
func choose(j *history.Job, wanted int, follow bool) (view, error) {
	running := j.Found != nil && !j.Found.Finished
	n := len(j.Attempts)
	switch {
	case wanted > max(n, 1): // the first one may be on its way
		return view{}, &job.Hinted{Err: fmt.Errorf("job %s has no attempt %d: up to now it has had %d", j.Name, wanted, n),
			Hint: "see which there are: {hodei} describe " + shell.Quote(j.Name)}
	case n == 0:
		return chooseNone(j, running, follow)
	case wanted > 0:
		n = wanted
	}
	w := view{attempt: &j.Attempts[n-1], further: running && follow && wanted == 0}
	pod := w.attempt.Pod
	switch {
	case pod == nil || pod.Ended:
	case pod.Running || follow:
		return view{attempt: w.attempt, live: true}, nil
	case running && !w.attempt.IsStored():
		text := "the agent of job %s does not run: its command has not started, or the agent was lost"
		return view{}, &job.Hinted{Err: fmt.Errorf(text, j.Name), Hint: "see how it is: {hodei} describe " + j.Name}
	}
	return w, nil
}

// chooseNone is choose for a job of which no attempt is known.
func chooseNone(j *history.Job, running, follow bool) (view, error) {
	switch {
	case !running:
		return view{}, gone(j.Name, j.Name, 0)
	case follow:
		return view{live: true}, nil
	}
	return view{}, &job.Hinted{Err: fmt.Errorf("job %s has not started", j.Name), Hint: "wait for it: {hodei} logs -f " + j.Name}
}

// Show shows the chosen attempt of a job, and with Follow those that come after it. Missing output is noted, and is
// no error: see [Viewer.Missed].
func (v *Viewer) Show(ctx context.Context, j *history.Job) error {
	w, err := choose(j, v.Attempt, v.Follow)
	switch {
	case err != nil:
		return err
	case w.live:
		return v.live(ctx, j, w.attempt)
	}
	if err := v.ShowOver(ctx, j, w.attempt); err != nil || !w.further {
		return err
	}
	return v.live(ctx, j, nil)
}

// ShowOver shows an attempt that is over: from the store, else from its container's log.
func (v *Viewer) ShowOver(ctx context.Context, j *history.Job, a *history.Attempt) error {
	if a.IsStored() || v.finder.RunsHere(a) {
		return v.showStored(ctx, j, a)
	}
	if a.IsHere() {
		return nothingHere(j.Name)
	}
	if a.Pod == nil {
		return gone(j.Name, a.Name, 0)
	}
	if out := a.Pod.Outcome; out != nil && out.Counted() && out.OutputBytes+out.LostBytes == 0 {
		v.silent(a.Name, out)
		return nil
	}
	return v.showContainer(ctx, j, a)
}

// ShowEnded shows an attempt that ended before its agent was met; "" is the last attempt. It asks the cluster again
// for what is known of the job.
func (v *Viewer) ShowEnded(ctx context.Context, j *history.Job, attempt string) error {
	found, err := v.finder.Cluster.Find(ctx, j.Name)
	if err != nil {
		return err
	}
	now := v.finder.Known(found)
	for i := range now.Attempts {
		if a := &now.Attempts[i]; a.Name == attempt || attempt == "" && i == len(now.Attempts)-1 {
			return v.ShowOver(ctx, now, a)
		}
	}
	return gone(j.Name, cmp.Or(attempt, j.Name), 0)
}

// showStored shows what the store has of an attempt.
func (v *Viewer) showStored(ctx context.Context, j *history.Job, a *history.Attempt) error {
	if err := a.Stored.Unnamed; err != nil {
		v.damaged(err)
	}
	log, err := v.finder.Store.Read(a.Stored.Key)
	if err != nil {
		return err
	}
	defer log.Close()
	_, end := log.Extent()
	start, err := v.start(log, end)
	if err != nil {
		return err
	}
	s := v.saying(j)
	p, err := v.showLog(ctx, s, a, log, start)
	if err != nil {
		return err
	}
	rest := output.Gap{Attempt: a.Name, Offset: p.Offset(), Damage: p.Damage()}
	if record := log.Exit(); record != nil && rest.Damage == nil {
		return v.conclude(s, a.Name, record)
	}
	rest.Damage = cmp.Or(rest.Damage, log.Damage())
	out := storedOutcome(v.finder.Store, a)
	switch {
	case out != nil && out.Counted() && out.OutputBytes <= p.Offset():
		return nil
	case out != nil && out.Counted():
		rest.Bytes = out.OutputBytes - p.Offset()
	case v.finder.RunsHere(a):
		if p.Offset() == 0 {
			v.finder.Note(fmt.Sprintf("%s runs, and has printed nothing yet", a.Name))
		}
		return nil
	case j.Found == nil && v.finder.Store.InUse(a.Stored.Key):
		v.finder.Note(fmt.Sprintf("%s is still followed by another hodei on this machine: this is its output up to now", a.Name))
		return nil
	}
	return s.Gap(rest)
}

// followEvery is how often the log of a job of this machine is looked at, which another process writes. Nobody notices
// a tenth of a second, and each look costs some system calls.
const followEvery = 100 * time.Millisecond

// showLog shows what is stored of an attempt from an offset on. With Follow, and an attempt of this machine, it goes on
// until the attempt has ended. It returns the last passage that was shown.
func (v *Viewer) showLog(ctx context.Context, s output.Sink, a *history.Attempt, log *logstore.Log, from uint64) (*output.Passage, error) {
	for {
		runs := v.Follow && v.finder.RunsHere(a) // asked first: what is written before the end is shown
		p := output.NewPassage(a.Name, log, from)
		if err := p.Show(ctx, s); err != nil || !runs || p.Damage() != nil {
			return p, err
		}
		from = p.Offset()
		select {
		case <-ctx.Done():
			return p, context.Cause(ctx)
		case <-time.After(followEvery):
		}
	}
}

// storedOutcome returns how an attempt ended, by its Pod or by what was stored when it was followed; nil: not known.
func storedOutcome(s *logstore.Store, a *history.Attempt) *job.Outcome {
	if a.Pod != nil && a.Pod.Outcome != nil {
		return a.Pod.Outcome
	}
	if run, err := history.StoredRun(s, a.Stored.Key); err == nil {
		return run.Outcome
	}
	return nil
}

// silent says how an attempt that printed nothing ended. Without that, a person could think that hodei has missed its
// output.
func (v *Viewer) silent(attempt string, out *job.Outcome) {
	if v.EndSaid {
		return
	}
	v.finder.Note(fmt.Sprintf("%s has printed nothing: %s", attempt, ui.Printable(out.Summary())))
}

// conclude tells of the output that the agent itself had no room for, behind all that it sent, or that there was none
// at all.
func (v *Viewer) conclude(s output.Sink, attempt string, r *hodeipb.ExitRecord) error {
	if r.Lost == 0 && r.End == 0 {
		v.silent(attempt, wire.Outcome(r))
	}
	if r.Lost == 0 {
		return nil
	}
	return s.Gap(output.Gap{Attempt: attempt, Offset: r.End, Bytes: r.Lost})
}

// start returns the offset from which a log is shown, by Since and Tail; end is where its output ends.
func (v *Viewer) start(log *logstore.Log, end uint64) (uint64, error) {
	var start uint64
	if !v.Since.IsZero() {
		at, err := log.OffsetAtTime(v.Since)
		if err != nil {
			return 0, err
		}
		start = at
	}
	if v.Tail >= 0 {
		at, err := log.OffsetOfLastLines(v.Tail, v.Stream, end)
		if err != nil {
			return 0, err
		}
		start = max(start, at)
	}
	return start, nil
}
