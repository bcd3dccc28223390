package check

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/clock"
)

// skewWarning is the difference of clocks that somebody should know of, long before certificates become invalid.
const skewWarning = time.Minute

// ofClock compares the API server's clock with ours.
func ofClock(c *clock.Clock) Result {
	const name = "clock"
	ahead, known := c.Ahead()
	if !known {
		return New(name, Skipped, "", "the API server does not tell its time")
	}
	off := "ahead of"
	if ahead > 0 {
		off = "behind"
	}
	switch abs := ahead.Abs(); {
	case abs > clock.Tolerance:
		return New(name, Error, "set the clock: timedatectl set-ntp true", "%s: certificates made here are not valid there", c.Both())
	case abs >= skewWarning:
		return New(name, Warning, "set the clock: timedatectl set-ntp true", "%s", c.Both())
	case abs < time.Second: // the API server tells whole seconds
		return New(name, OK, "", "the same as the API server's")
	default:
		return New(name, OK, "", "%s %s the API server's", abs.Round(time.Second), off)
	}
}
