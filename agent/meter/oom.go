package meter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// OutOfMemory says what the OOM killer has done to the job; empty: nothing, or the kernel does not tell. It compares
// the usage before the command's start with that after its end.
// Of the processes that were killed, so many as others says were not the job's.
func OutOfMemory(before, after *hodeipb.Usage, others uint64) string {
	victim := after.GetOomVictim()
	if others > 0 && after.GetOomKills() <= before.GetOomKills()+others {
		return ""
	}
	if after.GetOomKills() <= before.GetOomKills() && victim == nil {
		return ""
	}
	limit := after.GetMemoryLimitBytes()
	if n := victim.GetLimitBytes(); n > 0 {
		limit = n
	}
	killed := "a process of the job"
	if victim != nil {
		killed = victim.Name
		if victim.Bytes > 0 {
			killed += " (" + binarySize(victim.Bytes) + ")"
		}
	}
	switch {
	case reachedLimit(before, after, limit) && limit > 0:
		return fmt.Sprintf("memory reached its limit of %s; the kernel killed %s", binarySize(limit), killed)
	case reachedLimit(before, after, limit):
		return "memory reached its limit; the kernel killed " + killed
	case after.GetOomKills() <= before.GetOomKills(): // the figures are older than the kill
		return fmt.Sprintf("the kernel killed %s for want of memory", killed)
	}
	return fmt.Sprintf("the kernel killed %s for want of memory on the node or in the Pod", killed)
}

// reachedLimit reports whether the job had reached its own limit. A process is also killed if a cgroup above the job's,
// or the machine, has no memory left.
func reachedLimit(before, after *hodeipb.Usage, limit uint64) bool {
	// The peak stays a little below the limit: each CPU takes some memory in advance, and gives it back before the
	// kernel says that the limit is reached.
	nearLimit := limit - limit/64
	if after != nil && after.OomEvents != nil { // else page cache may have filled it, without harm
		return *after.OomEvents > before.GetOomEvents()
	}
	return after.GetMemoryMaxEvents() > before.GetMemoryMaxEvents() || limit > 0 && after.GetMemoryPeakBytes() >= nearLimit
}

// binarySize writes bytes in the form that --memory takes, such as 512Mi or 1.5Gi. It rounds to three digits.
func binarySize(n uint64) string {
	const units = "KMGTPE"
	size, unit := float64(n), -1
	for size >= 1023.5 && unit < len(units)-1 {
		size, unit = size/1024, unit+1
	}
	decimals := 0
	switch {
	case unit < 0:
		return strconv.FormatUint(n, 10)
	case size < 9.995:
		decimals = 2
	case size < 99.95:
		decimals = 1
	}
	text := strconv.FormatFloat(size, 'f', decimals, 64)
	if decimals > 0 {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text + units[unit:unit+1] + "i"
}

// printable returns a name that the job has chosen in a form that can be sent and shown: it is valid UTF-8, and has
// nothing that does more to a terminal than show a character.
func printable(name string) string {
	name = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, name))
	if name == "" {
		return "a process"
	}
	return name
}
