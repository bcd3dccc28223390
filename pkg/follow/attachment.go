// Package follow meets the agents of a job: it serves them, watches the job beside them, and says
// what goes wrong between an agent and us. Start with [Attachment], one for each job and each time
// that it is met. What agents send goes to the Listener of its Recorder. [Inquiry] uses one to ask an
// agent for the samples that it has.
//
// The package shows nothing and decides nothing about the job: it does not stop or delete it, and
// has no words for its end.
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

// Job is a job whose agents can be met. A job whose agents are met through a tunnel, where nobody
// else can refuse us, also has a method Refused(error) *job.Failure, which says what there is to say
// of certificates that one side refuses. Without it such handshakes are tried again without end.
type Job interface {
	// Listener is where its agents arrive, and TLS our side of their connections.
	Listener() net.Listener
	TLS() *tls.Config
	// Watch tells what becomes of it and returns its end, or why that can't be known. It is called
	// once.
	Watch(ctx context.Context, tell job.Observer) (*job.Outcome, error)
}

// refuser is a Job that can say more of handshakes that are refused.
type refuser interface {
	Refused(err error) *job.Failure
}

// Attachment meets the agents of one job. It requires Job and, unless it is Unserved, Namespace, Name
// and Recorder. Set the fields before [Attachment.Run], which is called once. The other methods may be
// called at any time, and at the same time.
type Attachment struct {
	Job Job
	// Namespace and Name are the job's: the agents of another are not let in.
	Namespace, Name string
	// Recorder takes what agents send. Without a Store the agents are asked for no output. Whoever
	// made it closes it when Run has returned, and also the Job.
	Recorder *coordinator.Recorder
	// Every is how often agents are asked for a sample; 0: they are not.
	Every time.Duration
	// NewSamples asks for no sample from before an attempt attached for the first time.
	NewSamples bool
	// Input, if not nil, is the stdin of the job's command.
	Input *coordinator.Input
	// Unserved only watches the job, where there is no way to its agents.
	Unserved bool
	// Report, if not nil, is told the phases of the job, one after the other. No call begins after
	// act has returned.
	Report func(job.Event)
	// NeverStarted, if not nil, is told of an attempt that has ended and whose command never started:
	// nobody brings its output. It may be called until Run returns.
	NeverStarted func(attempt string)
	// TurnedAway, if not nil, is told of the first agent with a good certificate that was turned
	// away for what it sent. Such an agent may come again without end.
	TurnedAway func(*coordinator.Fault)

	server coordinator.Server
}

// Events is what happens to a meeting, beside what the Listener is told.
type Events struct {
	// Refused gets a value for every row of handshakes in which an agent and we refuse each other's
	// certificates. The meeting goes on: certificates that were replaced are on their way. While
	// nobody has taken a value, further ones are dropped.
	Refused <-chan *job.Failure
	// Over ends when the job has ended.
	Over *End

	complete bool
}

// Complete lets the agents know at the end of the meeting that all is stored: act calls it, from
// its own goroutine, when it has seen all of the job that it wants. Without it agents wait for
// somebody else to fetch their output.
func (e *Events) Complete() { e.complete = true }

// End tells when a job has ended: when the context has.
type End struct {
	context.Context
	// Outcome is how, nil if the watching of it failed, which is the context's cause. It is not set
	// before the context ends.
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

// Run meets the job's agents until act returns, and returns act's error. Then it lets the agents go,
// after up to 2 s if the meeting is complete, and waits for all that it started.
//
// The context that act gets ends with ctx, and when agents can't be met any more. Its cause is then
// a *job.Failure, if certificates were refused for [RefusedWait], or why the agents can't be served.
// The job is watched on until act returns.
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

// prepare sets up the server, which tells refusals of certificates to told, and with fail that they
// do not end.
func (a *Attachment) prepare(told chan<- *job.Failure, fail context.CancelCauseFunc) {
	a.server.TLS, a.server.Namespace, a.server.Job = a.Job.TLS(), a.Namespace, a.Name
	a.server.Follower, a.server.Silent = a.Recorder, a.Recorder.Store == nil
	a.server.MetricsInterval, a.server.NewSamples, a.server.Input = a.Every, a.NewSamples, a.Input
	if r, ok := a.Job.(refuser); ok {
		h := &handshakes{
			refused: func(err error) {
				select {
				case told <- r.Refused(err):
				default: // nobody has taken the last one, and this one adds nothing
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

// Cancel orders every attempt to stop, those that are attached and those that will be. A nil grace
// is the job's own.
func (a *Attachment) Cancel(order *hodeipb.Cancel) { a.server.Cancel(order) }

// Signal sends a signal, by its number on Linux, to the commands of the attempts that are attached,
// and tells whether there was one. Unlike Cancel it is not repeated.
func (a *Attachment) Signal(number int32) bool { return a.server.Signal(number) }

// Release lets the commands start of those attempts that are attached and whose start is held. One
// that comes back with its start still held has to be released again.
func (a *Attachment) Release() { a.server.Release() }

// LeaveInput tells the attempts that are attached that no more input comes from here, and why. A
// command whose input is not complete is stopped.
func (a *Attachment) LeaveInput(why string) { a.server.LeaveInput(why) }

// Refused tells how many batches agents have sent at the wrong offset up to now.
func (a *Attachment) Refused() coordinator.Refused { return a.server.Refused() }
