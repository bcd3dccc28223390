package kubernetes

import (
	"context"
	"fmt"
)

// SweepNotes removes the jobs of the namespace that did not start within their start timeout and that nothing in the
// cluster would ever end. It leaves alone the job called keep, and those that are or were queued or suspended. It returns
// a line about each job that was removed, or could not be. A cluster that does not answer is not reported, because the
// command's own requests do that.
func (p *Provider) SweepNotes(ctx context.Context, keep string) []string {
	swept, _ := p.sweep(ctx, keep)
	var notes []string
	for _, s := range swept {
		switch {
		case s.Err == nil:
			notes = append(notes, fmt.Sprintf("removed job %s, %s", s.Name, s.Why))
		case ctx.Err() == nil:
			notes = append(notes, fmt.Sprintf("job %s, %s, can't be removed: %s", s.Name, s.Why, s.Err.Message))
		}
	}
	return notes
}
