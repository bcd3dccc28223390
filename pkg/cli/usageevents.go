package cli

import (
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/coordinator/logstore"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// followedInterval is between two samples of a job that is followed: short enough
	// for a curve of a run of seconds. An agent's sample costs some microseconds.
	followedInterval = time.Second
	// unwatchedInterval is between those of a job that nobody looks at: its store or its
	// summary is to have them later.
	unwatchedInterval = 10 * time.Second
	// leastInterval is the agents' own bound.
	leastInterval = 100 * time.Millisecond
)

// usageHistory is what a session knows of the usage of its job's latest attempt: the
// summary draws it, and events tell it if they were asked for.
type usageHistory struct {
	// events is where samples are told; nil: nowhere.
	events *eventWriter

	mu      sync.Mutex
	attempt string
	known   hodeipb.Series
	untold  hodeipb.Series // bounded, however slow the reader is
	writing sync.Mutex     // of events: they come in their order
}

// add takes a sample.
func (h *usageHistory) add(attempt string, m *hodeipb.Metrics) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != h.attempt {
		h.attempt, h.known = attempt, hodeipb.Series{}
	}
	h.known.Add(m, false)
	if h.events != nil {
		h.untold.Add(m, false)
	}
}

// tell writes what was not told yet.
func (h *usageHistory) tell() error {
	if h.events == nil {
		return nil
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	attempt, untold := h.attempt, h.untold.All()
	h.untold = hodeipb.Series{}
	h.mu.Unlock()
	for _, m := range untold {
		if err := h.events.usage(attempt, coordinator.Sample(m)); err != nil {
			return err
		}
	}
	return nil
}

// of gives the samples of an attempt, "" is the latest, oldest first.
func (h *usageHistory) of(attempt string) []job.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != "" && attempt != h.attempt {
		return nil
	}
	return samplesOf(h.known.All())
}

func samplesOf(metrics []*hodeipb.Metrics) []job.Sample {
	samples := make([]job.Sample, 0, len(metrics))
	for _, m := range metrics {
		samples = append(samples, coordinator.Sample(m))
	}
	return samples
}

// storedSamples are those that the store has of an attempt; none if it can't be read.
func storedSamples(store *openedStore, k logstore.Key) []job.Sample {
	metrics, _ := coordinator.Samples(store.Store, k) // those before the damage
	return samplesOf(metrics)
}
