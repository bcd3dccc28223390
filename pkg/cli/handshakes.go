package cli

import (
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// refusedOften is how many handshakes in a row end in a refusal before it is said:
	// one or two may fall into the moment in which certificates are replaced.
	refusedOften = 3
	// refusedWait is how long after the first of them we give up. The kubelet brings
	// replaced certificates to an agent within a minute and a half, and the next try
	// after that comes within 22 s.
	refusedWait = 2 * time.Minute
)

// refuser is a job that can say more of handshakes that are refused: one whose
// agents are met through a tunnel, where nobody else can refuse us.
type refuser interface {
	Refused(err error) *job.Failure
}

// handshakes judges how those with a job's agents end: without it a refusal would be
// tried again for ever, in silence.
type handshakes struct {
	// refused and given each get one value for every row of refusals: that there is
	// one, and that it does not end.
	refused, given chan error

	mu    sync.Mutex
	n     int // in a row
	since time.Time
}

func newHandshakes() *handshakes {
	return &handshakes{refused: make(chan error, 1), given: make(chan error, 1)}
}

// took is told how a handshake ended: nil, or why it was refused.
func (h *handshakes) took(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.n = 0
		return
	}
	if h.n == 0 {
		h.since = time.Now()
	}
	h.n++
	if h.n == refusedOften {
		tell(h.refused, err)
	}
	if h.n > refusedOften && time.Since(h.since) > refusedWait {
		tell(h.given, err)
	}
}

// tell sends without waiting: while nobody has taken the last one, this one adds
// nothing.
func tell(c chan<- error, err error) {
	select {
	case c <- err:
	default:
	}
}
