package cli

import (
	"context"
	"strings"
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
// in a line each which they were.
func sweep(ctx context.Context, p *kubernetes.Provider, keep string) []string {
	swept, err := p.Sweep(ctx, keep)
	var notes []string
	for _, s := range swept {
		notes = append(notes, "removed job "+s.Name+", "+s.Why)
	}
	if err != nil && ctx.Err() == nil {
		notes = append(notes, strings.Split(err.Error(), "\n")...) // of several, a line each
	}
	return notes
}
