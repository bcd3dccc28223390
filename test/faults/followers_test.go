package faults

import (
	"context"
	"sync"
	"testing"
	"time"
)

// peakBytes is the design's bound of the agent's resident memory.
const peakBytes = 32 << 20

// gated is a follower that stores nothing before open is called.
func gated() (f *follower, open func()) {
	f = newFollower()
	gate := make(chan struct{})
	f.at = func(ctx context.Context, m moment, _ int) error {
		if m != outputArrived {
			return nil
		}
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return f, sync.OnceFunc(func() { close(gate) })
}

// watchPeak reads the agent's peak when all output has passed, and the bound of it
// is checked at the end of the test.
func (a *attempt) watchPeak(f *follower) {
	a.t.Helper()
	var peak int
	var err error
	next := f.at
	f.at = func(ctx context.Context, m moment, bytes int) error {
		if m == exitArrived {
			peak, err = a.agent.peakBytes()
		}
		if next == nil {
			return nil
		}
		return next(ctx, m, bytes)
	}
	a.t.Cleanup(func() {
		a.t.Logf("the agent's peak is %.1f MiB", float64(peak)/(1<<20))
		if err != nil || peak == 0 || peak > peakBytes {
			a.t.Errorf("want at most %d MiB; %v", peakBytes>>20, err)
		}
	})
}

// TestMemory lets much output pass: to one coordinator, to four, over a path that is
// so slow that the agent compresses, and to one that stores nothing before the job
// has ended.
func TestMemory(t *testing.T) {
	p, text := pattern{"both", 256 << 20}, pattern{"lines", 10_000_000}
	if long {
		p.size, text.size = 1<<30, 100_000_000
	}
	tests := []struct {
		name      string
		print     pattern
		followers int
	}{
		{"one follower", p, 1},
		{"four followers", p, 4},
		{"four followers, byte by byte", pattern{"bytes", 2 << 20}, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t)
			a.startAgent()
			all := make([]*follower, tt.followers)
			for i := range all {
				all[i] = newFollower()
				if i == 0 {
					a.watchPeak(all[0])
				}
				a.attach(all[i], false)
			}
			a.launch(prints, tt.print)
			for _, f := range all {
				f.exited(t)
			}
			a.ends()
			for _, f := range all {
				f.whole(t, tt.print, false)
			}
		})
	}
	t.Run("slow path", func(t *testing.T) {
		t.Parallel()
		a := newAttempt(t)
		f, l := newFollower(), listen(t)
		a.watchPeak(f)
		a.serve(f, l, false)
		slow := newProxy(t, l.Addr().String(), func(*proxy) *fault { return nil })
		slow.bytesPerSecond.Store(10 << 20)
		a.server = slow.Addr().String()
		a.startAgent()
		a.launch(prints, text)
		f.exited(t)
		a.ends()
		f.whole(t, text, false)
		if f.zstd == 0 {
			t.Error("no batch was compressed")
		}
	})
	t.Run("stalled follower", func(t *testing.T) {
		t.Parallel()
		a := newAttempt(t)
		a.spoolBytes = 2 << 30 // all of it
		a.startAgent()
		f, open := gated()
		a.watchPeak(f)
		a.attach(f, false)
		a.launch(prints, p)
		a.launcher.exits(t)
		open()
		f.exited(t)
		a.ends()
		f.whole(t, p, false)
	})
}

// TestSlowFollower has one coordinator that stores 1 KiB/s beside a fast one: that
// one has everything while the slow one has next to nothing.
func TestSlowFollower(t *testing.T) {
	const bytesPerSecond = 1 << 10
	tests := []struct {
		name       string
		spoolBytes int64
	}{
		{"within the cap", 1 << 30},
		{"beyond the cap", 2 << 20},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t)
			a.spoolBytes = tt.spoolBytes
			a.startAgent()
			slow, fast := newFollower(), newFollower()
			slow.at = func(ctx context.Context, m moment, bytes int) error {
				if m != outputArrived {
					return nil
				}
				select {
				case <-time.After(time.Duration(bytes) * time.Second / bytesPerSecond):
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			a.watchPeak(fast)
			hangUp := a.attach(slow, false).Close
			a.attach(fast, false)
			p := pattern{"both", 64 << 20}
			a.launch(prints, p)
			r := fast.exited(t)
			a.launcher.exits(t)
			hangUp()
			a.ends()
			fast.whole(t, p, false)
			if most := uint64(bytesPerSecond*duration(r).Seconds()) + 64<<10; slow.end > most {
				t.Errorf("the slow follower has %d bytes after %s, it can't have more than %d", slow.end, duration(r), most)
			}
			t.Logf("the job took %.1fs", duration(r).Seconds())
		})
	}
}

