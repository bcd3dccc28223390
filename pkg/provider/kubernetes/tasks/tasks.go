// Package tasks has goroutines that somebody owns: a [Group] ends them, and waits for them. It does not know what they
// do.
package tasks

import (
	"context"
	"sync"
)

// Group is a number of goroutines that end with Close, which waits for them. The zero value is ready to use, by several
// goroutines at a time.
type Group struct {
	mu      sync.Mutex
	closed  bool
	started int
	stops   map[int]context.CancelFunc // of those that run
	work    sync.WaitGroup
}

// Go runs do with the values of ctx, beyond the end of ctx. The context of do ends when stop is
// called, or with Stop or Close, after which nothing is run.
func (g *Group) Go(ctx context.Context, do func(context.Context)) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		stop()
		return stop
	}
	id := g.started
	g.started++
	if g.stops == nil {
		g.stops = map[int]context.CancelFunc{}
	}
	g.stops[id] = stop
	g.work.Go(func() {
		do(ctx)
		stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.stops, id)
	})
	return stop
}

// Close ends all tasks and waits for them. It may be called again.
func (g *Group) Close() {
	g.Stop()
	g.Wait()
}

// Wait waits until no task runs, and ends none.
func (g *Group) Wait() { g.work.Wait() }

// Stop ends all tasks, and does not wait for them.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, stop := range g.stops {
		stop()
	}
}
