package hodeipb

import (
	"sync"

	"google.golang.org/grpc/mem"
)

// Pool is a mem.BufferPool of buffers of one size. Unlike gRPC's own it does not
// clear them, which would cost as much as the copy that is saved: who takes one
// writes before it reads. The zero value is not ready; use NewPool.
type Pool struct {
	size int
	pool sync.Pool
}

// NewPool returns an empty pool of buffers of size bytes.
func NewPool(size int) *Pool { return &Pool{size: size} }

// Get returns a buffer of n bytes, with whatever was in it; beyond the pool's
// size a new one.
func (p *Pool) Get(n int) *[]byte {
	if n > p.size {
		b := make([]byte, n)
		return &b
	}
	b, ok := p.pool.Get().(*[]byte)
	if !ok {
		made := make([]byte, p.size)
		b = &made
	}
	*b = (*b)[:n]
	return b
}

// Put takes a buffer back. One that is not of the pool's size is left to the
// garbage collector.
func (p *Pool) Put(b *[]byte) {
	if cap(*b) == p.size {
		p.pool.Put(b)
	}
}

var _ mem.BufferPool = (*Pool)(nil)
