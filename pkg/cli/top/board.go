package top

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/follow"
	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// window is how many samples of a job are kept: at one a second, they make a curve of the last minute.
	window = 60
	// endedStays is how long a job that has ended is shown, so that a person can read how it ended.
	endedStays = 5 * time.Second
)

// jobKey names a job in its cluster.
type jobKey struct{ namespace, name string }

// board is what is known of the jobs that are measured. Its methods may be called at the same time.
type board struct {
	// stays is how long a job that has ended is shown; 0: it is shown once.
	stays time.Duration

	mu   sync.Mutex
	rows map[jobKey]*row
	// changed has room for one: something is new.
	changed chan struct{}
}

// row is one job.
type row struct {
	jobKey
	attempt string
	// waiting is why there are no samples, as long as there are none.
	waiting string
	samples []job.Sample // of the attempt, oldest first
	untold  int          // how many of them, the last ones, were not shown yet
	told    bool         // some of this attempt were shown
	outcome *job.Outcome // nil: it has not ended
	ended   time.Time
}

func newBoard(stays time.Duration) *board {
	return &board{stays: stays, rows: map[jobKey]*row{}, changed: make(chan struct{}, 1)}
}

// set adds a job, or changes what it waits for.
func (b *board) set(k jobKey, waiting string) {
	b.mu.Lock()
	r := b.rows[k]
	if r == nil {
		r = &row{jobKey: k}
		b.rows[k] = r
	}
	r.waiting = waiting
	b.mu.Unlock()
	b.tell()
}

// take adds a reading of a job, unless the job's end was shown already.
func (b *board) take(k jobKey, got follow.Reading) {
	b.mu.Lock()
	if r := b.rows[k]; r != nil {
		r.take(got)
	}
	b.mu.Unlock()
	b.tell()
}

func (r *row) take(got follow.Reading) {
	if got.Attempt != "" && got.Attempt != r.attempt {
		r.attempt, r.samples, r.untold, r.told = got.Attempt, nil, 0, false
	}
	if got.Waiting != "" {
		r.waiting = got.Waiting
	}
	if got.Sample != nil {
		r.add(*got.Sample)
	}
	if got.Outcome != nil && r.outcome == nil {
		r.outcome, r.ended = got.Outcome, time.Now()
	}
}

func (b *board) tell() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (r *row) add(s job.Sample) {
	if len(r.samples) == window {
		r.samples = slices.Delete(r.samples, 0, 1)
	}
	r.samples = append(r.samples, s)
	if r.untold = min(r.untold+1, len(r.samples)); !r.told {
		r.untold = 1 // the first one has no rate
	}
}

// ended reports whether the board knows that a job has ended.
func (b *board) ended(k jobKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rows[k]
	return r != nil && r.outcome != nil
}

// shown returns copies of the rows: those that use most CPU first, then those that wait, then those that have ended.
// All their samples count as shown afterwards.
func (b *board) shown() []row {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rows []row
	for k, r := range b.rows {
		if over := r.outcome != nil && time.Since(r.ended) >= b.stays; over {
			delete(b.rows, k)
			if b.stays > 0 {
				continue
			}
		}
		shown := *r
		shown.samples = slices.Clone(r.samples)
		r.told, r.untold = r.told || r.untold > 0, 0
		rows = append(rows, shown)
	}
	slices.SortFunc(rows, func(x, y row) int {
		return cmp.Or(
			cmp.Compare(x.rank(), y.rank()),
			-cmp.Compare(x.cores(), y.cores()),
			strings.Compare(x.namespace, y.namespace), strings.Compare(x.name, y.name))
	})
	return rows
}

// measured reports whether each job has two samples, an end, or a reason why it has no samples. That its agent is
// being met is no such reason: samples may follow in a moment.
func (b *board) measured() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rows {
		if r.outcome == nil && len(r.samples) < 2 && (len(r.samples) == 1 || r.waiting == meeting) {
			return false
		}
	}
	return true
}

// latest returns the last sample, and the rate between it and the one before.
func (r *row) latest() (job.Sample, job.Rate) {
	n := len(r.samples)
	switch n {
	case 0:
		return job.Sample{}, job.Rate{}
	case 1:
		return r.samples[0], job.Rate{}
	}
	return r.samples[n-1], job.RateBetween(r.samples[n-2], r.samples[n-1])
}

// rank orders rows: 0 is measured, 1 waits, 2 has ended.
func (r *row) rank() int {
	switch {
	case r.outcome != nil:
		return 2
	case len(r.samples) == 0:
		return 1
	}
	return 0
}

func (r *row) cores() float64 {
	if _, rate := r.latest(); rate.Cores != nil {
		return *rate.Cores
	}
	return -1
}
