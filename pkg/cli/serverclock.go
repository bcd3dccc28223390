package cli

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// skewWarning is from when on somebody should know that the clocks differ, before
// certificates are in danger.
const skewWarning = time.Minute

// checkClock compares the API server's clock with ours.
func checkClock(c *kubernetes.Clock) check {
	const name = "clock"
	ahead, known := c.Ahead()
	if !known {
		return checked(name, checkSkipped, "", "the API server does not tell its time")
	}
	off := "ahead of"
	if ahead > 0 {
		off = "behind"
	}
	switch abs := ahead.Abs(); {
	case abs > kubernetes.ClockTolerance:
		return checked(name, checkError, "set the clock: timedatectl set-ntp true", "%s: certificates made here are not valid there", c.Both())
	case abs >= skewWarning:
		return checked(name, checkWarning, "set the clock: timedatectl set-ntp true", "%s", c.Both())
	case abs < time.Second: // what can be told apart
		return checked(name, checkOK, "", "the same as the API server's")
	default:
		return checked(name, checkOK, "", "%s %s the API server's", abs.Round(time.Second), off)
	}
}
