package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/ui"
)

// Waits of a session.
const (
	// podWait is how long the container's status is awaited after an exit record
	// that can't name the cause; the kubelet reports once a second.
	podWait = 10 * time.Second
	// ackWait bounds how long the end of a run waits for its agent to know that
	// all is stored; without it the Pod lingers.
	ackWait = 2 * time.Second
)

// session follows one job that was submitted.
type session struct {
	*runOptions
	job     submitted
	signals <-chan os.Signal

	server    *coordinator.Server
	follower  *follower
	started   bool // the command ran, in any attempt
	cancelled bool
	last      *job.Outcome // of an attempt that may be followed by another
}

// follow serves the job's agents until its outcome is known.
func (s *session) follow(ctx context.Context, tlsConfig *tls.Config) error {
	s.follower = newFollower(s.runOptions)
	s.server = &coordinator.Server{
		TLS: tlsConfig, Namespace: s.place.Namespace(), Job: s.spec.Name,
		Follower: s.follower, Silent: !s.runOptions.follow,
	}
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	served := make(chan error, 1)
	work.Go(func() { served <- s.server.Serve(s.job.Listener()) })
	type end struct {
		outcome *job.Outcome
		err     error
	}
	watched := make(chan end, 1)
	work.Go(func() {
		outcome, err := s.job.Watch(ctx, s.follower.phase)
		watched <- end{outcome, err}
	})
	defer func() {
		cancel()
		draining, done := context.WithTimeout(context.Background(), ackWait)
		defer done()
		ended := make(chan struct{})
		go func() {
			s.server.Shutdown(draining)
			work.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(ackWait + time.Second): // a write to our own stdout hangs: it ends with the process
		}
		s.job.Close()
	}()

	running := s.follower.running
	var patience <-chan time.Time // with the Pod's status, once an exit record is unclear
	for {
		select {
		case <-running:
			s.started = true
			running = nil
		case record := <-s.follower.exited:
			s.started = true
			outcome := coordinator.Outcome(record)
			switch {
			case outcome.Cause != job.Completed && s.spec.Retries > 0 && !s.cancelled:
				s.last = outcome // the Job says whether another attempt follows
			case outcome.Cause == job.Unknown:
				s.last, patience = outcome, time.After(podWait)
			default:
				return s.finish(outcome)
			}
		case w := <-watched:
			select {
			case record := <-s.follower.exited: // of the last attempt, the agent's own word
				if s.last = coordinator.Outcome(record); s.spec.Retries == 0 && s.last.Cause != job.Unknown {
					return s.finish(s.last)
				}
			default:
			}
			if w.err != nil {
				return s.abort(ctx, w.err)
			}
			if s.last != nil && w.outcome.Cause == job.Unknown {
				w.outcome = s.last
			}
			return s.finish(w.outcome)
		case <-patience:
			return s.finish(s.last)
		case err := <-s.follower.broken:
			if !errors.Is(err, syscall.EPIPE) {
				return s.leave(job.ExitFailed, fmt.Errorf("write output: %w; job %s goes on", err, s.spec.Name))
			}
			// Nobody reads on: the command is told, as it would be by SIGPIPE.
			s.cancelled = true
			s.server.Cancel(&hodeipb.Cancel{})
			if err := s.job.StopRetrying(ctx); err != nil {
				s.screen.note(err.Error())
			}
		case err := <-served:
			return s.abort(ctx, fmt.Errorf("serve the job's agent: %w", err))
		case sig := <-s.signals:
			if done, err := s.interrupt(ctx, sig); done {
				return err
			}
		}
	}
}

// interrupt acts on Ctrl-C: a job that has not started is taken back, one that
// runs is asked to stop, one that was asked is left alone. A terminal that is
// closed leaves a running job alone at once.
func (s *session) interrupt(ctx context.Context, sig os.Signal) (done bool, err error) {
	select { // a command that has just started is not to be lost without a word
	case <-s.follower.running:
		s.started = true
	default:
	}
	switch {
	case !s.started:
		s.follower.hush()
		s.server.Cancel(&hodeipb.Cancel{}) // the agent, if it is there, lets no launcher in
		if err := s.job.Delete(ctx); err != nil {
			return true, &exitError{code: job.ExitCancelled, err: err}
		}
		return true, s.takenBack()
	case !s.cancelled && sig != syscall.SIGHUP:
		s.cancelled = true
		s.screen.note(fmt.Sprintf("stopping %s; Ctrl-C again leaves it to itself", s.spec.Name))
		s.server.Cancel(&hodeipb.Cancel{})
		if err := s.job.StopRetrying(ctx); err != nil {
			s.screen.note(err.Error())
		}
		return false, nil
	}
	signal.Reset()                          // whatever hangs now, the next one ends us
	if _, here := s.place.(machine); here { // nothing goes on without us here
		if err := s.job.Delete(ctx); err != nil {
			s.screen.note(err.Error())
		}
		return true, &exitError{code: job.ExitCancelled}
	}
	if s.cancelled {
		return true, s.leave(job.ExitCancelled, fmt.Errorf("job %s has been asked to stop and still runs", s.spec.Name))
	}
	return true, s.leave(128+int(syscall.SIGHUP), fmt.Errorf("hung up; job %s goes on", s.spec.Name))
}

