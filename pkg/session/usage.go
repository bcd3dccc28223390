package session

import (
	"slices"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// usageHistory is what a session knows of the usage of its job's latest attempt: the
// summary draws it, and events tell it if they were asked for.
type usageHistory struct {
	// events is where samples are told; nil: nowhere.
	events *output.Events

	mu      sync.Mutex
	attempt string
	known   hodeipb.Series
	// untold is bounded, however slow the reader is: in each attempt's samples, and in
	// the attempts, oldest first.
	untold  []*attemptSeries
	writing sync.Mutex // of events: they come in their order
}

// attemptSeries are samples of one attempt.
type attemptSeries struct {
	attempt string
	hodeipb.Series
}

// maxUntold is how many attempts whose samples nobody reads are kept: more than one that
// ends and its retries make while a reader that is slow writes a line.
const maxUntold = 8

// add takes a sample.
func (h *usageHistory) add(attempt string, m *hodeipb.Metrics) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != h.attempt {
		h.attempt, h.known = attempt, hodeipb.Series{}
	}
	h.known.Add(m, false)
	if h.events == nil {
		return
	}
	i := slices.IndexFunc(h.untold, func(s *attemptSeries) bool { return s.attempt == attempt })
	if i < 0 {
		if len(h.untold) == maxUntold {
			h.untold = slices.Delete(h.untold, 0, 1)
		}
		i, h.untold = len(h.untold), append(h.untold, &attemptSeries{attempt: attempt})
	}
	h.untold[i].Add(m, false)
}

// tell writes what was not told yet.
func (h *usageHistory) tell() error {
	if h.events == nil {
		return nil
	}
	h.writing.Lock()
	defer h.writing.Unlock()
	h.mu.Lock()
	untold := h.untold
	h.untold = nil
	h.mu.Unlock()
	for _, s := range untold {
		for _, m := range s.All() {
			if err := h.events.Usage(s.attempt, wire.Sample(m)); err != nil {
				return err
			}
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
	return wire.Samples(h.known.All())
}
