package server

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

const (
	// In refusalWindow at most maxRefusals lines are logged, because anybody who reaches the
	// port can be turned away as often as they like. An agent tries every 100 ms at first, and
	// every 15 s later.
	refusalWindow = 10 * time.Second
	maxRefusals   = 20
)

// turnedAway logs agents that are turned away, within a quota. It may be used by several goroutines.
type turnedAway struct {
	log *slog.Logger

	mu sync.Mutex
	quota
}

// quota counts the lines of a refusalWindow.
type quota struct {
	began        time.Time
	told, untold int // lines that were logged since then, and those that were left out
}

// take reports whether one more line may be logged, and how many were left out in the window before this one.
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

// tell logs that an agent was turned away because of err.
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

// end logs how many lines were left out since the last one.
func (r *turnedAway) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sum(r.untold)
}

// jobLog handles what is logged of one job, within a quota: the job's agent may come and go as fast as it likes.
type jobLog struct {
	slog.Handler
	quotas *jobQuotas
	job    string
}

// jobQuotas are the quotas of jobs of which something was logged lately. They may be used by several goroutines.
type jobQuotas struct {
	mu     sync.Mutex
	quotas map[string]*quota
}

// of returns the log of one job.
func (q *jobQuotas) of(log *slog.Logger, job, attempt string) *slog.Logger {
	h := log.With("job", job, "attempt", attempt).Handler()
	return slog.New(&jobLog{Handler: h, quotas: q, job: job})
}

// Handle implements slog.Handler.
func (l *jobLog) Handle(ctx context.Context, r slog.Record) error {
	ok, before := l.quotas.take(l.job, time.Now())
	if before > 0 {
		r.AddAttrs(slog.Int("unlogged", before))
	}
	if !ok {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// take is quota.take for a job. It forgets jobs that were quiet for ten windows.
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

// attemptLog logs what happens to an attempt. It is a coordinator.Listener.
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
