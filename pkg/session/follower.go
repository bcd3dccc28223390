package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/terminal"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// follower is what a session knows of its job: it shows the start, has the display show the output that is stored, and
// tells the session what it has to act on. It is the Listener of the session's Recorder.
type follower struct {
	display  *output.Display
	sink     output.Sink
	silent   bool // no output was asked for
	fallback bool // no agent is met: it comes from the container's log
	attached bool // the job was there before us
	terminal *terminal.Terminal
	screen   *output.Screen
	events   *output.Events
	usage    *usageHistory
	describe string
	name     string

	// running is closed when the command runs. exited carries the exit records of attempts, stuck why output can't be
	// stored.
	running chan struct{}
	exited  chan *hodeipb.ExitRecord
	stuck   chan error
	// held has a value when an attempt's start is held.
	held chan struct{}

	mu        sync.Mutex
	onRunning sync.Once
	attempt   string                     // the latest that attached
	passages  map[string]*output.Passage // by attempt
	before    map[string]bool            // attempts that showBefore has queued
	queued    bool                       // the latest attempt's passage was queued for the display
	tail      *joblog.Tail               // in the fallback: the log of the latest attempt's container
	agentUp   time.Duration              // how long it took until the latest attempt attached
	shown     bool                       // it was shown that the latest attempt's command runs
	hushed    bool                       // the start was taken back: nothing more is shown of it
	waiting   string                     // the attempt whose command was last shown to be waited for
	blocked   bool                       // the job waits until its output is stored
	blockedAt time.Time                  // when that was said last
	stopping  bool                       // an agent has said that its command was told to stop
	unstarted map[string]bool            // attempts whose command never started
	ended     bool                       // the latest attempt has an exit record
	last      *hodeipb.ExitRecord        // the latest one, of any attempt; nil: none came yet
	lost      string                     // what is first known to be missing of the output; empty: nothing
	fullDisk  bool                       // output is missing because the spool's disk was full,
	dropped   bool                       // because the spool was full,
	damaged   bool                       // because what is stored here is damaged
}

// exitedBuffer is the room for exit records that the session has not taken yet. It takes each at once.
const exitedBuffer = 16

// blockedEvery is the least time between two notes that the job is blocked. A reader that is
// only a little too slow blocks it many times a second.
const blockedEvery = time.Minute

func newFollower(c *Config) *follower {
	f := &follower{
		display: output.NewDisplay(), sink: c.Sink, silent: !c.Follow, fallback: c.Fallback, attached: c.Attached, terminal: c.Terminal,
		screen: c.Screen, events: c.Events, usage: &usageHistory{}, describe: c.Place.Describe(), name: c.Spec.Name,
		running:  make(chan struct{}),
		exited:   make(chan *hodeipb.ExitRecord, exitedBuffer),
		stuck:    make(chan error, 1),
		held:     make(chan struct{}, 1),
		passages: map[string]*output.Passage{},
		before:   map[string]bool{}, unstarted: map[string]bool{},
	}
	if c.UsageInterval > 0 {
		f.usage.events = c.Events
	}
	return f
}

// phase shows what the provider reports.
func (f *follower) phase(e job.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown { // the command's output has the terminal
		if e.Waiting && !f.hushed {
			f.beside(e)
		}
		return
	}
	if f.attached && e.Phase == job.Submitted && !e.Waiting { // by somebody, some time ago
		return
	}
	if e.Phase == job.Submitted && !e.Waiting {
		e.Detail = f.name + " to " + f.describe
	}
	f.show(e)
}

// beside shows what the job waits for, while the command's output has the terminal.
func (f *follower) beside(e job.Event) {
	f.display.Aside(func() {
		f.screen.Note(e.Detail)
		if err := f.events.Phase(e); err != nil {
			f.display.Fail(err)
		}
	})
}

// hush ends the display of a start that was taken back.
func (f *follower) hush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown, f.hushed = true, true
	f.screen.Stop()
}

