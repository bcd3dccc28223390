package advice

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/hodei-jobs/hodei/pkg/job"
)

const (
	// throttledFactor is how much more than a limit that has hurt is advised, as for
	// memory.
	throttledFactor = 2
	// minMillis is the least that is advised: what an idle agent asks for itself.
	minMillis = 10
)

// cpu advises on CPU. A request is a share of a full node: one that is too small makes
// a job slower there, and ends nothing; so it is the typical run's, without headroom.
func cpu(runs []*measure, spec *job.Spec) *Resource {
	all := slices.DeleteFunc(slices.Clone(runs), func(m *measure) bool { return m.rate < 0 })
	if len(all) == 0 {
		return nil
	}
	// One that failed early has not done its work.
	done := slices.DeleteFunc(slices.Clone(all), func(m *measure) bool { return !m.completed })
	if len(done) > 0 {
		all = done
	}
	slices.SortFunc(all, func(a, b *measure) int { return cmp.Compare(a.rate, b.rate) })
	typical := all[len(all)/2]
	r := asked(spec.Resources().CPU)
	r.Request = millis(typical.rate * 1000)
	r.Reason = fmt.Sprintf("on average it used %s cores", cores(typical.rate))
	if typical.quantile {
		r.Reason = fmt.Sprintf("95 %% of the time it used at most %s cores", cores(typical.rate))
	}
	switch {
	case len(all) > 2:
		r.Reason += fmt.Sprintf(", in the median of %d attempts", len(all))
	default:
		r.Reason += ", in " + typical.name
	}
	r.Reason += ", rounded up"
	if len(done) == 0 {
		r.keep()
	}
	r.limit(runs, all)
	return r
}

// limit advises on the limit: as it is, unless it has hurt ([usage.Throttled]).
func (r *Resource) limit(runs, all []*measure) {
	hurt := func(m *measure) float64 {
		if r.AskedLimit != nil && m.cpuLimit > 0 && int64(m.cpuLimit) < r.AskedLimit.MilliValue() {
			return 0 // it was raised since
		}
		return m.hurt
	}
	worst := slices.MaxFunc(runs, func(a, b *measure) int { return cmp.Compare(hurt(a), hurt(b)) })
	highest := slices.MaxFunc(all, func(a, b *measure) int { return cmp.Compare(a.highest, b.highest) })
	switch {
	case r.AskedLimit == nil:
		room := millis(math.Ceil(highest.highest) * 1000)
		if room.Cmp(r.Request) < 0 {
			room = r.Request.DeepCopy()
		}
		r.Room = &room
	case hurt(worst) > 0:
		limit := millis(float64(r.AskedLimit.MilliValue()) * throttledFactor)
		r.Limit = &limit
		r.LimitReason = fmt.Sprintf("%s was held back by its limit in %.0f %% of the periods: "+
			"what it would use is more than was measured, and not known; twice as much", worst.name, worst.hurt*100)
	case r.AskedLimit.Cmp(r.Request) < 0: // it has not hurt, and can't be below the request
		limit := r.AskedLimit.DeepCopy()
		r.Request, r.Limit = limit.DeepCopy(), &limit
		r.Reason += "; not more than its limit"
	default:
		limit := r.AskedLimit.DeepCopy()
		r.Limit = &limit
	}
}

// millis rounds thousandths of a core up, to two digits or so.
func millis(m float64) resource.Quantity {
	m = min(max(m, minMillis), 1e9) // more cores than any machine has
	step := 10.0
	switch {
	case m > 10000:
		step = 1000
	case m > 1000:
		step = 100
	case m > 200:
		step = 50
	}
	return *resource.NewMilliQuantity(int64(math.Ceil(m/step-1e-9)*step), resource.DecimalSI)
}

// cores writes a number of cores.
func cores(n float64) string {
	switch {
	case n < 0.1:
		return fmt.Sprintf("%.3f", n)
	case n < 10:
		return fmt.Sprintf("%.2f", n)
	}
	return fmt.Sprintf("%.0f", n)
}
