package follow

import (
	"sync"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/exporter"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Exported returns a Listener that tells to, and then l. If to is nil, it returns l.
func Exported(l coordinator.Listener, to *exporter.Exporter) coordinator.Listener {
	if to == nil {
		return l
	}
	return &exportedListener{Listener: l, to: to, ids: map[string]exporter.ID{}}
}

// exportedListener shows the latest attempt of a job with an Exporter.
type exportedListener struct {
	coordinator.Listener
	to *exporter.Exporter

	mu  sync.Mutex
	ids map[string]exporter.ID // of the latest attempt, by its name
}

// id returns what the Exporter knows the attempt by; zero if it is not the latest.
func (l *exportedListener) id(attempt string) exporter.ID {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ids[attempt]
}

// Attached shows a new attempt in place of the one before. That one may never have said that it ended.
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

// Exited shows the attempt's last figures. The Exporter keeps them for a while.
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
