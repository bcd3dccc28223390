package agent

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const size = 256 << 10
	tests := []struct {
		name  string
		reads []int // what comes after the prompt ones
		want  time.Duration
	}{
		{"little comes", []int{100, 200, 100, 100}, maxRest},
		{"little comes for longer", []int{100, 200, 100, 100, 100, 100}, maxRest},
		{"not yet for long", []int{100, 100}, 2 * minRest},
		{"what comes meanwhile fills an eighth", []int{100, 100, size / 8, size / 8}, 2 * minRest},
		{"more than half a pipe", []int{100, 100, 100, 100, size}, maxRest / 2},
		{"more and more", []int{100, 100, 100, 100, size, size, size}, minRest},
		{"little, then much", []int{100, 100, 100, 100, size, size, size, size}, 0},
		{"much", []int{size, size, size}, 0},
		{"much, and the reader keeps up", []int{size / 4, size / 4, size / 4}, 0},
		{"nothing was there", []int{0}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPace(size)
			for i := range promptReads {
				if rest := p.rest(100); rest != 0 {
					t.Fatalf("rest of %s after read %d, want none", rest, i+1)
				}
			}
			var rest time.Duration
			for _, n := range tt.reads {
				rest = p.rest(n)
			}
			if rest != tt.want {
				t.Errorf("rest of %s, want %s", rest, tt.want)
			}
			p.waited(maxRest) // as long as a line is late
			if rest := p.rest(100); rest == 0 {
				t.Error("no rest after a short wait")
			}
			p.waited(time.Second)
			if rest := p.rest(100); rest != 0 {
				t.Errorf("rest of %s after a pause, want none", rest)
			}
		})
	}
}