// leave is the end of a run whose job goes on without it.
func (s *session) leave(code int, err error) error {
	hint := "{hodei} jobs " + s.spec.Name
	outcome := &job.Outcome{Cause: job.Unknown, Code: code, Message: err.Error()}
	if s.cancelled {
		outcome.Cause = job.Cancelled
	}
	if e := s.events.exit(outcome, s.named(hint)); e != nil {
		err = errors.Join(err, e)
	}
	return &exitError{code: code, err: &hinted{err: err, hint: hint}}
}

// abort ends a run that failed for a reason other than its command. A job that
// has not started is removed.
func (s *session) abort(ctx context.Context, err error) error {
	if s.started {
		s.screen.stop()
		return s.leave(job.ExitFailed, fmt.Errorf("%w; job %s goes on", err, s.spec.Name))
	}
	s.screen.waiting("removing " + s.spec.Name)
	if e := s.job.Delete(ctx); e != nil {
		s.screen.note(e.Error())
	}
	return s.failed(err)
}

// finish shows the outcome, on a line of its own or as an error with a hint,
// and makes it the exit code.
func (s *session) finish(o *job.Outcome) error {
	if s.follower.closed() {
		s.screen.stop()
		return &exitError{code: job.ExitFailed, err: &hinted{
			err:  fmt.Errorf("write output: %w; the job was told to stop", syscall.EPIPE),
			hint: "{hodei} jobs " + s.spec.Name,
		}}
	}
	failure, hint := s.explained(o), ""
	if missing, remedy := s.follower.missing(o); missing != "" {
		failure = &job.Failure{Cause: o.Cause, Message: fmt.Sprintf("output is incomplete: %s; the command: %s", missing, ui.Printable(o.Summary())),
			Hint: remedy}
		if o.ExitCode() == 0 { // half of an output is no success
			o = &job.Outcome{Cause: job.Unknown, Code: o.Code, Message: failure.Message}
		}
	}
	if failure == nil {
		s.screen.summary(o)
	} else {
		hint = failure.Hint
	}
	s.screen.stop()
	if err := s.events.exit(o, s.named(hint)); err != nil {
		return err
	}
	switch {
	case failure != nil:
		return &exitError{code: o.ExitCode(), err: failure}
	case o.ExitCode() != 0:
		return &exitError{code: o.ExitCode()}
	}
	return nil
}

// explained is an outcome as an error with a hint; nil if the command's own end
// says all.
func (s *session) explained(o *job.Outcome) *job.Failure {
	f := &job.Failure{Cause: o.Cause, Message: ui.Printable(o.Summary())}
	switch o.Cause {
	case job.Completed, job.Signaled, job.Cancelled:
		return nil
	case job.Error:
		// The launcher leaves a message when it could not start the command.
		if o.Message == "" || o.Code != job.ExitNotFound && o.Code != job.ExitCannotRun {
			return nil
		}
		f.Message = fmt.Sprintf("the command can't be run: %s (exit %d)", ui.Printable(o.Message), o.Code)
		f.Hint = "check the command, and that the image has it: {hodei} run --image IMAGE"
	case job.OOMKilled:
		f.Hint = "run it again with more memory: --memory"
		if s.spec.Memory != nil {
			twice := s.spec.Memory.DeepCopy()
			twice.Mul(2)
			f.Hint += " " + twice.String()
		}
	case job.DeadlineExceeded:
		f.Hint = "give it longer with --timeout"
	case job.Evicted, job.Preempted, job.NodeLost:
		f.Hint = "let it be tried again: --retries 1"
	default:
		f.Hint = "see what is left: {hodei} jobs " + s.spec.Name + " -o wide"
	}
	return f
}
