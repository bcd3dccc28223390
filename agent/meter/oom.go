package meter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// OutOfMemory says, by the usage before the command's start and after its end, what
// the OOM killer has done to the job; empty: nothing, or nothing that the kernel tells.
func OutOfMemory(before, after *hodeipb.Usage) string {
	victim := after.GetOomVictim()
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

// reachedLimit tells that the job's own limit had to do with it; a process is killed as
// well where a cgroup above, or the machine, has no memory left.
func reachedLimit(before, after *hodeipb.Usage, limit uint64) bool {
	// What a CPU has taken in advance, and gives back before the limit is said to be
	// reached, keeps the peak a little below it.
	nearLimit := limit - limit/64
	if after != nil && after.OomEvents != nil { // else page cache may have filled it, without harm
		return *after.OomEvents > before.GetOomEvents()
	}
	return after.GetMemoryMaxEvents() > before.GetMemoryMaxEvents() || limit > 0 && after.GetMemoryPeakBytes() >= nearLimit
}

// binarySize writes bytes as a person gives them to --memory: 512Mi, 1.5Gi. It rounds
// to three digits.
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

// printable is a name that the job has chosen, fit to be shown and sent: valid UTF-8,
// and nothing in it that does more to a terminal than show a character.
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
