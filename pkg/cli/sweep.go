package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// sweepWait is how long the end of a command waits for what it sweeps beside its own work.
const sweepWait = time.Second

// startSweep removes, beside a run's own start, the jobs of its namespace that will never
// start. The function that it returns waits for it, and tells what was removed; what is
// not done by then is left to the next command.
func (o *runOptions) startSweep(ctx context.Context) (finish func()) {
	c, ok := o.place.(cluster)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	notes := make(chan []string, 1)
	go func() { notes <- sweep(ctx, c.Provider, o.spec.Name) }()
	return func() {
		defer cancel()
		defer time.AfterFunc(sweepWait, cancel).Stop()
		for _, note := range <-notes {
			o.screen.note(note)
		}
	}
}

// sweep removes the jobs that will never start, save the one of the name keep, and says
// in a line each which they were. A cluster that can't be looked at is the command's own
// requests' to tell of.
func sweep(ctx context.Context, p *kubernetes.Provider, keep string) []string {
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
