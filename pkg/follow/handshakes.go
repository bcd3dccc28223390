package follow

import (
	"sync"
	"time"
)

// refusedOften is how many handshakes in a row must be refused before anybody is told: one or two may fall into the
// moment in which certificates are replaced.
const refusedOften = 3

// RefusedWait is how long handshakes may be refused, from the first one on, before the meeting is given up. The kubelet
// brings replaced certificates to an agent within a minute and a half, and the agent tries again within 22 s of that.
const RefusedWait = 2 * time.Minute

// verdict is what to do after a handshake.
type verdict int

const (
	goOn    verdict = iota
	refused         // tell that certificates are refused
	given           // give up
)

// row counts handshakes that were refused one after the other.
type row struct {
	n     int
	since time.Time // when the first was refused
}

// judge returns the row after one more handshake, which ended at now with err, and what to do. A nil err says that
// nobody refused a certificate.
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

// handshakes judges how the handshakes with a job's agents end. Without it, agents whose certificates are refused would
// try again for ever, and nobody would be told.
type handshakes struct {
	// refused is called once for each row of refusals, and given when a row does not end. Both get the reason, and
	// must not block.
	refused, given func(error)

	mu  sync.Mutex
	row row
}

// took takes the end of one handshake: nil, or why it was refused. It may be called at the same time.
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
