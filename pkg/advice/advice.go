// Package advice says what a job should ask for, from what its past runs have used.
// Start with [From]. It looks nothing up and applies nothing; [Advice.Flags] and
// [Advice.Patch] are what can be typed and applied.
package advice

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/usage"
)

// fewAttempts is how many attempts are too few for their highest to be trusted: with
// three, chances are 3 in 4 that the next one stays below it, were they all alike.
const fewAttempts = 3

// Advice is what to ask for, and why. GPUs and disk are left as they are.
type Advice struct {
	// Attempts is of how many something was measured, of Of; a job that was tried again
	// has several.
	Attempts int `json:"attempts"`
	Of       int `json:"of"`
	// Memory and CPU are nil where nothing was measured of them.
	Memory *Resource `json:"memory,omitempty"`
	CPU    *Resource `json:"cpu,omitempty"`
	// Notes are sentences about all of it.
	Notes []string `json:"notes,omitempty"`
}

// Resource is the advice on one resource.
type Resource struct {
	// Asked and AskedLimit are those of the job that is advised on; nil: none.
	Asked      *resource.Quantity `json:"asked,omitempty"`
	AskedLimit *resource.Quantity `json:"askedLimit,omitempty"`
	// Request is what to ask for, and Limit the limit to go with it; nil: none.
	Request resource.Quantity  `json:"request"`
	Limit   *resource.Quantity `json:"limit,omitempty"`
	// Room is a limit that would not have held back any of the runs, where they had
	// none: a request of hodei's is the limit too unless another is named. Else nil.
	Room *resource.Quantity `json:"room,omitempty"`
	// Reason is why, in words.
	Reason string `json:"reason"`
	// LimitReason is why Limit is not what it was; empty: it is.
	LimitReason string `json:"limitReason,omitempty"`
}

// Differs tells that the advice is not what was asked for already.
func (r *Resource) Differs() bool {
	same := func(a, b *resource.Quantity) bool {
		return a == nil && b == nil || a != nil && b != nil && a.Cmp(*b) == 0
	}
	return !same(&r.Request, r.Asked) || !same(r.Limit, r.AskedLimit)
}

// From advises on a job that asked for so much, from the past attempts of its image and
// command, its own and other jobs'. It is nil where nothing was measured in any of them.
func From(asked *job.Spec, runs []job.Run) *Advice {
	a := &Advice{Of: len(runs)}
	var measured []*measure
	for i := range runs {
		if m := newMeasure(&runs[i]); m != nil {
			measured = append(measured, m)
		}
	}
	if a.Attempts = len(measured); a.Attempts == 0 {
		return nil
	}
	a.Memory, a.CPU = memory(measured, asked), cpu(measured, asked)
	if a.Memory == nil && a.CPU == nil {
		return nil
	}
	if a.CPU == nil && slices.ContainsFunc(measured, func(m *measure) bool { return m.short }) {
		a.Notes = append(a.Notes, "nothing on CPU: what was measured is too short, and mostly the start of the container")
	}
	if a.Attempts < fewAttempts {
		a.Notes = append(a.Notes, fmt.Sprintf("%s: the next one may need more; ask again after %d",
			plural(a.Attempts, "attempt is little", "attempts are few"), fewAttempts))
	}
	if lost := a.Of - a.Attempts; lost > 0 {
		a.Notes = append(a.Notes, fmt.Sprintf("of %s nothing was measured", plural(lost, "other attempt", "other attempts")))
	}
	return a
}

func plural(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}

// asked begins the advice on a resource with what the job asked for.
func asked(b job.Bounds) *Resource {
	return &Resource{Asked: b.Scheduled(), AskedLimit: b.Limit}
}

// keep raises the request to what was asked for: attempts of which none has completed
// tell what was too little, and not what is enough.
func (r *Resource) keep() {
	r.Reason += "; none of them completed"
	if r.Asked != nil && r.Request.Cmp(*r.Asked) < 0 {
		r.Request = r.Asked.DeepCopy()
		r.Reason += ", so not less than was asked for"
	}
}

