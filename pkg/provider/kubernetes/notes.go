package kubernetes

import (
	"time"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes/clock"
)

// Notes are what is to be said of a job once it was made, or attached to: clocks that are too far
// apart, and why its agent measures without eBPF.
func (r *Run) Notes() []string {
	var notes []string
	for _, note := range []string{r.clockNote(), r.ebpfNote()} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes
}

// clockNote says both clocks if the API server's is too far off ours; else it is "".
func (r *Run) clockNote() string {
	if ahead, _ := r.provider.clock.Ahead(); ahead.Abs() <= clock.Tolerance {
		return ""
	}
	return "the clocks differ: " + r.provider.clock.Both() + "; an agent refuses certificates that are not valid by its own"
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
