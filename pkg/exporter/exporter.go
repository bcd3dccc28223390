// Package exporter shows what jobs use as Prometheus text, of the jobs that this
// process follows. Start with [New], tell it of attempts and their samples, and have
// [Exporter.Serve] answer those who ask. It neither samples nor stores: of each attempt
// it has the last figures.
package exporter

import (
	"cmp"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// keepEnded is how long the figures of an attempt stay after its end: so long that
	// a server which scrapes every minute, and misses some, has the last ones.
	keepEnded = 5 * time.Minute
	// maxAttempts bounds what one answer holds, some 5 KiB each. It is four times the
	// connections that a server takes.
	maxAttempts = 1024
	// maxOfJob bounds the part of one job, whose agent chooses the names of its attempts.
	maxOfJob = 16
	// maxNameBytes is the longest name that an object of Kubernetes can have.
	maxNameBytes = 253
)

// ID names an attempt, by the labels namespace, job_name and attempt.
type ID struct{ Namespace, Job, Attempt string }

// Exporter has the latest usage of attempts. Use New. Its methods may be called from
// any goroutine, and wait for nothing.
type Exporter struct {
	registry *prometheus.Registry
	leftOut  prometheus.Counter

	mu       sync.Mutex
	attempts map[ID]*attempt
	seen     uint64 // attempts so far, for their order
}

// attempt is what is known of one.
type attempt struct {
	order  uint64
	sample job.Sample // its Time is zero before the first
	ended  time.Time  // by our clock; zero: it has not
}

// New returns an Exporter without attempts, which also shows what this process itself
// uses.
func New() *Exporter {
	e := &Exporter{
		registry: prometheus.NewRegistry(),
		leftOut: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hodei_exporter_left_out_attempts_total",
			Help: "Attempts of which nothing is shown, because there were too many or their name is none.",
		}),
		attempts: map[ID]*attempt{},
	}
	// No process collector: some of its figures are the whole machine's.
	e.registry.MustRegister(e, e.leftOut, collectors.NewGoCollector())
	return e
}

// Attached begins to show an attempt, or goes on with it. Of more than 16 of one job,
// or 1024 of all, those that ended first make room; if none has ended, the new one is
// left out.
func (e *Exporter) Attached(id ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expire(time.Now())
	if a := e.attempts[id]; a != nil {
		a.ended = time.Time{}
		return
	}
	ofJob := func(other ID) bool { return other.Namespace == id.Namespace && other.Job == id.Job }
	if !named(id) || !e.makeRoom(maxOfJob, ofJob) || !e.makeRoom(maxAttempts, func(ID) bool { return true }) {
		e.leftOut.Inc()
		return
	}
	e.seen++
	e.attempts[id] = &attempt{order: e.seen}
}

// named tells whether all names are ones that an object could have: an agent may say
// anything.
func named(id ID) bool {
	for _, name := range []string{id.Namespace, id.Job, id.Attempt} {
		if len(name) > maxNameBytes || !utf8.ValidString(name) {
			return false
		}
	}
	return true
}

// makeRoom drops the attempts that ended first, of those that count, until there are
// fewer than so many. e.mu is held.
func (e *Exporter) makeRoom(most int, counts func(ID) bool) bool {
	var counted []ID
	for id := range e.attempts {
		if counts(id) {
			counted = append(counted, id)
		}
	}
	if len(counted) < most {
		return true
	}
	slices.SortFunc(counted, func(a, b ID) int {
		x, y := e.attempts[a], e.attempts[b]
		return cmp.Or(x.ended.Compare(y.ended), cmp.Compare(x.order, y.order))
	})
	for _, id := range counted {
		if !e.attempts[id].ended.IsZero() {
			delete(e.attempts, id)
			return true
		}
	}
	return false
}

// Sample replaces the figures of an attempt that was attached. Without a time of their own
// they have that of the ones before, and are not shown if there are none.
func (e *Exporter) Sample(id ID, s job.Sample) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attempts[id]; a != nil {
		if s.Time.IsZero() {
			s.Time = a.sample.Time
		}
		a.sample = s
	}
}

// Left says that an attempt has ended, or that its agent has gone. Its figures go five
// minutes later, unless it attaches again.
func (e *Exporter) Left(id ID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.attempts[id]; a != nil && a.ended.IsZero() {
		a.ended = time.Now()
	}
}

// expire drops what ended long ago. e.mu is held.
func (e *Exporter) expire(now time.Time) {
	for id, a := range e.attempts {
		if !a.ended.IsZero() && now.Sub(a.ended) >= keepEnded {
			delete(e.attempts, id)
		}
	}
}

// seconds1970 is a time as Prometheus takes it. An agent's clock may show any year, and of
// most of them the nanoseconds are more than an int64 holds.
func seconds1970(t time.Time) float64 { return float64(t.Unix()) + float64(t.Nanosecond())/1e9 }

// Describe is for the registry.
func (e *Exporter) Describe(to chan<- *prometheus.Desc) {
	for _, m := range metrics {
		to <- m.desc
	}
	to <- lastSample
}

// Collect is for the registry.
func (e *Exporter) Collect(to chan<- prometheus.Metric) {
	e.mu.Lock()
	e.expire(time.Now())
	shown := map[ID]job.Sample{}
	for id, a := range e.attempts {
		if !a.sample.Time.IsZero() {
			shown[id] = a.sample
		}
	}
	e.mu.Unlock()
	for id, s := range shown {
		for _, m := range metrics {
			for _, v := range m.values(&s.Usage) {
				labels := append([]string{id.Namespace, id.Job, id.Attempt}, v.labels...)
				to <- prometheus.MustNewConstMetric(m.desc, m.kind, v.value, labels...)
			}
		}
		to <- prometheus.MustNewConstMetric(lastSample, prometheus.GaugeValue, seconds1970(s.Time), id.Namespace, id.Job, id.Attempt)
	}
}
