package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// MeetWait is how long commands that only look wait for a running agent. The longest pause before a broken tunnel
	// is tried again is 15 s.
	MeetWait = 30 * time.Second
	// meetSay is how long they wait before they say so: a tunnel is usually there within a second.
	meetSay = 2 * time.Second
)

var (
	// ErrNotMet says that the job ended before its agent was there.
	ErrNotMet = errors.New("the agent was not met")
	// ErrLate says that an agent was not there within [MeetWait].
	ErrLate = fmt.Errorf("not within %s", MeetWait)
)

// Patience says how to wait for an agent. The zero value waits for [MeetWait], in silence.
type Patience struct {
	// Endless waits until the job ends.
	Endless bool
	// Slow, if not nil, is called when the agent is not there after 2 s.
	Slow func()
	// Refused, if not nil, is told that certificates are refused, and the wait goes on until others come. If it is nil,
	// a refusal ends the wait.
	Refused func(*job.Failure)
}

// Meet returns the next value of came, with which a Listener tells that an agent is there. If none comes, the error is
// a *job.Failure for refused certificates, [ErrLate], [ErrNotMet], why the job can't be watched, or why ctx has ended.
// ctx is the one that act got from [Attachment.Run].
func Meet[T any](ctx context.Context, e *Events, came <-chan T, p Patience) (T, error) {
	var none T
	slow, late := time.NewTimer(meetSay), time.NewTimer(MeetWait)
	defer slow.Stop()
	defer late.Stop()
	if p.Endless {
		late.Stop()
	}
	for {
		select {
		case there := <-came:
			return there, nil
		case refusal := <-e.Refused:
			if p.Refused == nil {
				return none, refusal
			}
			p.Refused(refusal)
		case <-slow.C:
			if p.Slow != nil {
				p.Slow()
			}
		case <-late.C:
			return none, ErrLate
		case <-e.Over.Done():
			select {
			case there := <-came: // it came before the job ended
				return there, nil
			default:
			}
			if e.Over.Outcome == nil {
				return none, context.Cause(e.Over)
			}
			return none, ErrNotMet
		case <-ctx.Done():
			return none, context.Cause(ctx)
		}
	}
}
