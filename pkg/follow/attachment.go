// Package follow meets the agents of a job: it serves their connections, watches the job at the same time, and tells
// what goes wrong between an agent and us. Start with [Attachment]; one is made for each meeting. What agents send goes
// to the Listener of its Recorder. An [Inquiry] asks an agent for the samples that it has, and a [Meter] tells what a
// job uses while it runs.
//
// The package shows nothing and decides nothing about the job: it does not stop or delete it, and has no words for its
// end.
package follow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// drainWait bounds how long the end of a meeting waits for agents to know that all is stored; without
// it their Pods linger.
const drainWait = 2 * time.Second

// Job is a job whose agents can be met. If its agents are met through a tunnel, so that nobody else can refuse us, it
// also has a method Refused(error) *job.Failure, which explains why one side refused the other's certificate. Without
// that method, refused handshakes are tried again without end.
type Job interface {
	// Listener returns where its agents arrive, and TLS our side of their connections.
	Listener() net.Listener
	TLS() *tls.Config
	// Watch tells what becomes of it and returns its end, or why that can't be known. It is called
	// once.
	Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error)
}

// refuser is a Job that can explain refused handshakes.
type refuser interface {
	Refused(err error) *job.Failure
}

// Attachment meets the agents of one job. It requires Job and, unless it is Unserved, Namespace, Name
// and Recorder. Set the fields before [Attachment.Run], which is called once. The other methods may be
// called at any time, and at the same time.
type Attachment struct {
	Job Job
	// Namespace and Name are the job's. Agents of another job are not let in.
	Namespace, Name string
	// Recorder takes what agents send. Without a Store, agents are asked for no output. The caller closes the Recorder
	// and the Job when Run has returned.
	Recorder *coordinator.Recorder
	// Every is how often agents are asked for a sample; 0: they are not.
	Every time.Duration
	// NewSamples leaves out samples from before an attempt attached for the first time.
	NewSamples bool
	// Input, if not nil, is the stdin of the job's command.
	Input *coordinator.Input
	// Exec, if not nil, is all that is wanted of the job's agents: that one runs a command beside the job's. Recorder,
	// Every and Input are not used then.
	Exec *coordinator.Execution
	// Unserved only watches the job, because its agents can't be reached.
	Unserved bool
	// Report, if not nil, is told the phases of the job, one after the other. No call begins after
	// act has returned.
	Report func(job.Event)
	// NeverStarted, if not nil, is told of an attempt that has ended without its command having started: no agent will
	// bring its output. It may be called until Run returns.
	NeverStarted func(attempt string)
	// TurnedAway, if not nil, is told of the first agent with a good certificate that was turned
	// away for what it sent. Such an agent may come again without end.
	TurnedAway func(*coordinator.Fault)

	server coordinator.Server
}

// Events is what happens to a meeting, beside what the Listener is told.
type Events struct {
	// Refused gets a value when several handshakes in a row were refused by an agent or by us. The meeting goes on,
	// because replaced certificates may be on their way. While nobody has taken a value, further ones are dropped.
	Refused <-chan *job.Failure
	// Over ends when the job has ended.
	Over *End

	complete bool
}

// Complete lets the agents know at the end of the meeting that all is stored: act calls it, from
// its own goroutine, when it has seen all of the job that it wants. Without it agents wait for
// somebody else to fetch their output.
func (e *Events) Complete() { e.complete = true }

// End is a context that ends when the job has.
type End struct {
	context.Context
	// Outcome is how the job has ended; nil: that can't be known, and the context's cause says why. It is set before
	// the context ends, and must not be read earlier.
	Outcome *job.Outcome
}

// NewEnd returns an End, and a function that ends it with what Job.Watch returned.
func NewEnd() (*End, func(*job.Outcome, error)) {
	ctx, cancel := context.WithCancelCause(context.Background())
	e := &End{Context: ctx}
	return e, func(o *job.Outcome, err error) {
		e.Outcome = o
		cancel(err)
	}
}

