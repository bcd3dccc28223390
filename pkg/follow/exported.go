package follow

import (
	"sync"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Exported is a Listener that also tells an Exporter; nil is none.
func Exported(l coordinator.Listener, to *exporter.Exporter) coordinator.Listener {
	if to == nil {
		return l
	}
	return &exportedListener{Listener: l, to: to, ids: map[string]exporter.ID{}}
}

type exportedListener struct {
	coordinator.Listener
	to *exporter.Exporter

	mu  sync.Mutex
	ids map[string]exporter.ID // by attempt: the latest
}

func (l *exportedListener) id(attempt string) exporter.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[attempt]
}

// Attached begins to show an attempt, in place of those before it, of which there may
// be no end.
func (l *exportedListener) Attached(a coordinator.Attachment) {
	id := exporter.ID{Namespace: a.Hello.Namespace, Job: a.Hello.Job, Attempt: a.Hello.Attempt}
	l.mu.Lock()
	for attempt, earlier := range l.ids {
		if earlier != id {
			l.to.Left(earlier)
			delete(l.ids, attempt)
		}
	}
	l.ids[id.Attempt] = id
	l.mu.Unlock()
	l.to.Attached(id)
	l.Listener.Attached(a)
}

// Metrics shows the latest sample.
func (l *exportedListener) Metrics(attempt string, m *hodeipb.Metrics) {
	l.to.Sample(l.id(attempt), wire.Sample(m))
	l.Listener.Metrics(attempt, m)
}

// Exited shows what the attempt has used in the end, for a while.
func (l *exportedListener) Exited(attempt string, record *hodeipb.ExitRecord) {
	id := l.id(attempt)
	if u := wire.Usage(record.Usage); u != nil {
		s := job.Sample{Usage: *u}
		if record.Finished.IsValid() {
			s.Time = record.Finished.AsTime()
		}
		l.to.Sample(id, s)
	}
	l.to.Left(id)
	l.Listener.Exited(attempt, record)
}
