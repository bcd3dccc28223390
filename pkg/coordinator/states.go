package coordinator

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// stateEvery is the least time between two states of one phase that a Follower is told.
// An agent sends one whenever its output is blocked and no longer, and may do so as often
// as it likes.
const stateEvery = 100 * time.Millisecond

// states are those of an attachment: a new phase is told at once, of all else the latest.
type states struct {
	phase hodeipb.Phase // the highest
	told  time.Time
	next  *hodeipb.State   // not told yet
	due   <-chan time.Time // when it is to be
}

// newStates begins with one that was told.
func newStates(first *hodeipb.State) states {
	return states{phase: known(first.Phase), told: time.Now()}
}

// known makes a phase of an agent that knows more of them the last one.
func known(p hodeipb.Phase) hodeipb.Phase { return min(p, hodeipb.Phase_ENDED) }

// take says whether the state, which is next now, is to be told at once.
func (s *states) take(state *hodeipb.State) (now bool) {
	s.next = state
	if known(state.Phase) > s.phase {
		return true
	}
	if s.due == nil {
		s.due = time.After(time.Until(s.told.Add(stateEvery)))
	}
	return false
}

// tellState tells the next one, if there is any.
func (a *attempt) tellState(name string) {
	s := &a.states
	if s.next == nil {
		return
	}
	state := s.next
	s.phase, s.told, s.next, s.due = max(s.phase, known(state.Phase)), time.Now(), nil, nil
	a.follower.State(name, state)
}