// measure is what is known of one attempt.
type measure struct {
	run       *job.Run
	name      string
	completed bool

	peak    uint64 // of memory, in bytes; 0: not known
	sampled bool   // the kernel kept no peak
	own     uint64 // of it the processes' and the kernel's own, at the most; 0: not known
	limit   uint64 // of memory; 0: none
	killed  bool   // by the OOM killer, or a part of it, at the limit

	rate     float64 // of CPU that a request has to cover, in cores; below 0: not known
	short    bool    // CPU was counted, and the run is too short for a rate
	quantile bool    // it is the 95th percentile; else the mean
	highest  float64 // rate between two samples
	hurt     float64 // share of the periods in which its limit held it back; 0: that has not hurt
	cpuLimit uint64  // in thousandths of a core; 0: not known
}

// newMeasure takes what counts of a run; nil if nothing was measured, or nothing of its
// command, which never ran.
func newMeasure(r *job.Run) *measure {
	if r.Outcome != nil && r.Outcome.NeverRan() {
		return nil
	}
	m := &measure{run: r, name: r.Attempt, rate: -1}
	var last *job.Usage
	if n := len(r.Samples); n > 0 {
		last = &r.Samples[n-1].Usage
	}
	if o := r.Outcome; o != nil {
		m.completed, m.killed = o.Succeeded(), o.Cause == job.OOMKilled && (o.Usage == nil || o.Usage.ReachedLimit())
		if o.Usage != nil {
			last = o.Usage
		}
	}
	if last == nil {
		return nil
	}
	m.memory(last)
	m.cpu(last)
	if m.peak == 0 && m.rate < 0 && !m.killed {
		return nil
	}
	return m
}

func (m *measure) memory(last *job.Usage) {
	if last.Memory.Limit != nil {
		m.limit = min(*last.Memory.Limit, math.MaxInt64)
	}
	if k := last.Memory.OOMKills; k != nil && *k > 0 && last.ReachedLimit() {
		m.killed = true
	}
	see := func(u *job.MemoryUsage) {
		for _, n := range []*uint64{u.Current, u.Peak} {
			if n != nil {
				m.peak = max(m.peak, min(*n, math.MaxInt64)) // as much as a quantity holds
			}
		}
		if u.Anon != nil && u.Kernel != nil {
			m.own = max(m.own, min(*u.Anon, math.MaxInt64)+min(*u.Kernel, math.MaxInt64))
		}
	}
	for i := range m.run.Samples {
		see(&m.run.Samples[i].Usage.Memory)
	}
	see(&last.Memory)
	m.sampled = last.Memory.Peak == nil || last.Memory.PeakSampled
}

// minSteps is between how many samples a 95th percentile means something: of fewer it
// is the highest of them.
const minSteps = 20

func (m *measure) cpu(last *job.Usage) {
	if share, hurt := usage.Throttled(&last.CPU); hurt {
		m.hurt = share
	}
	if last.CPU.LimitMillis != nil {
		m.cpuLimit = *last.CPU.LimitMillis
	}
	type step struct{ rate, seconds float64 }
	var steps []step
	var whole float64
	for i := 1; i < len(m.run.Samples); i++ {
		a, b := &m.run.Samples[i-1], &m.run.Samples[i]
		seconds := b.Time.Sub(a.Time).Seconds()
		if a.Usage.CPU.Total == nil || b.Usage.CPU.Total == nil || *b.Usage.CPU.Total < *a.Usage.CPU.Total || seconds <= 0 {
			continue
		}
		s := step{(*b.Usage.CPU.Total - *a.Usage.CPU.Total).Seconds() / seconds, seconds}
		steps = append(steps, s)
		whole += seconds
		m.highest = max(m.highest, s.rate)
	}
	if mean := m.run.MeanCores(); mean != nil {
		m.rate = *mean
		m.highest = max(m.highest, m.rate)
	}
	m.short = m.rate < 0 && last.CPU.Total != nil
	if len(steps) < minSteps {
		return
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.rate, b.rate) })
	below := 0.0
	for _, s := range steps {
		if below += s.seconds; below >= 0.95*whole {
			m.rate, m.quantile = s.rate, true
			return
		}
	}
}
