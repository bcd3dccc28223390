package cli

import (
	"cmp"
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
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/shell"
)

// How much of the end of an output is fetched at first for --tail, and how much
// more each time when it has too few lines: 64 KiB is one batch, and 16 times more
// reaches any spool in four steps.
const tailBytes, tailMore = 64 << 10, 16

// errTooFew is that the output fetched has fewer lines than were asked for.
var errTooFew = errors.New("too few lines")

// live shows an attempt that runs, fetched from its agent: nil is the next one. With
// -f it goes on to the job's end.
func (o *logsOptions) live(ctx context.Context, j *knownJob, a *knownAttempt) error {
	for estimate := uint64(tailBytes); ; estimate *= tailMore {
		err := o.fetch(ctx, j, a, estimate)
		if errors.Is(err, errTooFew) {
			continue
		}
		// Who may not reach the agent may still read what it has copied.
		failure, ok := errors.AsType[*job.Failure](err)
		if !ok || failure.Cause != job.Forbidden || !j.found.Spec.ContainerLogs || errors.Is(err, kubernetes.ErrLost) {
			return outOfReach(err, j.name, "{hodei} logs -f "+shell.Quote(j.name))
		}
		o.screen.Note(failure.Message)
		if o.follow {
			return outOfReach(o.followContainers(ctx, j, a), j.name, "{hodei} logs -f "+shell.Quote(j.name))
		}
		return o.showContainer(ctx, j, a)
	}
}

// partial tells that only a part of an attempt's output is wanted: --tail and
// --since are of what was there when we came.
func (o *logsOptions) partial(j *knownJob, uid string) bool {
	there := slices.ContainsFunc(j.attempts, func(a knownAttempt) bool { return a.uid == uid })
	return there && (o.tail >= 0 || !o.since.IsZero())
}

// feed is the Listener of hodei logs.
type feed struct {
	attached chan coordinator.Attachment // of each attempt the first one, from the wanted one on
	fail     context.CancelCauseFunc
	partial  func(uid string) bool

	mu     sync.Mutex
	wanted string // the UID of the attempt that is waited for; empty: of any
	seen   map[string]bool
}

func newFeed(fail context.CancelCauseFunc, partial func(uid string) bool) *feed {
	return &feed{attached: make(chan coordinator.Attachment, job.MaxRetries+1), fail: fail, partial: partial, seen: map[string]bool{}}
}

func (f *feed) Attached(a coordinator.Attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[a.Hello.Attempt] {
		return
	}
	f.seen[a.Hello.Attempt] = true
	if f.wanted != "" && a.Hello.AttemptUid != f.wanted { // one that ended, or comes later
		return
	}
	f.wanted = ""
	if !f.partial(a.Hello.AttemptUid) { // else what is wanted is known once all of it is stored
		a.Log.Hold(0)
	}
	select {
	case f.attached <- a:
	default:
		f.fail(fmt.Errorf("more attempts than a job can have"))
	}
}

// Metrics is for the store, which has it already.
func (f *feed) Metrics(string, *hodeipb.Metrics) {}

func (f *feed) State(string, *hodeipb.State)       {}
func (f *feed) Exited(string, *hodeipb.ExitRecord) {}
func (f *feed) Failed(_ string, err error)         { f.fail(fmt.Errorf("%w: %w", errStoring, err)) }

// errStoring tells an error of the store from one of who reads our output.
var errStoring = errors.New("store output")

