package kubernetes

import (
	"context"
	"sync"
)

// tasks are goroutines that end with Close, which waits for them. The zero value is ready to use,
// by several goroutines at a time.
type tasks struct {
	mu      sync.Mutex
	closed  bool
	started int
	stops   map[int]context.CancelFunc // of those that run
	work    sync.WaitGroup
}

// Go runs do with the values of ctx, beyond the end of ctx. The context of do ends when stop is
// called, or with Close. After Close nothing is run.
func (t *tasks) Go(ctx context.Context, do func(context.Context)) (stop context.CancelFunc) {
	ctx, stop = context.WithCancel(context.WithoutCancel(ctx))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		stop()
		return stop
	}
	id := t.started
	t.started++
	if t.stops == nil {
		t.stops = map[int]context.CancelFunc{}
	}
	t.stops[id] = stop
	t.work.Go(func() {
		do(ctx)
		stop()
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.stops, id)
	})
	return stop
}

// Close ends all tasks and waits for them. It may be called again.
func (t *tasks) Close() {
	t.stop()
	t.work.Wait()
}

func (t *tasks) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, stop := range t.stops {
		stop()
	}
}
