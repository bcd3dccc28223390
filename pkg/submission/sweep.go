package submission

import (
	"context"
	"time"

	"github.com/hodei-jobs/hodei/pkg/place"
)

// sweepWait is how long the end of a command waits for what it sweeps beside its own work.
const sweepWait = time.Second

// startSweep removes jobs of the namespace that will never start, while the run's own job
// starts. The function that it returns waits for that, for sweepWait at most, and says what was
// removed. The next command does what is left.
func (c *Config) startSweep(ctx context.Context) (finish func()) {
	cluster, ok := c.Place.(place.Cluster)
	if !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	notes := make(chan []string, 1)
	go func() { notes <- cluster.SweepNotes(ctx, c.Spec.Name) }()
	return func() {
		defer cancel()
		defer time.AfterFunc(sweepWait, cancel).Stop()
		for _, note := range <-notes {
			c.Screen.Note(note)
		}
	}
}
