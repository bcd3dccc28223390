package kubernetes

import (
	"context"
	"fmt"
)

// SweepNotes is [Provider.Sweep] for a command that has something else to do: it returns a line
// for each job that was to be removed. It does not report a cluster that does not answer: the
// command's own requests do.
func (p *Provider) SweepNotes(ctx context.Context, keep string) []string {
	swept, _ := p.Sweep(ctx, keep)
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
