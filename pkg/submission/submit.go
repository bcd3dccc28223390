package submission

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
	"github.com/hodei-jobs/hodei/pkg/signals"
)

// takeBackWait is how long an interrupted run waits for the cluster to answer its earlier
// requests, and to delete what they made.
const takeBackWait = 5 * time.Second

// made is what has come of the making of a job.
type made struct {
	job      place.Job // nil with an error
	fallback bool      // its output comes from the container's log
	err      error
}

// submit makes the job, and takes it back when a signal asks for that: its error is then how the run ends.
func (c *Config) submit(ctx context.Context, id, exec *certs.JobCerts, heard <-chan os.Signal) (*made, error) {
	c.Screen.Waiting("submitting " + c.Spec.Name)
	submitting, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan *made, 1) // nobody waits for one that comes too late: the process ends
	replacing := make(chan string, 1)
	go func() { results <- c.make(submitting, id, exec, func(text string) { replacing <- text }) }()
	var late <-chan time.Time
	for interrupted := false; ; {
		var e event
		select {
		case e.made = <-results:
		case e.signal = <-heard:
		case text := <-replacing:
			_ = c.Note(text) // who reads events and has gone is noticed by the next one
			c.Screen.Waiting("waiting until job " + c.Spec.Name + " is gone")
			continue
		case <-late:
		}
		switch then := decide(interrupted, e); then {
		case sayNotYet:
			c.Screen.Note(signals.Name(e.signal) + " was not passed on: the command has not started")
		case cancelMaking:
			interrupted, late = true, time.After(takeBackWait)
			cancel()
			c.Screen.Waiting("taking back " + c.Spec.Name)
		case leaveUnanswered:
			return nil, c.unanswered()
		default:
			return c.conclude(ctx, then, e.made)
		}
	}
}

// make asks for the job. If another one is replaced, replacing is called once with what is said of that.
func (c *Config) make(ctx context.Context, id, exec *certs.JobCerts, replacing func(text string)) *made {
	fallback, err := c.chooseWay(ctx)
	if err == nil {
		err = c.replace(ctx, replacing)
	}
	if err != nil {
		return &made{err: err}
	}
	j, err := c.Place.Submit(ctx, c.Spec, id, kubernetes.RunOptions{NoTunnel: fallback, ExecCerts: exec})
	return &made{job: j, fallback: fallback, err: err}
}

// conclude does what follows from a result.
func (c *Config) conclude(ctx context.Context, then step, m *made) (*made, error) {
	if m.job != nil {
		for _, note := range m.job.Notes() { // what the cluster can't do for it
			c.Screen.Note(note)
		}
	}
	switch then {
	case followJob:
		return m, nil
	case removeJob:
		err := m.job.Delete(ctx)
		m.job.Close()
		if err != nil {
			return nil, &job.ExitError{Code: job.ExitCancelled, Err: err}
		}
		return nil, c.TakenBack("nothing is left of it")
	case tellNothingLeft:
		return nil, c.TakenBack("nothing is left of it")
	}
	return nil, c.Failed(m.err)
}

// unanswered is the end of a run that was interrupted while the cluster did not answer.
func (c *Config) unanswered() error {
	return &job.ExitError{Code: job.ExitCancelled, Err: &job.Hinted{
		Err:  fmt.Errorf("the cluster does not answer: job %s may have been made", c.Spec.Name),
		Hint: "{hodei} jobs " + c.Spec.Name,
	}}
}

// event is what happens while a job is being made: a result or a signal. Without either, takeBackWait has passed.
type event struct {
	made   *made
	signal os.Signal
}

// step is what follows from an event.
type step string

const (
	followJob       step = "follow the job"
	removeJob       step = "remove the job, which was made before the cancel came through"
	tellNothingLeft step = "tell that nothing was made"
	tellFailure     step = "tell why the job could not be made"
	sayNotYet       step = "say that there is no command yet to pass the signal on to"
	cancelMaking    step = "cancel the making, and wait for what comes of it"
	leaveUnanswered step = "end without an answer"
)

// decide says what follows from an event; interrupted tells that a signal has cancelled the making.
func decide(interrupted bool, e event) step {
	switch {
	case e.made != nil:
		return e.made.decide(interrupted)
	case e.signal != nil && !signals.AsksToEnd(e.signal):
		return sayNotYet
	case e.signal != nil && !interrupted:
		return cancelMaking
	}
	return leaveUnanswered
}

func (m *made) decide(interrupted bool) step {
	switch {
	case interrupted && m.err == nil:
		return removeJob
	case interrupted && m.err.Error() == context.Canceled.Error(): // and nothing else went wrong
		return tellNothingLeft
	case m.err != nil:
		return tellFailure
	}
	return followJob
}

// chooseWay finds out whether the agent can be reached through the tunnel, before
// the job is made: a job that does not copy its output to the container's log
// never will. fallback tells that it can't be.
func (c *Config) chooseWay(ctx context.Context) (fallback bool, err error) {
	if c.Detach || c.Follow && c.NoFallback {
		return false, nil
	}
	may, err := c.Place.MayTunnel(ctx)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil || may:
		return false, err
	case c.Spec.Stdin:
		return false, &job.Failure{Cause: job.Forbidden,
			Message: "the tunnel is forbidden (create pods/portforward), and without it no input reaches the command",
			Hint:    "leave -i out, or ask for the right"}
	case !c.Follow:
		return true, nil // its end is in the Pod's status
	}
	c.Spec.ContainerLogs = true
	if !c.Lingers {
		c.Spec.Linger = job.UnfollowedLinger // nobody is to come for the output
	}
	return true, nil
}
