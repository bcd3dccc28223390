package advice

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// headroom is how much more than the highest peak is advised, in percent. Too much
	// costs room on a node, too little costs the run: peaks of one command differ by
	// some percent from run to run, with the order of its threads and what the page
	// cache held.
	headroom = 20
	// nearLimit is the part of the limit from which on a peak was cut off by it.
	nearLimit = 0.95
	// ownShare is the part of such a peak below which it was the page cache that filled
	// the limit: what the processes hold themselves fits with headroom.
	ownShare = 0.8
	// killedFactor is how much more than the limit of a run that was killed is advised:
	// what it needs is not known, and doubling finds it in the fewest runs.
	killedFactor = 2
	// minMemory is the least that is advised: a container whose command is true peaks at
	// 4 MiB, runtime and launcher included, and below four times that there is nothing
	// to be saved that could be felt.
	minMemory = 16 << 20
)

// memory advises on memory: one figure, for request and limit (a job that uses more
// than it asked for is the first to be killed on a full node).
func memory(runs []*measure, spec *job.Spec) *Resource {
	need, reason := memoryNeed(extremes(runs))
	if reason == "" {
		return nil
	}
	r := asked(spec.Resources().Memory)
	r.Reason = reason
	r.Request = *resource.NewQuantity(int64(roundMemory(max(need, minMemory))), resource.BinarySI)
	completed := slices.ContainsFunc(runs, func(m *measure) bool { return m.completed && m.peak > 0 })
	if !completed {
		r.keep()
	}
	limit := r.Request.DeepCopy()
	if !completed && r.AskedLimit != nil && limit.Cmp(*r.AskedLimit) < 0 {
		limit = r.AskedLimit.DeepCopy()
	}
	r.Limit = &limit
	return r
}

// extremes are the run that took the most memory of those that were not killed for want of it, and
// the one that was killed with the most; nil: there is none.
func extremes(runs []*measure) (top, killed *measure) {
	for _, m := range runs {
		switch {
		case m.killed:
			if killed == nil || m.bound() > killed.bound() {
				killed = m
			}
		case m.peak > 0 && (top == nil || m.peak > top.peak):
			top = m
		}
	}
	return top, killed
}

// memoryNeed is how many bytes a job needs by its extremes, and why; "": that is not known.
func memoryNeed(top, killed *measure) (need uint64, reason string) {
	wasKilled := killed != nil && killed.bound() > 0
	switch {
	case wasKilled && (top == nil || top.peak <= killed.bound()):
		return times(killed.bound(), killedFactor), fmt.Sprintf("%s was killed for want of memory at %s: "+
			"what it needs is more than that, and not known; twice as much, rounded up", killed.name, job.MemorySize(killed.bound()))
	case top == nil:
		return 0, ""
	case top.filled() && top.own > 0 && float64(top.own) < ownShare*float64(top.peak):
		return top.limit, fmt.Sprintf("%s filled its limit of %s and was not killed: at most %s of it was its processes' own, "+
			"the rest is files that the kernel keeps in memory as long as there is room; it stays",
			top.name, job.MemorySize(top.limit), job.MemorySize(top.own))
	}
	reason = fmt.Sprintf("the highest peak, %s in %s, and %d %% more, rounded up", job.MemorySize(top.peak), top.name, headroom)
	if top.filled() {
		reason += "; it was cut off by its limit"
	}
	if top.sampled {
		reason += "; it is the highest sample, between which there may have been more"
	}
	if wasKilled {
		reason += fmt.Sprintf("; %s was killed at %s", killed.name, job.MemorySize(killed.bound()))
	}
	return top.peak + top.peak/100*headroom, reason
}

// filled reports whether a run came near its limit.
func (m *measure) filled() bool { return m.limit > 0 && float64(m.peak) >= nearLimit*float64(m.limit) }

// bound is what a run that was killed needs more than.
func (m *measure) bound() uint64 { return cmp.Or(m.limit, m.peak) }

// roundMemory rounds up to an eighth of the power of two below: 812Mi and 20 percent
// is 1Gi.
func roundMemory(b uint64) uint64 {
	step := uint64(1) << max(20, bits.Len64(b)-4)
	if b > math.MaxInt64-step {
		return math.MaxInt64
	}
	return (b + step - 1) / step * step
}

// times multiplies, up to the greatest quantity.
func times(a, n uint64) uint64 {
	if a > math.MaxInt64/n {
		return math.MaxInt64
	}
	return a * n
}
