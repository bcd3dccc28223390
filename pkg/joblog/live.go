package joblog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"syscall"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/history"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// For --tail, tailBytes of the output's end are fetched at first, which is one batch. If they have too few lines, we
// try again with tailMore times as many: four steps reach the beginning of any spool.
const tailBytes, tailMore = 64 << 10, 16

// errTooFew says that the output that was fetched has fewer lines than were asked for.
var errTooFew = errors.New("too few lines")

// live shows a running attempt, or the next one if a is nil, as its agent sends it. With Follow it goes on to the
// job's end.
func (v *Viewer) live(ctx context.Context, j *history.Job, a *history.Attempt) error {
	for estimate := uint64(tailBytes); ; estimate *= tailMore {
		err := (&fetch{Viewer: v, job: j, attempt: a, estimate: estimate}).run(ctx)
		if errors.Is(err, errTooFew) {
			continue
		}
		// A user who may not reach the agent may still read what it has copied to its container's log.
		failure, ok := errors.AsType[*job.Failure](err)
		if !ok || failure.Cause != job.Forbidden || !j.Found.Spec.ContainerLogs || errors.Is(err, kubernetes.ErrLost) {
			return outOfReach(err, j.Name, "{hodei} logs -f "+shell.Quote(j.Name))
		}
		v.finder.Note(failure.Message)
		if v.Follow {
			return outOfReach(v.followContainers(ctx, j, a), j.Name, "{hodei} logs -f "+shell.Quote(j.Name))
		}
		return v.showContainer(ctx, j, a)
	}
}

// partial reports whether only a part of an attempt's output is wanted: Tail and Since apply to attempts that were
// there when we came.
func (v *Viewer) partial(j *history.Job, uid string) bool {
	there := slices.ContainsFunc(j.Attempts, func(a history.Attempt) bool { return a.UID == uid })
	return there && (v.Tail >= 0 || !v.Since.IsZero())
}

// feed is the coordinator.Listener of a fetch: it hands on each attempt that attaches.
type feed struct {
	attached chan coordinator.Attachment // the first attachment of each attempt, from the wanted attempt on
	fail     context.CancelCauseFunc
	partial  func(uid string) bool

	mu     sync.Mutex
	wanted string // UID of the attempt that is waited for; empty: any attempt will do
	seen   map[string]bool
}

func newFeed(fail context.CancelCauseFunc, partial func(uid string) bool) *feed {
	return &feed{attached: make(chan coordinator.Attachment, job.MaxRetries+1), fail: fail, partial: partial, seen: map[string]bool{}}
}

// Attached hands on each attempt once, from the wanted one on.
func (f *feed) Attached(a coordinator.Attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[a.Hello.Attempt] {
		return
	}
	f.seen[a.Hello.Attempt] = true
	if f.wanted != "" && a.Hello.AttemptUid != f.wanted { // one before or after the wanted one
		return
	}
	f.wanted = ""
	if !f.partial(a.Hello.AttemptUid) { // of a part, where it begins is known only once all is stored
		a.Log.Hold(0)
	}
	select {
	case f.attached <- a:
	default:
		f.fail(fmt.Errorf("more attempts than a job can have"))
	}
}

// Metrics, State and Exited are of no use here: the recorder stores what they tell.
func (f *feed) Metrics(string, *hodeipb.Metrics) {}

// State does nothing.
func (f *feed) State(string, *hodeipb.State) {}

// Exited does nothing.
func (f *feed) Exited(string, *hodeipb.ExitRecord) {}

// Failed ends the fetch: its output can't be stored.
func (f *feed) Failed(_ string, err error) { f.fail(fmt.Errorf("%w: %w", errStoring, err)) }

// errStoring marks an error of the store, as against one of the sink that the output is written to.
var errStoring = errors.New("store output")

// fetch shows the output of a job while it is fetched from its agents.
type fetch struct {
	*Viewer
	job     *history.Job
	attempt *history.Attempt // nil: the next one
	// estimate is how many bytes of the end of an output are fetched for --tail.
	estimate uint64
	feed     *feed
}

