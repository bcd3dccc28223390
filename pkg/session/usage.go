package session

import (
	"slices"
	"sync"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/output"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// usageHistory keeps the samples of a job's usage: those of the latest attempt, which the summary draws, and those of
// any attempt that were not written as events yet.
type usageHistory struct {
	// events is where samples are written to; nil: nowhere.
	events *output.Events

	mu      sync.Mutex
	attempt string
	known   hodeipb.Series
	// untold are the samples that were not written yet, the oldest attempt first. However slow the reader is, there are
	// at most maxUntold attempts, and a Series bounds the samples of each.
	untold  []*attemptSeries
	writing sync.Mutex // is held while events are written, so that they keep their order
}

// attemptSeries are samples of one attempt.
type attemptSeries struct {
	attempt string
	hodeipb.Series
}

// maxUntold bounds the attempts whose samples wait for a slow reader. More than these do not end while it reads a line.
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

// tell writes the samples that were not written yet.
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

// of returns the samples of an attempt, the oldest first. "" means the latest attempt; of another one none are kept.
func (h *usageHistory) of(attempt string) []job.Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	if attempt != "" && attempt != h.attempt {
		return nil
	}
	return wire.Samples(h.known.All())
}
