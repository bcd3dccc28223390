package server

import (
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/place"
)

// probeEvery bounds the writes that requests of /healthz can cause.
const probeEvery = 5 * time.Second

// probe finds out whether a directory takes files by writing one, at most every probeEvery. It may be used by several
// goroutines.
type probe struct {
	dir string

	mu  sync.Mutex
	at  time.Time
	err error
}

// check returns why the directory takes no files, as the last probe found; nil: it takes them.
func (p *probe) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.at) >= probeEvery {
		p.at, p.err = now, place.TakesFiles(p.dir)
	}
	return p.err
}
