package coordinator

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// stateEvery is the least time between two states of one phase that a Follower gets. An agent
// sends a state whenever its output becomes blocked or unblocked, which may be very often.
const stateEvery = 100 * time.Millisecond

// states holds back states of an attachment: a new phase goes to the Follower at once, of all
// others only the latest.
type states struct {
	phase hodeipb.Phase // the highest
	told  time.Time
	next  *hodeipb.State   // not told yet
	due   <-chan time.Time // when it is to be
}

// newStates begins with a state that the Follower has.
func newStates(first *hodeipb.State) states {
	return states{phase: known(first.Phase), told: time.Now()}
}

// known maps phases that this version does not know to the last one that it knows.
func known(p hodeipb.Phase) hodeipb.Phase { return min(p, hodeipb.Phase_ENDED) }

// take keeps state as the next one, and reports whether it is to be told at once.
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

// tellState tells the Follower the next state, if there is one.
func (a *attempt) tellState(name string) {
	s := &a.states
	if s.next == nil {
		return
	}
	state := s.next
	s.phase, s.told, s.next, s.due = max(s.phase, known(state.Phase)), time.Now(), nil, nil
	a.follower.State(name, state)
}
