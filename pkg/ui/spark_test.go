package ui

import (
	"math"
	"testing"
)

func TestSpark(t *testing.T) {
	for _, test := range []struct {
		name   string
		values []float64
		want   string
	}{
		{"none", nil, ""},
		{"all zero", []float64{0, 0}, "▁▁"},
		{"one", []float64{5}, "█"},
		{"every bar", []float64{0, 1, 2, 3, 4, 5, 6, 7, 8}, "▁▂▃▄▅▆▇██"},
		{"below zero", []float64{-1, 1}, "▁█"},
		{"no number", []float64{math.NaN(), 1}, "▁█"},
		{"the greatest", []float64{math.MaxFloat64, math.MaxFloat64 / 2}, "█▅"},
		{"infinite", []float64{math.Inf(1), 1}, "▁█"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Spark(test.values); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
