package faults

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/contract"
)

// leeway is what a busy machine may add to a bound of the design.
const leeway = 2 * time.Second

// TestBytes compares by checksum what jobs of all sorts print with what a
// coordinator has stored, where the first two connections are torn.
func TestBytes(t *testing.T) {
	lineBytes := 256 << 20
	if long || os.Getenv("CI") == "true" { // it takes 7 s on two cores
		lineBytes = 1 << 30
	}
	tests := []struct {
		name   string
		how    string
		print  pattern
		merged bool
	}{
		{"random", prints, pattern{"random", 64 << 20}, false},
		{"NULs", prints, pattern{"zeros", 16 << 20}, false},
		{"progress bars", prints, pattern{"progress", 100_000}, false},
		{"one line", prints, pattern{"line", lineBytes}, false},
		{"invalid UTF-8", prints, pattern{"invalid", 1_000_000}, false},
		{"no newline at the end", prints, pattern{"unended", 1000}, false},
		{"nothing", prints, pattern{"nothing", 0}, false},
		{"short lines", prints, pattern{"lines", 10_000_000}, false},
		{"both streams", prints, pattern{"both", 32 << 20}, false},
		{"both streams in one pipe", prints, pattern{"turns", 50_000}, true},
		{"50 ms", ticks, pattern{"steps", 50}, false},
		{"by a process left behind", orphans, pattern{"both", 1 << 20}, false},
		{"pipe held by a process left behind", holds, pattern{"both", 1 << 20}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seed := newSeed(t)
			rnd := rand.New(rand.NewPCG(seed, 1))
			a := newAttempt(t)
			f := newFollower()
			l := listen(t)
			a.serve(f, l, false)
			p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
				if p.links.Load() > 2 {
					return nil
				}
				return &fault{kind: torn, bytes: 4<<10 + rnd.Int64N(4<<20)}
			})
			a.server, a.merged = p.Addr().String(), tt.merged
			a.startAgent()
			began := time.Now()
			a.launch(tt.how, tt.print)
			r := f.exited(t)
			a.launcher.exits(t)
			if waited := time.Since(r.Finished.AsTime()); tt.how == holds && waited > 2*time.Second+leeway {
				t.Errorf("the launcher ended %s after the command", waited)
			}
			a.ends()
			f.whole(t, tt.print, tt.merged)
			if r.Code != 0 || r.Cause != contract.CauseCompleted || r.PipesHeld != (tt.how == holds) {
				t.Errorf("exit record %v", r)
			}
			t.Logf("%d bytes in %.1fs; %s", r.End, time.Since(began).Seconds(), p)
		})
	}
}