// Run meets the job's agents until act returns. Then it lets the agents go, which takes up to 2 s if act has called
// [Events.Complete], waits for all that it started, and returns act's error.
//
// The context that act gets ends with ctx, or when agents can't be met any more. Its cause is then a *job.Failure if
// certificates were refused for [RefusedWait], else why the agents can't be served. The job is watched until act
// returns.
func (a *Attachment) Run(ctx context.Context, act func(context.Context, *Events) error) error {
	meeting, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	refusals := make(chan *job.Failure, 1)
	over, ended := NewEnd()
	events := &Events{Refused: refusals, Over: over}
	var done atomic.Bool
	report := func(e job.Event) {
		if a.Report != nil && !done.Load() {
			a.Report(e)
		}
	}
	var work sync.WaitGroup
	if !a.Unserved {
		a.prepare(refusals, fail)
		work.Go(func() {
			if err := a.server.Serve(a.Job.Listener()); err != nil {
				fail(fmt.Errorf("serve the job's agent: %w", err))
			}
		})
	}
	// An agent that still waits for the launcher ends once it is told that the job's container has.
	tell := job.Observer{Report: report, JobEnded: a.server.JobEnded, NeverStarted: a.NeverStarted}
	work.Go(func() { ended(a.Job.Watch(watching, tell)) })
	err := act(meeting, events)
	done.Store(true)
	stop()
	if events.complete {
		draining, drained := context.WithTimeout(ctx, drainWait)
		a.server.Shutdown(draining)
		drained()
	}
	a.server.Close()
	work.Wait()
	return err
}

// prepare sets up the server. Refused certificates are told to told; if that does not end, fail ends the meeting.
func (a *Attachment) prepare(told chan<- *job.Failure, fail context.CancelCauseFunc) {
	a.server.TLS, a.server.Namespace, a.server.Job = a.Job.TLS(), a.Namespace, a.Name
	if a.server.Exec = a.Exec; a.Exec == nil {
		a.server.Follower, a.server.Silent = a.Recorder, a.Recorder.Store == nil
		a.server.MetricsInterval, a.server.NewSamples, a.server.Input = a.Every, a.NewSamples, a.Input
	}
	if r, ok := a.Job.(refuser); ok {
		h := &handshakes{
			refused: func(err error) {
				select {
				case told <- r.Refused(err):
				default: // nobody has taken the last one; this one says the same
				}
			},
			given: func(err error) { fail(r.Refused(err)) },
		}
		a.server.Handshake = h.took
	}
	if a.TurnedAway != nil {
		var once sync.Once
		a.server.TurnedAway = func(_ net.Addr, err error) {
			if fault, ok := errors.AsType[*coordinator.Fault](err); ok {
				once.Do(func() { a.TurnedAway(fault) })
			}
		}
	}
}

// Cancel orders every attempt to stop: those that are attached, and those that attach later. Without a grace, the job's
// own counts.
func (a *Attachment) Cancel(order *hodeipb.Cancel) { a.server.Cancel(order) }

// Signal sends a signal, by its number on Linux, to the commands of all attached attempts, and reports whether there
// was one. Unlike Cancel, it does not reach attempts that attach later.
func (a *Attachment) Signal(number int32) bool { return a.server.Signal(number) }

// Release lets the commands start of those attempts that are attached and whose start is held. One
// that comes back with its start still held has to be released again.
func (a *Attachment) Release() { a.server.Release() }

// LeaveInput tells the attempts that are attached that no more input comes from here, and why. A
// command whose input is not complete is stopped.
func (a *Attachment) LeaveInput(why string) { a.server.LeaveInput(why) }

// Refused returns how many batches agents have sent at the wrong offset up to now.
func (a *Attachment) Refused() coordinator.Refused { return a.server.Refused() }
