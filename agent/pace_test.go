package agent

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const (
		size = 512 << 10
		us   = time.Microsecond
	)
	type read struct {
		after time.Duration // since the read before
		n     int
	}
	tests := []struct {
		name  string
		reads []read // what comes after the prompt ones
		want  time.Duration
	}{
		{"little comes", []read{{us, 100}}, maxRest},
		{"little comes for longer", []read{{us, 100}, {maxRest, 200}, {maxRest, 100}}, maxRest},
		{"a quarter of the pipe in 400 us", []read{{400 * us, size / 4}}, 400 * us},
		{"half as much", []read{{400 * us, size / 8}}, 800 * us},
		{"little, then much", []read{{maxRest, 100}, {500 * us, size / 4}}, 500 * us},
		{"more than a read takes", []read{{maxRest, readBytes}}, 0},
		{"what was left of it", []read{{900 * us, readBytes}, {100 * us, readBytes / 2}}, 1000 * us * (size / 4) / (readBytes * 3 / 2)},
		{"too much for a rest", []read{{200 * us, readBytes}, {20 * us, readBytes - 1}}, 0},
		{"nothing was there", []read{{us, 0}}, 0},
		{"a clock that stands still", []read{{0, 100}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPace(size)
			now := time.Now()
			for i := range promptReads {
				if rest := p.rest(100, now); rest != 0 {
					t.Fatalf("rest of %s after read %d, want none", rest, i+1)
				}
			}
			var rest time.Duration
			for _, r := range tt.reads {
				now = now.Add(r.after)
				rest = p.rest(r.n, now)
			}
			if rest != tt.want {
				t.Errorf("rest of %s, want %s", rest, tt.want)
			}
			p.waited(maxRest) // as long as a line is late
			if rest := p.rest(100, now.Add(maxRest)); rest == 0 {
				t.Error("no rest after a short wait")
			}
			p.waited(time.Second)
			if rest := p.rest(100, now.Add(time.Second)); rest != 0 {
				t.Errorf("rest of %s after a pause, want none", rest)
			}
		})
	}
}