// show queues a phase for the display, after all that happened before it.
func (f *follower) show(e job.Event) {
	f.unlessHushed(func() error {
		f.screen.Phase(e)
		if e.Phase == job.Running {
			f.screen.Stop()
			if err := f.enterTerminal(); err != nil {
				return err
			}
		}
		return f.events.Phase(e)
	})
}

// unlessHushed queues a step that shows something of the start. It is left out if the start has been taken back by
// then.
func (f *follower) unlessHushed(step func() error) {
	f.display.Say(func() error {
		f.mu.Lock()
		hushed := f.hushed
		f.mu.Unlock()
		if hushed {
			return nil
		}
		return step()
	})
}

// closed reports whether the reader of our output has gone.
func (f *follower) closed() bool { return errors.Is(f.display.Err(), syscall.EPIPE) }

// Attached prepares the display of an attempt.
func (f *follower) Attached(a coordinator.Attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := a.Hello.Attempt
	if name == f.attempt || f.passages[name] != nil {
		return
	}
	if f.attempt != "" {
		f.abandon()
	}
	if f.last != nil {
		over := wire.Outcome(f.last)
		over.Attempt = f.attempt
		f.display.Say(func() error {
			f.screen.Note(fmt.Sprintf("%s; next attempt: %s", f.screen.WithUsage(over.Summary(), over, nil), name))
			return f.events.Attempt(over)
		})
	}
	f.attempt, f.queued, f.shown, f.ended = name, false, false, false
	f.agentUp = f.screen.Elapsed()
	if a.Log != nil {
		from := uint64(0)
		if f.attached && f.terminal != nil {
			from = a.Hello.Extent.End
		}
		f.passages[name] = output.NewPassage(name, a.Log, from)
	}
	if why := joblog.Temporary(a); why != "" {
		f.display.Say(func() error {
			f.screen.Note(why)
			return nil
		})
	}
	if f.events != nil {
		f.show(job.Event{Phase: job.AgentUp, Time: time.Now(), Detail: name})
	}
}

// enqueue queues the latest attempt's output for the display, once. It is called with f.mu held.
func (f *follower) enqueue() {
	p := f.passages[f.attempt]
	if f.queued || p == nil {
		return
	}
	f.queued = true
	f.display.Do(func(ctx context.Context) error { return p.Show(ctx, followedSink{f.sink, f}) })
}

// abandon ends the display of the latest attempt where its output does: nothing
// more will come of it. It is called with f.mu held.
func (f *follower) abandon() {
	p := f.passages[f.attempt]
	if p == nil {
		return
	}
	p.End()
	f.enqueue()
	if !f.ended && !f.unstarted[p.Attempt] {
		f.display.Say(func() error { return f.lose(output.Gap{Attempt: p.Attempt, Offset: p.Offset(), Damage: p.Damage()}) })
	}
}

// showBefore queues show, which shows an attempt that was over when we came. It does nothing if that attempt has
// attached all the same, or is queued already.
func (f *follower) showBefore(attempt string, show func(context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if attempt == "" || f.before[attempt] || f.passages[attempt] != nil {
		return
	}
	f.before[attempt] = true
	f.display.Do(func(ctx context.Context) error {
		if ctx.Err() == nil {
			return show(ctx)
		}
		return nil
	})
}

// complete is called once the job is over: the display ends where the output of the latest attempt does. The channel
// that complete returns is closed then.
func (f *follower) complete() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if p := f.passages[f.attempt]; p != nil {
		p.End()
		f.enqueue()
	}
	slow := time.NewTimer(0)
	slow.Stop()
	if f.tail != nil {
		f.tail.End()
		slow = time.AfterFunc(restNote, func() {
			f.say("the command has ended: the rest of its output is still being read from the container's log")
		})
	}
	shown := make(chan struct{})
	f.display.Do(func(ctx context.Context) error {
		f.display.AwaitAside(ctx)
		defer close(shown)
		slow.Stop()
		if ctx.Err() != nil {
			return nil
		}
		return f.usage.tell() // what came while something else was said
	})
	return shown
}