// run attaches to the job and shows what is wanted of it. What the store has already is not fetched again. If only the
// end is asked for and the store has nothing of the output, only the end is fetched.
func (f *fetch) run(ctx context.Context) error {
	run, err := f.finder.Cluster.Attach(ctx, f.job.Found, kubernetes.RunOptions{})
	if err != nil {
		return err
	}
	defer run.Close()
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	f.feed = newFeed(fail, func(uid string) bool { return f.partial(f.job, uid) })
	wanted := ""
	if f.attempt != nil {
		wanted, f.feed.wanted = f.attempt.Name, f.attempt.UID
	}
	recorder := &coordinator.Recorder{Store: f.finder.Store, JobUID: run.UID(), Listener: f.feed}
	recorder.Begin = func(h *hodeipb.Hello) uint64 {
		if !f.partial(f.job, h.AttemptUid) {
			return 0
		}
		return f.begin(h.Extent, f.estimate)
	}
	attachment := &follow.Attachment{
		Job: run, Namespace: f.finder.Namespace, Name: f.job.Name, Recorder: recorder, Every: follow.UnwatchedEvery,
		Report: func(e job.Event) {
			if e.Waiting && e.Phase == job.Running { // the agent can't be reached
				f.finder.Note(e.Detail)
			}
		},
		TurnedAway: func(fault *coordinator.Fault) { f.finder.Note(follow.FaultNote(fault)) },
	}
	err = attachment.Run(serving, func(meeting context.Context, e *follow.Events) error {
		complete, err := f.follows(meeting, e)
		if complete {
			e.Complete()
		}
		if err != nil && meeting.Err() != nil && ctx.Err() == nil {
			return context.Cause(meeting) // the reason, not what came of it
		}
		return err
	})
	if e := recorder.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", errStoring, e))
	}
	switch {
	case errors.Is(err, errStoring) && errors.Is(err, syscall.ENOSPC):
		return &job.Hinted{Err: err, Hint: fmt.Sprintf("make room in %s", f.StoreDir)}
	case errors.Is(err, follow.ErrNotMet): // it ended before we came
		return f.ShowEnded(ctx, f.job, wanted)
	}
	return err
}

// meeting returns the note that the agent of a job is waited for.
func (v *Viewer) meeting(name string) string {
	if v.Follow {
		return fmt.Sprintf("waiting for the agent of job %s", name)
	}
	return fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, name)
}

// follows shows attempts as they attach, until the wanted one is shown or the job is over. complete is true if all
// output of the last one was stored.
func (f *fetch) follows(ctx context.Context, e *follow.Events) (complete bool, err error) {
	patience := f.patience(f.job.Name, f.attempt != nil)
	for met := false; ; met = true {
		at, err := follow.Meet(ctx, e, f.feed.attached, patience)
		switch {
		case errors.Is(err, follow.ErrLate):
			return false, &job.Hinted{Err: fmt.Errorf("the agent of job %s was not reached within %s", f.job.Name, follow.MeetWait),
				Hint: "see how it is: {hodei} describe " + f.job.Name}
		case errors.Is(err, follow.ErrNotMet) && met:
			return complete, nil
		case err != nil:
			return false, err
		}
		if why := Temporary(at); why != "" {
			f.finder.Note(why)
		}
		if complete, err = f.showLive(ctx, e.Over, at); err != nil {
			return false, err
		}
		if !f.Follow || f.Attempt > 0 {
			return complete, nil
		}
		patience.Slow = nil // the next attempt comes when the cluster lets it
	}
}

// patience returns how to wait: for the agent of an attempt if one is known, else for the job to start.
func (v *Viewer) patience(name string, known bool) follow.Patience {
	p := follow.Patience{Endless: v.Follow}
	if v.Follow {
		p.Refused = func(refusal *job.Failure) {
			v.finder.Note(fmt.Sprintf("%s; trying on for %s", refusal, follow.RefusedWait))
		}
	}
	if known {
		p.Slow = func() { v.finder.Note(v.meeting(name)) }
	}
	return p
}

// Temporary says why the output of an attempt that has attached is not kept in the log store; empty: it is kept, or
// only a part of it is wanted.
func Temporary(a coordinator.Attachment) string {
	switch {
	case a.Temporary == nil || errors.Is(a.Temporary, coordinator.ErrShort):
		return ""
	case errors.Is(a.Temporary, logstore.ErrInUse):
		return fmt.Sprintf("another hodei on this machine stores the output of %s: it is fetched once more for here", a.Hello.Attempt)
	}
	return fmt.Sprintf("the output of %s is not kept in the log store: %v", a.Hello.Attempt, a.Temporary)
}

