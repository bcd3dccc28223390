package report

import (
	"math"
	"time"
)

// axisKind is what a vertical axis counts.
type axisKind int

const (
	coresAxis  axisKind = iota
	memoryAxis          // bytes, in binary units
	bytesAxis           // bytes, in decimal units
)

// tick is a mark of an axis.
type tick struct {
	at    float64
	label string
}

// maxValueTicks and maxTimeTicks are as many as are read at a glance, and have room
// for their labels.
const maxValueTicks, maxTimeTicks = 5, 6

// least is the top of an axis whose curve is flat at 0 or near it, so that noise is
// not drawn as mountains.
var least = map[axisKind]float64{coresAxis: 0.1, memoryAxis: 1 << 20, bytesAxis: 1000}

// valueTicks are those of an axis from 0 to a round number that is not below top.
func valueTicks(top float64, kind axisKind) []tick {
	top = max(top, least[kind])
	step := roundStep(top / (maxValueTicks - 1))
	label := number
	switch kind {
	case memoryAxis:
		step = math.Exp2(math.Ceil(math.Log2(top / (maxValueTicks - 1))))
		label = func(v float64) string { return binary(uint64(min(v, math.MaxInt64))) }
	case bytesAxis:
		label = decimal
	}
	n := int(math.Ceil(top/step - 1e-9)) // at most maxValueTicks, whatever top is
	var ticks []tick
	for i := 0; i <= n; i++ {
		v := float64(i) * step
		ticks = append(ticks, tick{v, label(v)})
	}
	ticks[0].label = "0"
	return ticks
}

// roundStep is 1, 2 or 5 times a power of ten, not below v.
func roundStep(v float64) float64 {
	power := math.Pow10(int(math.Floor(math.Log10(v))))
	for _, m := range []float64{1, 2, 5} {
		if m*power >= v*(1-1e-9) {
			return m * power
		}
	}
	return 10 * power
}

// timeSteps are the distances that a clock's reader takes for round. Beyond them days
// are doubled.
var timeSteps = []time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// timeTicks are those of an axis from 0 to span, which is above 0.
func timeTicks(span time.Duration) []tick {
	step := timeSteps[len(timeSteps)-1]
	for step < span/maxTimeTicks {
		step *= 2 // at most 2^62 ns of span: no overflow before it is enough
	}
	for _, s := range timeSteps {
		if s >= span/maxTimeTicks {
			step = min(step, s)
			break
		}
	}
	var ticks []tick
	for at := time.Duration(0); at <= span && at >= 0; at += step {
		ticks = append(ticks, tick{float64(at), clock(at, span)})
	}
	return ticks
}
