package follow

import (
	"sync"
	"time"
)

// refusedOften is how many handshakes in a row end in a refusal before it is said: one or two may
// fall into the moment in which certificates are replaced.
const refusedOften = 3

// RefusedWait is how long after the first refused handshake the agent and we are given up. The
// kubelet brings replaced certificates to an agent within a minute and a half, and the next try
// after that comes within 22 s.
const RefusedWait = 2 * time.Minute

// verdict is what follows from the end of a handshake.
type verdict int

const (
	goOn    verdict = iota
	refused         // there is a row of refusals
	given           // it does not end
)

// row is a row of handshakes that were refused, one after the other.
type row struct {
	n     int
	since time.Time // the first of them
}

// judge returns the row after a handshake that ended at now with err, nil if nobody refused, and
// what follows from it.
func (r row) judge(err error, now time.Time) (row, verdict) {
	if err == nil {
		return row{}, goOn
	}
	if r.n == 0 {
		r.since = now
	}
	r.n++
	switch {
	case r.n == refusedOften:
		return r, refused
	case r.n > refusedOften && now.Sub(r.since) > RefusedWait:
		return r, given
	}
	return r, goOn
}

// handshakes judges how those with a job's agents end: without it a refusal would be tried again
// for ever, in silence.
type handshakes struct {
	// refused and given are told the reason: that there is a row of refusals, once for each row,
	// and that it does not end. They must not wait.
	refused, given func(error)

	mu  sync.Mutex
	row row
}

// took is told how a handshake ended: nil, or why it was refused. Calls may overlap.
func (h *handshakes) took(err error) {
	h.mu.Lock()
	var v verdict
	h.row, v = h.row.judge(err, time.Now())
	h.mu.Unlock()
	switch v {
	case refused:
		h.refused(err)
	case given:
		h.given(err)
	}
}
