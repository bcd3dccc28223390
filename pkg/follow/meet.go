package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// MeetWait is how long commands that only look wait for an agent that runs: the tunnel's
	// back-off is 15 s at the longest.
	MeetWait = 30 * time.Second
	// MeetSay is how long they wait before they say so: a tunnel is usually there within a second.
	MeetSay = 2 * time.Second
)

var (
	// ErrNotMet is that the job has ended, or its attempt, before its agent was there.
	ErrNotMet = errors.New("the agent was not met")
	// ErrLate is that an agent was not there within [MeetWait].
	ErrLate = fmt.Errorf("not within %s", MeetWait)
)

// Patience is how an agent is waited for. The zero value waits for [MeetWait], in silence.
type Patience struct {
	// Endless waits until the job ends.
	Endless bool
	// Slow, if not nil, is called when the agent is not there after [MeetSay].
	Slow func()
	// Refused, if not nil, is told of certificates that are refused, and others are waited for. With
	// nil a refusal ends the wait.
	Refused func(*job.Failure)
}

// Meet returns the next value of came, by which a Listener tells that an agent is there, or why there
// will not be one: a *job.Failure for certificates that are refused, [ErrLate], [ErrNotMet], or why
// the job can't be watched or ctx, which is that of the meeting, has ended.
func Meet[T any](ctx context.Context, e *Events, came <-chan T, p Patience) (T, error) {
	var none T
	slow, late := time.NewTimer(MeetSay), time.NewTimer(MeetWait)
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
			case there := <-came: // before that
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
