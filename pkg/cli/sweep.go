package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/provider/kubernetes"
)

// sweepWait is how long the end of a command waits for what it sweeps beside its own work.
const sweepWait = time.Second

// startSweep removes jobs of the namespace that will never start, while the run's own job
// starts. The function that it returns waits for that, for sweepWait at most, and says what was
// removed. The next command does what is left.
func (o *following) startSweep(ctx context.Context) (finish func()) {
	c, ok := o.place.(place.Cluster)
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
			o.screen.Note(note)
		}
	}
}

// sweep removes the jobs that will never start, except the one called keep, and says in a line
// for each which they were. It does not report a cluster that does not answer: the command's
// own requests do.
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