// blocked is a job that waits for its only follower.
type blocked struct {
	*attempt
	p             pattern
	watcher, only *follower
	open, hangUp  func()
}

func newBlocked(t *testing.T) *blocked {
	t.Helper()
	b := &blocked{attempt: newAttempt(t), p: pattern{"both", 8 << 20}, watcher: newFollower()}
	b.spoolBytes = 1 << 20
	b.startAgent()
	b.attach(b.watcher, true)
	b.only, b.open = gated()
	b.hangUp = b.attach(b.only, false).Close
	b.launch(prints, b.p)
	b.watcher.until(t, "a blocked job", func() bool { return b.watcher.blocked })
	return b
}

// goesOn wants the job to end and f to have all of it.
func (b *blocked) goesOn(f *follower) {
	b.t.Helper()
	b.watcher.until(b.t, "a job that goes on", func() bool { return !b.watcher.blocked })
	f.exited(b.t)
	b.watcher.exited(b.t)
	b.ends()
	f.whole(b.t, b.p, false)
}

// TestBlock holds that a job waits when the spool is full of what nobody has
// stored, and goes on without a gap.
func TestBlock(t *testing.T) {
	t.Run("the follower catches up", func(t *testing.T) {
		t.Parallel()
		b := newBlocked(t)
		b.open()
		b.goesOn(b.only)
	})
	t.Run("another follower comes", func(t *testing.T) {
		t.Parallel()
		b := newBlocked(t)
		b.hangUp()
		f := newFollower()
		b.attach(f, false)
		b.goesOn(f)
		if b.only.end > 0 {
			t.Errorf("the one that was stuck has stored %d bytes", b.only.end)
		}
	})
	t.Run("another follower stores", func(t *testing.T) {
		t.Parallel()
		a := newAttempt(t)
		a.spoolBytes = 1 << 20
		a.startAgent()
		slow, open := gated()
		fast := newFollower()
		a.attach(slow, false)
		a.attach(fast, false)
		p := pattern{"both", 32 << 20}
		a.launch(prints, p)
		a.launcher.exits(t)
		fast.exited(t)
		open()
		r := slow.exited(t)
		a.ends()
		fast.whole(t, p, false)
		slow.exact(t, p, false)
		if slow.lost == 0 || slow.lost > r.End {
			t.Errorf("%d bytes of %d were declared lost", slow.lost, r.End)
		}
		t.Logf("%d bytes in %d gaps", slow.lost, slow.gaps)
	})
}

// TestDrop holds that a job that nobody follows loses the head of its output and
// nothing else, and that the gap says how much.
func TestDrop(t *testing.T) {
	t.Parallel()
	a := newAttempt(t)
	a.spoolBytes, a.overflow = 1<<20, "drop"
	a.startAgent()
	watcher := newFollower()
	a.attach(watcher, true)
	p := pattern{"both", 16 << 20}
	a.launch(prints, p)
	blocked := false
	watcher.until(t, "the job's end", func() bool { blocked = watcher.blocked; return watcher.exit != nil || blocked })
	if blocked {
		t.Fatal("the job waits for somebody to follow it")
	}
	f := newFollower()
	a.attach(f, false)
	r := f.exited(t)
	a.ends()
	f.exact(t, p, false)
	if f.gaps != 1 || f.lost < r.End-uint64(a.spoolBytes) || f.lost > r.End-uint64(a.spoolBytes)/2 {
		t.Errorf("%d gaps of %d bytes together, printed were %d", f.gaps, f.lost, r.End)
	}
	if r.Lost > 0 || r.Code != 0 {
		t.Errorf("exit record %v", r)
	}
	t.Logf("%d of %d bytes lost, declared", f.lost, r.End)
}
