package ui

import (
	"math"
	"strings"
)

// bars are the heights of a sparkline.
var bars = []rune("▁▂▃▄▅▆▇█")

// Spark draws values as a line of bars, one a value, from 0 to the highest of them.
// What is no number, infinite or below 0 is drawn as 0.
func Spark(values []float64) string {
	highest := 0.0
	for _, v := range values {
		if drawable(v) {
			highest = max(highest, v)
		}
	}
	var b strings.Builder
	for _, v := range values {
		bar := 0
		if drawable(v) {
			bar = min(int(v/highest*float64(len(bars))), len(bars)-1)
		}
		b.WriteRune(bars[bar])
	}
	return b.String()
}

func drawable(v float64) bool { return v > 0 && v <= math.MaxFloat64 }
