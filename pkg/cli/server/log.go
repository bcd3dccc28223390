package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/place"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

const (
	// refusalWindow and maxRefusals bound the log, because whoever reaches the port is
	// turned away as often as they like: an agent tries at most every 100 ms at first, and
	// later every 15 s.
	refusalWindow = 10 * time.Second
	maxRefusals   = 20
)

// turnedAway tells of agents that are turned away.
type turnedAway struct {
	log *slog.Logger

	mu sync.Mutex
	quota
}

// quota bounds the lines in a refusalWindow.
type quota struct {
	began        time.Time
	told, untold int // since then
}

// take reports whether there is room for one more line, and how many had none in the window
// before.
func (q *quota) take(now time.Time) (ok bool, before int) {
	if now.Sub(q.began) >= refusalWindow {
		before = q.untold
		*q = quota{began: now}
	}
	if ok = q.told < maxRefusals; ok {
		q.told++
	} else {
		q.untold++
	}
	return ok, before
}

func (r *turnedAway) tell(from net.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, before := r.take(time.Now())
	r.sum(before)
	if ok {
		r.log.Warn("agent turned away", "address", from.String(), "error", err)
	}
}

// sum logs how many lines were left out.
func (r *turnedAway) sum(n int) {
	if n > 0 {
		r.log.Warn("more agents turned away", "count", n)
	}
}

// end tells of the last ones.
func (r *turnedAway) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum(r.untold)
}

// jobLog bounds what is logged of each job: its agent may come and go as fast as it likes.
type jobLog struct {
	slog.Handler
	state *jobQuotas
	job   string
}

// jobQuotas are the quotas of jobs that logged something just now.
type jobQuotas struct {
	mu     sync.Mutex
	quotas map[string]*quota
}

// of returns the log of one job.
func (q *jobQuotas) of(log *slog.Logger, job, attempt string) *slog.Logger {
	h := log.With("job", job, "attempt", attempt).Handler()
	return slog.New(&jobLog{Handler: h, state: q, job: job})
}

// Handle implements slog.Handler.
func (l *jobLog) Handle(ctx context.Context, r slog.Record) error {
	ok, before := l.state.take(l.job, time.Now())
	if before > 0 {
		r.AddAttrs(slog.Int("unlogged", before))
	}
	if !ok {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (q *jobQuotas) take(job string, now time.Time) (ok bool, before int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for name, other := range q.quotas {
		if name != job && now.Sub(other.began) >= 10*refusalWindow {
			delete(q.quotas, name)
		}
	}
	if q.quotas[job] == nil {
		q.quotas[job] = &quota{}
	}
	return q.quotas[job].take(now)
}

// attemptLog says what happens to an attempt.
type attemptLog struct{ log *slog.Logger }

func (l attemptLog) Attached(a coordinator.Attachment) {
	_, end := a.Log.Extent()
	l.log.Info("agent attached", "version", a.Hello.AgentVersion, "offset", end)
}

// Metrics is not shown here.
func (l attemptLog) Metrics(string, *hodeipb.Metrics) {}

func (l attemptLog) State(string, *hodeipb.State) {}

func (l attemptLog) Exited(_ string, record *hodeipb.ExitRecord) {
	o := wire.Outcome(record)
	l.log.Info("job ended", "cause", string(o.Cause), "code", o.Code, "bytes", record.End, "lost", record.Lost)
}

func (l attemptLog) Failed(_ string, err error) { l.log.Error("output not stored", "error", err) }

// probeEvery bounds the writes that requests of /healthz can cause.
const probeEvery = 5 * time.Second

// probe tells whether a directory takes files, by trying at most every probeEvery.
type probe struct {
	dir string

	mu  sync.Mutex
	at  time.Time
	err error
}

func (p *probe) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.at) >= probeEvery {
		p.at, p.err = now, place.TakesFiles(p.dir)
	}
	return p.err
}
