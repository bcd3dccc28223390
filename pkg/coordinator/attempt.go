package coordinator

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

// maxOfJob is how many attachments one job of many may have at once: a retry
// overlaps with the attempt before it, and each with a connection that it has lost.
// Its certificate gives it no more of the server than that.
const maxOfJob = 8

// maxAttempts is how many attempts are remembered. A Server remembers all that its job can have,
// each with a log of its own; a Hub those that are attached.
const maxAttempts = job.MaxRetries + 1

// attemptKey names an attempt. Its UID alone would not do: it is the word of whoever
// holds some job's certificate.
type attemptKey struct{ namespace, job, uid string }

func (k attemptKey) sameJob(o attemptKey) bool { return k.namespace == o.namespace && k.job == o.job }

// attempt is what the coordinator knows of one.
type attempt struct {
	name     string // that of its Pod, by which a Follower knows it
	follower Follower
	// turn is held by the one attachment that is served.
	turn chan struct{}
	// stored is the offset up to which the follower has the output; it is the
	// turn's holder's.
	stored uint64
	exited bool
	// sampled is the time of the latest sample, and the turn's holder's too, as states is.
	sampled time.Time
	states  states
	// inputTurn is the turn in which the attachment served sends the input; 0: its agent has not
	// answered yet, -1: it was not asked.
	inputTurn int

	// Guarded by service.mu.

	serving int    // attachments
	done    func() // of the follower; nil: the attempt is kept
	// closed is made when the last attachment of an attempt that is not kept has left,
	// and closed when done has returned.
	closed chan struct{}
	// current ends the attachment served; orders reaches it.
	current context.CancelFunc
	orders  chan *hodeipb.Control
}

// orderCancel orders every attempt to stop, those that are attached and those that will be.
func (s *service) orderCancel(order *hodeipb.Cancel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = order
	for _, a := range s.attempts {
		a.order(&hodeipb.Control{Order: &hodeipb.Control_Cancel{Cancel: order}})
	}
}

// noteJobEnded tells the agent of an attempt, once it is attached, that the job's container has
// ended.
func (s *service) noteJobEnded(name, how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.jobEnded == nil {
		s.jobEnded = map[string]string{}
	}
	s.jobEnded[name] = how
	for _, a := range s.attempts {
		if a.name == name {
			a.orderJobEnded(how)
		}
	}
}

func (a *attempt) orderJobEnded(how string) {
	a.order(&hodeipb.Control{Order: &hodeipb.Control_JobEnded{JobEnded: &hodeipb.JobEnded{Message: how}}})
}

// orderAll gives an order to the attempts that are attached, and tells whether there was one.
func (s *service) orderAll(order *hodeipb.Control) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sent := false
	for _, a := range s.attempts {
		sent = a.order(order) || sent
	}
	return sent
}

// order queues c for the attachment served, and tells whether it could; service.mu is held.
// An attachment that has four orders waiting is not reading, and will be told anew of a
// Cancel when it is back.
func (a *attempt) order(c *hodeipb.Control) bool {
	if a.orders == nil {
		return false
	}
	select {
	case a.orders <- c:
		return true
	default:
		return false
	}
}

// enter makes this attachment the one that its attempt is served by.
func (s *service) enter(
	ctx context.Context, hello *hodeipb.Hello, cancel context.CancelFunc,
) (*attempt, <-chan *hodeipb.Control, func(), error) {
	a, err := s.attempt(ctx, hello)
	if err != nil {
		return nil, nil, nil, err
	}
	defer s.mu.Unlock()
	if a.current != nil {
		a.current() // a half-open connection is replaced by the one that works
	}
	s.serving++
	a.serving++
	orders := make(chan *hodeipb.Control, 4)
	a.current, a.orders = cancel, orders
	if s.cancel != nil {
		a.order(&hodeipb.Control{Order: &hodeipb.Control_Cancel{Cancel: s.cancel}})
	}
	if how, ok := s.jobEnded[a.name]; ok {
		a.orderJobEnded(how)
	}
	return a, orders, func() { s.leave(a, hello, orders) }, nil
}

// attempt returns the attempt that says hello, and with it s.mu held. It waits for
// the end of what is being closed of it.
func (s *service) attempt(ctx context.Context, hello *hodeipb.Hello) (*attempt, error) {
	key := keyOf(hello)
	for {
		s.mu.Lock()
		a := s.attempts[key]
		switch {
		case s.policy.settings().shared && s.ofJob(key) >= maxOfJob:
			s.mu.Unlock()
			return nil, status.Errorf(codes.ResourceExhausted, "job %s/%s has %d attachments already", key.namespace, key.job, maxOfJob)
		case a == nil && len(s.attempts) >= maxAttempts:
			s.mu.Unlock()
			return nil, status.Errorf(codes.ResourceExhausted, "%d attempts have attached already", maxAttempts)
		case a == nil && s.isTaken(key, hello.Attempt):
			s.mu.Unlock()
			return nil, status.Errorf(codes.InvalidArgument, "attempt %q has another attempt_uid than %q", hello.Attempt, key.uid)
		case a == nil:
			a = &attempt{name: hello.Attempt, turn: make(chan struct{}, 1)}
			a.follower, a.done = s.open(hello)
			s.attempts[key] = a
			return a, nil
		case a.closed == nil && a.name != hello.Attempt:
			s.mu.Unlock()
			return nil, status.Errorf(codes.InvalidArgument, "attempt_uid %q is attempt %q, not %q", key.uid, a.name, hello.Attempt)
		case a.closed == nil:
			return a, nil
		}
		closed := a.closed
		s.mu.Unlock()
		select {
		case <-closed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// open asks the policy for a Follower, with s.mu held, which is let go where that panics.
func (s *service) open(hello *hodeipb.Hello) (f Follower, done func()) {
	opened := false
	defer func() {
		if !opened {
			s.mu.Unlock()
		}
	}()
	f, done = s.policy.open(hello)
	opened = true
	return f, done
}

// isTaken reports whether another attempt of the job has this name, by which a Follower knows
// an attempt; s.mu is held.
func (s *service) isTaken(key attemptKey, name string) bool {
	for k, a := range s.attempts {
		if k.sameJob(key) && a.name == name {
			return true
		}
	}
	return false
}

func keyOf(hello *hodeipb.Hello) attemptKey {
	return attemptKey{hello.Namespace, hello.Job, hello.AttemptUid}
}

// ofJob counts the attachments of a job; s.mu is held.
func (s *service) ofJob(key attemptKey) int {
	n := 0
	for k, a := range s.attempts {
		if k.sameJob(key) {
			n += a.serving
		}
	}
	return n
}

// leave is the end of an attachment. The last one of an attempt that is not kept
// takes the attempt with it, also where the attempt's done panics.
func (s *service) leave(a *attempt, hello *hodeipb.Hello, orders chan *hodeipb.Control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		s.serving--
		close(s.left)
		s.left = make(chan struct{})
	}()
	if a.orders == orders {
		a.current, a.orders = nil, nil
	}
	a.serving--
	if a.serving > 0 || a.done == nil {
		return
	}
	a.closed = make(chan struct{})
	defer func() {
		delete(s.attempts, keyOf(hello))
		close(a.closed)
	}()
	s.mu.Unlock()
	defer s.mu.Lock()
	a.done()
}