// showLive shows what an attempt has printed, and with Follow what it prints from now on. complete is true if all of
// its output was stored.
func (f *fetch) showLive(ctx context.Context, over *follow.End, at coordinator.Attachment) (complete bool, err error) {
	start, err := f.startOf(ctx, over, at)
	if err != nil {
		return false, err
	}
	s := f.saying(f.job)
	p := output.NewPassage(at.Hello.Attempt, at.Log, start)
	if !f.Follow && at.Hello.State.Phase != hodeipb.Phase_ENDED {
		p.To = at.Hello.Extent.End
	}
	defer context.AfterFunc(over, p.End)()
	if err := p.Show(ctx, s); err != nil {
		return false, err
	}
	if lost := context.Cause(over); errors.Is(lost, kubernetes.ErrLost) {
		return false, lost // more output may come, so nothing is missing yet
	}
	reached := shown{attempt: p.Attempt, from: p.Offset(), to: p.To, record: at.Log.Exit()}
	if over.Err() != nil {
		reached.outcome = over.Outcome
	}
	gap, missing := reached.missing()
	switch {
	case missing:
		gap.Damage = p.Damage()
		return false, s.Gap(gap)
	case reached.whole():
		return true, f.conclude(s, p.Attempt, reached.record)
	}
	return false, nil
}

// shown is how far the output of an attempt was shown, and what is known of its end.
type shown struct {
	attempt  string
	from, to uint64 // it was shown up to from, and should have been up to to; math.MaxUint64: to its end
	record   *hodeipb.ExitRecord
	outcome  *job.Outcome // of the job; nil: it goes on, or nobody knows
}

// whole reports whether the end of the output was shown.
func (s shown) whole() bool { return s.record != nil && (s.to == math.MaxUint64 || s.from >= s.to) }

// missing returns what could not be shown; false: nothing, as far as is known.
func (s shown) missing() (output.Gap, bool) {
	g := output.Gap{Attempt: s.attempt, Offset: s.from}
	switch {
	case s.to < math.MaxUint64:
		g.Bytes = s.to - min(s.to, s.from)
		return g, g.Bytes > 0
	case s.record != nil:
		return g, false
	}
	// The Pod is gone, with what it had not sent yet.
	if out := s.outcome; out != nil && out.Attempt == s.attempt {
		g.Bytes = out.OutputBytes - min(out.OutputBytes, s.from)
		return g, g.Bytes > 0 || !out.Counted()
	}
	return g, true
}

// startOf waits until the wanted part of an attempt's output is stored, and returns where it starts. The error is
// errTooFew if more has to be fetched for --tail.
func (f *fetch) startOf(ctx context.Context, over *follow.End, at coordinator.Attachment) (uint64, error) {
	if !f.partial(f.job, at.Hello.AttemptUid) {
		return 0, nil
	}
	extent := at.Hello.Extent
	if err := awaitStored(ctx, over, at.Log, extent.End); err != nil {
		return 0, err
	}
	start, err := f.start(at.Log, extent.End)
	if err != nil {
		return 0, err
	}
	first, _ := at.Log.Extent()
	begun, more := f.begin(extent, f.estimate), f.begin(extent, f.estimate*tailMore)
	switch {
	case start > first:
	case first > begun:
		return begun, nil // the store had no room; what it dropped will show as missing
	case first == begun && more < begun && f.Tail > 0:
		return 0, errTooFew
	}
	return start, nil
}

// begin returns the offset from which the output of a running attempt is fetched for --tail and --since. estimate is
// how many bytes the last lines may take.
func (v *Viewer) begin(extent *hodeipb.Extent, estimate uint64) uint64 {
	var begin uint64
	for _, m := range extent.Marks {
		if !v.Since.IsZero() && m.TimeUnixNano <= v.Since.UnixNano() {
			begin = max(begin, m.Offset)
		}
	}
	if v.Tail == 0 {
		estimate = 0
	}
	if v.Tail >= 0 && estimate < extent.End {
		begin = max(begin, extent.End-estimate)
	}
	if begin <= extent.First || begin > extent.End {
		return 0 // all that there is
	}
	return begin
}

// awaitStored waits until the log reaches end, or over ends and the log grows no more.
func awaitStored(ctx, over context.Context, log *logstore.Log, end uint64) error {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(over, cancel)()
	_, stored := log.Extent()
	for reader := log.Reader(stored); stored < end; {
		_, err := reader.Next(wait)
		if err != nil && ctx.Err() == nil && wait.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		_, stored = log.Extent()
	}
	return nil
}

// outOfReach completes an error with which command lost the cluster while it followed a job: the job goes on, and a
// hint says how to come back to it.
func outOfReach(err error, name, command string) error {
	if !errors.Is(err, kubernetes.ErrLost) {
		return err
	}
	return &job.Hinted{Err: fmt.Errorf("%w; job %s goes on", err, name), Hint: kubernetes.ComeBack(err, command)}
}