// fetch attaches to the job and shows the attempt a, or with nil those to come. The
// output comes from the store as far as it is there; the end of one that is not is
// fetched alone, if no more is asked for: estimate bytes of it for --tail.
func (o *logsOptions) fetch(ctx context.Context, j *knownJob, a *knownAttempt, estimate uint64) error {
	run, err := o.cluster.Attach(ctx, j.found, kubernetes.RunOptions{})
	if err != nil {
		return err
	}
	defer run.Close()
	serving, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	feed := newFeed(fail, func(uid string) bool { return o.partial(j, uid) })
	if a != nil {
		feed.wanted = a.uid
	}
	recorder := &coordinator.Recorder{Store: o.store.Store, JobUID: run.UID(), Listener: feed}
	recorder.Begin = func(h *hodeipb.Hello) uint64 {
		if !o.partial(j, h.AttemptUid) {
			return 0
		}
		return o.begin(h.Extent, estimate)
	}
	attachment := &follow.Attachment{
		Job: run, Namespace: o.namespace, Name: j.name, Recorder: recorder, Every: follow.UnwatchedEvery,
		Report: func(e job.Event) {
			if e.Waiting && e.Phase == job.Running { // its agent can't be reached
				o.screen.Note(e.Detail)
			}
		},
		TurnedAway: func(f *coordinator.Fault) { o.screen.Note(follow.FaultNote(f)) },
	}
	err = attachment.Run(serving, func(meeting context.Context, e *follow.Events) error {
		complete, err := o.follows(meeting, e, j, a, feed, estimate)
		if complete {
			e.Complete()
		}
		if err != nil && meeting.Err() != nil && ctx.Err() == nil {
			return context.Cause(meeting) // and not what came of it
		}
		return err
	})
	if e := recorder.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("%w: %w", errStoring, e))
	}
	if errors.Is(err, errStoring) && errors.Is(err, syscall.ENOSPC) {
		return &job.Hinted{Err: err, Hint: fmt.Sprintf("make room in %s", o.store.Dir)}
	}
	if errors.Is(err, follow.ErrNotMet) { // it ended before we came
		attempt := ""
		if a != nil {
			attempt = a.name
		}
		return o.showEnded(ctx, j, attempt)
	}
	return err
}

// showEnded shows an attempt that ended while we were on the way to it; "" is the
// last one.
func (o *logsOptions) showEnded(ctx context.Context, j *knownJob, attempt string) error {
	found, err := o.cluster.Find(ctx, j.name)
	if err != nil {
		return err
	}
	now := o.known(found)
	for i := range now.attempts {
		if a := &now.attempts[i]; a.name == attempt || attempt == "" && i == len(now.attempts)-1 {
			return o.showOver(ctx, now, a)
		}
	}
	return gone(j.name, cmp.Or(attempt, j.name), 0)
}

// follows shows attempts as they attach, until the one that is wanted is shown, or
// the job is over. It tells whether all output of the last one was stored.
func (o *logsOptions) follows(ctx context.Context, e *follow.Events, j *knownJob, a *knownAttempt, feed *feed, estimate uint64) (complete bool, err error) {
	patience := follow.Patience{Endless: o.follow}
	if o.follow {
		patience.Refused = func(refusal *job.Failure) {
			o.screen.Note(fmt.Sprintf("%s; trying on for %s", refusal, follow.RefusedWait))
		}
	}
	if a != nil { // else it is the job that is waited for
		patience.Slow = func() { o.screen.Note(o.meeting(j.name)) }
	}
	for met := false; ; met = true {
		at, err := follow.Meet(ctx, e, feed.attached, patience)
		switch {
		case errors.Is(err, follow.ErrLate):
			return false, &job.Hinted{Err: fmt.Errorf("the agent of job %s was not reached within %s", j.name, follow.MeetWait), Hint: "see how it is: {hodei} describe " + j.name}
		case errors.Is(err, follow.ErrNotMet) && met:
			return complete, nil
		case err != nil:
			return false, err
		}
		if why := temporary(at); why != "" {
			o.screen.Note(why)
		}
		if complete, err = o.showLive(ctx, e.Over, j, at, estimate); err != nil {
			return false, err
		}
		if !o.follow || o.attempt > 0 {
			return complete, nil
		}
		patience.Slow = nil // the next attempt comes when the cluster lets it
	}
}

