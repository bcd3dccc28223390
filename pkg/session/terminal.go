package session

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/terminal"
)

// NewTerminalInput returns what is typed at t as a [Config]'s Input, which also tells the terminal's size, now and
// whenever resized has a value. redraw has the program draw its screen again. The func ends all that, and waits for
// it; the terminal is as it was before then.
func NewTerminalInput(t *terminal.Terminal, resized <-chan os.Signal, redraw bool) (*coordinator.Input, func()) {
	input := coordinator.NewInput(t, nil)
	input.Resize(t.Size())
	if redraw {
		input.Redraw()
	}
	over := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-resized:
				input.Resize(t.Size())
			case <-over:
				return
			}
		}
	})
	return input, func() {
		close(over)
		work.Wait()
		t.Close()
		input.Close()
	}
}

// enterTerminal gives the terminal to the command, and keeps the screen from writing there.
func (f *follower) enterTerminal() error {
	if f.terminal == nil {
		return nil
	}
	f.screen.Hold()
	ours, err := f.terminal.Enter()
	if !ours { // the session has left it
		f.screen.Release()
	}
	return err
}

// restoreTerminal makes the terminal ours again.
func (s *session) restoreTerminal() {
	if s.Terminal != nil {
		s.Terminal.Restore()
		s.Screen.Release()
	}
}

const (
	// leftWait is how long the agent is given to answer who leaves its terminal.
	leftWait = 2 * time.Second
	// typedWait is how long the command is given to take what was typed before.
	typedWait = time.Second
)

// leaveTerminal is the end of a session whose person has left the command running.
func (s *session) leaveTerminal(ctx context.Context, _ standing, _ event) error {
	typed, cancel := context.WithTimeout(ctx, typedWait)
	s.Input.AwaitTaken(typed)
	cancel()
	s.agents.LeaveInput("")
	unheard := ""
	select {
	case <-s.Input.Over():
	case <-time.After(leftWait):
		unheard = fmt.Sprintf("; its agent was not reached, and hangs up unless somebody comes back within %s", s.Spec.StartTimeout)
	}
	s.deafen()
	s.settle(true)
	s.Screen.Note(fmt.Sprintf("detached: %s%s; to come back: %s", s.goesOn(), unheard, s.comeBack()))
	s.Screen.Stop()
	return nil
}

// leaveTaken is the end of a session whose job's terminal somebody else has.
func (s *session) leaveTaken(_ context.Context, _ standing, e event) error {
	return s.leaveWith(job.ExitFailed, fmt.Errorf("%w; %s", e.err, s.goesOn()), "to watch it: {hodei} attach "+s.Spec.Name)
}
