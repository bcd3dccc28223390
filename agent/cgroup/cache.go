package cgroup

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Cache keeps the last sample of a [Reader] for any number of readers, who read
// memory and not the kernel. One goroutine, in [Cache.Run], takes the samples.
type Cache struct {
	reader   *Reader
	refresh  sync.Mutex // one at a time, so that samples are kept in their order
	last     atomic.Pointer[Sample]
	interval atomic.Int64 // nanoseconds
	changed  chan struct{}
}

// NewCache makes a cache that holds a first sample, and whose Run takes one every
// interval, which is positive. A nil Reader's samples know nothing.
func NewCache(r *Reader, interval time.Duration) *Cache {
	c := &Cache{reader: r, changed: make(chan struct{}, 1)}
	c.interval.Store(int64(interval))
	c.Refresh()
	return c
}

// Sample is the last sample, never nil. It costs a load from memory; nobody may
// change what it points to.
func (c *Cache) Sample() *Sample { return c.last.Load() }

// Refresh takes a sample now, for who can't wait for the interval's end, and
// returns it.
func (c *Cache) Refresh() *Sample {
	c.refresh.Lock()
	defer c.refresh.Unlock()
	s := new(Sample) // readers may hold the last one for as long as they like
	c.reader.Read(s)
	c.last.Store(s)
	return s
}

// SetInterval changes the interval, which is positive, from now on.
func (c *Cache) SetInterval(d time.Duration) {
	if c.interval.Swap(int64(d)) == int64(d) {
		return
	}
	select {
	case c.changed <- struct{}{}:
	default: // Run has not seen the last change yet, and will see both
	}
}

// Run takes samples until ctx is done or the cgroup has gone.
func (c *Cache) Run(ctx context.Context) {
	tick := time.NewTicker(time.Duration(c.interval.Load()))
	defer tick.Stop()
	for !c.reader.Gone() {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			tick.Reset(time.Duration(c.interval.Load()))
		case <-tick.C:
			c.Refresh()
		}
	}
}
