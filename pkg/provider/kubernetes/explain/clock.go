package explain

import (
	"fmt"
	"strings"

	"github.com/hodei-jobs/hodei/certs"
)

// ClockHint is what helps against the last words of a job's agent, if they are about
// the time of a certificate; else it is "".
func ClockHint(message, namespace, name string) string {
	const compare = "compare the clocks of this machine and of the job's node; " +
		"chronyc tracking, or timedatectl, tells whether they are kept"
	switch {
	case strings.Contains(message, certs.ErrNotYetValid.Error()):
		return compare
	case strings.Contains(message, certs.ErrExpired.Error()):
		return fmt.Sprintf("of a job that takes longer they have to be renewed before their end: {hodei} certs rotate --job %s -n %s; "+
			"if it has not come yet, %s", name, namespace, compare)
	}
	return ""
}
