package exec

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/shell"
	"github.com/hodei-jobs/hodei/pkg/signals"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// endWait is how long the agent of a job that has ended is given to say how the command beside it ended.
const endWait = 5 * time.Second

// execution is one command, while it is run.
type execution struct {
	*Options
	*coordinator.Execution
	input   *coordinator.Input // nil: none
	shown   *terminal.Terminal // nil: none
	signals <-chan os.Signal
	// entered is closed once shown is the command's.
	entered chan struct{}
}

// gated keeps what the command prints until its terminal is there: in ours each line's end would be made one once more.
type gated struct {
	to   io.Writer
	open <-chan struct{}
}

func (g *gated) Write(p []byte) (int, error) {
	<-g.open
	return g.to.Write(p)
}

// conduct meets the agent, follows the command to its end, and returns how that was. When it returns, whatever runs is
// hung up.
func (x *execution) conduct(ctx context.Context, e *follow.Events) error {
	met, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	early := make(chan os.Signal, 1)
	stopWatching := x.untilMet(func(s os.Signal) {
		early <- s
		cancel(errLeft)
	})
	_, err := follow.Meet(met, e, x.Started(), follow.Patience{Slow: func() {
		x.Screen.Note(fmt.Sprintf("waiting for up to %s for the agent of job %s", follow.MeetWait, x.JobName))
	}})
	stopWatching()
	switch {
	case len(early) > 0:
		return &job.ExitError{Code: signals.ExitCode(<-early)}
	case err != nil:
		return x.unmet(err)
	}
	if x.shown != nil {
		x.Screen.Hold()
		defer x.Screen.Release()
		defer x.shown.Restore()
		if _, err := x.shown.Enter(); err != nil {
			return err
		}
		close(x.entered)
	}
	return x.follow(ctx, e)
}

// errLeft ends the wait for an agent.
var errLeft = errors.New("interrupted")

// untilMet calls left with the first signal that asks us to end, until stop, which waits for that.
func (x *execution) untilMet(left func(os.Signal)) (stop func()) {
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case s := <-x.signals:
				if signals.AsksToEnd(s) {
					left(s)
					return
				}
			case <-over:
				return
			}
		}
	}()
	return func() {
		close(over)
		<-done
	}
}

// follow waits for the end of a command that an agent has.
func (x *execution) follow(ctx context.Context, e *follow.Events) error {
	var keys <-chan struct{}
	var unsent <-chan error
	if x.shown != nil {
		keys = x.shown.Detached()
	}
	if x.input != nil {
		unsent = x.input.Failed()
	}
	over, asked := e.Over.Done(), false
	var late <-chan time.Time
	for {
		select {
		case <-x.Ended():
			return x.conclude(x.End())
		case <-keys:
			return &job.ExitError{Code: 128 + int(syscall.SIGHUP), Err: errors.New("left: the command is hung up")}
		case err := <-unsent:
			return fmt.Errorf("the command is hung up: its input can't be sent: %w", err)
		case s := <-x.signals:
			if ends := signals.AsksToEnd(s); ends && (asked || x.shown != nil) {
				return &job.ExitError{Code: signals.ExitCode(s), Err: errors.New("left: the command is hung up")}
			} else if ends {
				asked = true
			}
			x.Signal(passedOn(s))
		case <-over:
			if over = nil; e.Over.Outcome != nil { // else the cluster alone is out of reach: the agent tells the end
				late = time.After(endWait)
			}
		case <-late:
			return x.conclude(nil, errJobEnded)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// errJobEnded is why an agent tells no end.
var errJobEnded = errors.New("the job has ended")

// passedOn is the number on Linux of a signal that we got.
func passedOn(s os.Signal) int32 {
	if number, ok := signals.PassedOn[s]; ok {
		return number
	}
	number, _ := s.(syscall.Signal) // those that ask to end have one number everywhere
	return int32(number)
}

// conclude is the error for the end of a command, or for err where that is not known.
func (x *execution) conclude(end *hodeipb.ExecExit, err error) error {
	name := shell.Quote(x.JobName)
	switch {
	case errors.Is(err, syscall.EPIPE): // who read the output has gone
		return &job.ExitError{Code: 128 + int(syscall.SIGPIPE)}
	case errors.Is(err, coordinator.ErrUnwritten):
		return fmt.Errorf("the command is hung up: %w", err)
	case errors.Is(err, errJobEnded):
		return fmt.Errorf("the command is killed: job %s has ended", name)
	case err != nil:
		return &job.Hinted{
			Err:  fmt.Errorf("the command is hung up: the connection to the agent of job %s broke: %w", name, err),
			Hint: "see how the job is: {hodei} describe " + name,
		}
	case end.NotStarted && (end.Code == contract.ExitNotFound || end.Code == contract.ExitCannotRun):
		return &job.ExitError{Code: int(end.Code), Err: errors.New(end.Error)}
	case end.NotStarted:
		return &job.ExitError{Code: job.ExitFailed, Err: fmt.Errorf("no command was started beside job %s: %s", name, end.Error)}
	case end.Error != "":
		return &job.ExitError{Code: int(end.Code), Err: fmt.Errorf("the command was killed: %s", end.Error)}
	case end.Code != 0:
		return &job.ExitError{Code: int(end.Code)}
	}
	return nil
}

// unmet is the error where no agent came.
func (x *execution) unmet(err error) error {
	name := shell.Quote(x.JobName)
	switch {
	case errors.Is(err, follow.ErrNotMet):
		return fmt.Errorf("job %s has ended", name)
	case errors.Is(err, follow.ErrLate):
		return &job.Hinted{Err: fmt.Errorf("the agent of job %s was not reached within %s", name, follow.MeetWait),
			Hint: "see how it is: {hodei} describe " + name}
	}
	return err
}
