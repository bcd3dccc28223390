// Package clock compares the API server's clock with ours: start with [Clock]. It knows nothing of jobs, and asks nothing
// by itself: it reads the answers to what others ask.
package clock

import (
	"net/http"
	"sync"
	"time"
)

// Tolerance is how far the API server's clock may be off ours before
// certificates are in danger: they begin 5 minutes back, and a node may be a little
// off the API server.
const Tolerance = 4 * time.Minute

// Clock is the API server's, as its answers tell it: their Date, in whole seconds. The
// zero Clock has heard none. It is safe for concurrent use.
type Clock struct {
	mu    sync.Mutex
	read  bool
	ahead time.Duration
}

// Wrap has the clock read from the answers to requests through next.
func (c *Clock) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		asked := time.Now()
		answer, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			c.mu.Lock()
			c.read, c.ahead = true, ahead(at, asked, time.Now())
			c.mu.Unlock()
		}
		return answer, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Ahead is how far the API server's clock is ahead of ours at least, below 0 behind,
// and whether that is known: 0 where the two can't be told apart.
func (c *Clock) Ahead() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead, c.read
}

// Both says what both clocks show now.
func (c *Clock) Both() string {
	now := time.Now()
	text := "this machine's clock says " + stamp(now)
	if by, known := c.Ahead(); known {
		text += ", the API server's " + stamp(now.Add(by))
	}
	return text
}

// ahead is how far a clock that showed made, in whole seconds, is ahead of
// ours, which saw the request and the answer; below 0 it is behind.
func ahead(made, asked, answered time.Time) time.Duration {
	switch {
	case made.Before(asked.Truncate(time.Second)):
		return made.Sub(asked.Truncate(time.Second))
	case made.After(answered):
		return made.Sub(answered)
	}
	return 0
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
