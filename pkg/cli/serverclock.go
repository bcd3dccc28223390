package cli

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Clocks that differ by more than a certificate is dated back can't agree on
// whether it is valid yet; from the smaller bound on somebody should know.
const (
	skewError   = 5 * time.Minute
	skewWarning = time.Minute
)

// serverClock takes the API server's time from its answers.
type serverClock struct {
	mu   sync.Mutex
	read bool
	skew time.Duration // of ours: negative is behind
}

func (c *serverClock) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		sent := time.Now()
		answer, err := next.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		// Date has whole seconds: what it says began half a second ago, on average.
		if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
			half := time.Since(sent) / 2
			c.mu.Lock()
			c.read, c.skew = true, sent.Add(half).Sub(at.Add(500*time.Millisecond))
			c.mu.Unlock()
		}
		return answer, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (c *serverClock) check() check {
	const name = "clock"
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.read {
		return checked(name, checkSkipped, "", "the API server does not tell its time")
	}
	off := "behind"
	if c.skew > 0 {
		off = "ahead of"
	}
	now := time.Now().UTC()
	both := fmt.Sprintf("this machine's clock says %s, the API server's %s", now.Format(time.RFC3339), now.Add(-c.skew).Format(time.RFC3339))
	switch abs := c.skew.Abs(); {
	case abs >= skewError:
		return checked(name, checkError, "set the clock: timedatectl set-ntp true", "%s: certificates made here are not valid there", both)
	case abs >= skewWarning:
		return checked(name, checkWarning, "set the clock: timedatectl set-ntp true", "%s", both)
	case abs < 2*time.Second: // what Date can tell apart
		return checked(name, checkOK, "", "the same as the API server's")
	default:
		return checked(name, checkOK, "", "%s %s the API server's", abs.Round(time.Second), off)
	}
}