// Metrics keeps a sample for the summary. If samples are wanted as events, it writes them beside the output, which a
// slow reader may hold up for as long as the job runs.
func (f *follower) Metrics(attempt string, m *hodeipb.Metrics) {
	f.usage.add(attempt, m)
	if f.usage.events != nil {
		f.display.Aside(func() {
			if err := f.usage.tell(); err != nil {
				f.display.Fail(err)
			}
		})
	}
}

// State shows that the command runs, once an attempt.
func (f *follower) State(attempt string, state *hodeipb.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopping = f.stopping || state.Phase == hodeipb.Phase_STOPPING
	if state.Phase == hodeipb.Phase_HELD {
		select {
		case f.held <- struct{}{}:
		default: // it is told already
		}
	}
	if state.Phase < hodeipb.Phase_RUNNING {
		if f.waiting == attempt {
			return
		}
		f.waiting = attempt
		f.unlessHushed(func() error {
			f.screen.Waiting("agent up, waiting for the command")
			return nil
		})
		return
	}
	if attempt != f.attempt {
		f.onRunning.Do(func() { close(f.running) })
		return
	}
	if state.BlockedOnOutput && !f.blocked && time.Since(f.blockedAt) > blockedEvery {
		f.blockedAt = time.Now()
		f.display.Aside(func() { f.screen.Note("the job waits: its output can't be stored fast enough") })
	}
	f.blocked = state.BlockedOnOutput
	detail := fmt.Sprintf("agent %s, command %s", job.Duration(f.agentUp), job.Duration(f.screen.Elapsed()))
	if f.attached {
		detail = attempt
	}
	if wire.Ran(state) {
		f.runs(detail)
	} else {
		f.unstartedYet(state.Phase == hodeipb.Phase_ENDED)
	}
	f.enqueue()
}

// unstartedYet is for a command that was told to stop, or has ended, and of which nobody says that it was started. At its
// end the display of its start ends too: the exit record says why. It is called with f.mu held.
func (f *follower) unstartedYet(ended bool) {
	f.onRunning.Do(func() { close(f.running) })
	if f.shown || !ended {
		return
	}
	f.shown = true
	f.unlessHushed(func() error {
		f.screen.Stop()
		return nil
	})
}

// toldToStop reports whether an agent has said that its command was told to stop.
func (f *follower) toldToStop() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopping
}

// neverStarted notes that the command of an attempt never started: no output of it is missing.
func (f *follower) neverStarted(attempt string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unstarted[attempt] = true
}

// latest returns the name of the attempt that attached last.
func (f *follower) latest() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attempt
}

// runs shows that the latest attempt's command runs. It is called with f.mu held.
func (f *follower) runs(detail string) {
	f.onRunning.Do(func() { close(f.running) })
	if f.shown {
		return
	}
	f.show(job.Event{Phase: job.Running, Time: time.Now(), Detail: detail})
	f.shown = true
}

// runsUnmet shows that the command of an attempt runs. It is for attempts whose agent can't be reached.
func (f *follower) runsUnmet(pod string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shown = false // that of another attempt
	f.runs(pod)
}

// Exited hands the exit record of an attempt to the session.
func (f *follower) Exited(attempt string, record *hodeipb.ExitRecord) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = record
	if attempt == f.attempt {
		f.ended = true
		f.enqueue()
	}
	if record.Lost > 0 && !f.silent {
		f.fullDisk = true
		f.display.Say(func() error { return f.lose(output.Gap{Attempt: attempt, Offset: record.End, Bytes: record.Lost}) })
	}
	select {
	case f.exited <- record:
	default: // more attempts than were asked for: some did not count
	}
}

// Failed hands to the session why output can't be stored.
func (f *follower) Failed(_ string, err error) {
	select {
	case f.stuck <- err:
	default: // the first one ends the run
	}
}

// say shows a note, also among events, whatever is still to be shown.
func (f *follower) say(note string) {
	f.display.Aside(func() {
		f.screen.Note(note)
		if err := f.events.Note(note); err != nil {
			f.display.Fail(err)
		}
	})
}

// ran reports whether the command ran, in any attempt.
func (f *follower) ran() bool {
	select {
	case <-f.running:
		return true
	default:
		return false
	}
}