// showLive shows what an attempt has printed, and with -f what it prints.
func (o *logsOptions) showLive(ctx context.Context, over *follow.End, j *knownJob, at coordinator.Attachment, estimate uint64) (complete bool, err error) {
	extent := at.Hello.Extent
	start, err := o.startOf(ctx, over, j, at, estimate)
	if err != nil {
		return false, err
	}
	s := o.saying(j.name)
	p := output.NewPassage(at.Hello.Attempt, at.Log, start)
	if !o.follow && at.Hello.State.Phase != hodeipb.Phase_ENDED {
		p.To = extent.End
	}
	defer context.AfterFunc(over, p.End)()
	if err := p.Show(ctx, s); err != nil {
		return false, err
	}
	if lost := context.Cause(over); errors.Is(lost, kubernetes.ErrLost) {
		return false, lost // there may be more, and it is not gone
	}
	switch {
	case p.To < math.MaxUint64 && p.Offset() < p.To:
		return false, s.Gap(output.Gap{Attempt: p.Attempt, Offset: p.Offset(), Bytes: p.To - p.Offset(), Damage: p.Damage()})
	case at.Log.Exit() != nil:
		return true, o.conclude(s, p.Attempt, at.Log.Exit())
	case p.To < math.MaxUint64:
		return false, nil
	}
	// The Pod is gone, and so is what it had still to send.
	var lost uint64
	if out := over.Outcome; out != nil && out.Attempt == at.Hello.Attempt {
		if counted(out) && out.OutputBytes <= p.Offset() {
			return false, nil
		}
		lost = out.OutputBytes - min(out.OutputBytes, p.Offset())
	}
	return false, s.Gap(output.Gap{Attempt: at.Hello.Attempt, Offset: p.Offset(), Bytes: lost, Damage: p.Damage()})
}

// startOf waits until the part of an attempt's output that is wanted is stored, and returns where it
// starts. The error is errTooFew if more has to be fetched for --tail.
func (o *logsOptions) startOf(ctx context.Context, over *follow.End, j *knownJob, at coordinator.Attachment, estimate uint64) (uint64, error) {
	if !o.partial(j, at.Hello.AttemptUid) {
		return 0, nil
	}
	extent := at.Hello.Extent
	if err := awaitStored(ctx, over, at.Log, extent.End); err != nil {
		return 0, err
	}
	start, err := o.start(at.Log, extent.End)
	if err != nil {
		return 0, err
	}
	first, _ := at.Log.Extent()
	begun, more := o.begin(extent, estimate), o.begin(extent, estimate*tailMore)
	switch {
	case start > first:
	case first > begun:
		return begun, nil // the store had no room: what it dropped is said to be missing
	case first == begun && more < begun && o.tail > 0:
		return 0, errTooFew
	}
	return start, nil
}

// begin is from where on the output of a running attempt is fetched for --tail and
// --since.
func (o *logsOptions) begin(extent *hodeipb.Extent, estimate uint64) uint64 {
	var begin uint64
	for _, m := range extent.Marks {
		if !o.since.IsZero() && m.TimeUnixNano <= o.since.UnixNano() {
			begin = max(begin, m.Offset)
		}
	}
	if o.tail == 0 {
		estimate = 0
	}
	if o.tail >= 0 && estimate < extent.End {
		begin = max(begin, extent.End-estimate)
	}
	if begin <= extent.First || begin > extent.End {
		return 0 // all that there is
	}
	return begin
}

// awaitStored waits until the log goes up to end, or will not grow any more.
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

// errNoTunnel is of a job that can be followed in no way.
func errNoTunnel(found *kubernetes.Found) error {
	return &job.Failure{Cause: job.Forbidden, Message: fmt.Sprintf("the tunnel to job %s is forbidden (create pods/portforward), and it keeps no output in its container's log", found.Spec.Name),
		Hint: "ask for the right, or run it with --container-logs"}
}
