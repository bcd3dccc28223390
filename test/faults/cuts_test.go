package faults

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestCuts breaks the connection of one job 100 times, in every way and at any
// moment, while the job prints.
func TestCuts(t *testing.T) {
	t.Parallel()
	const cuts = 100
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 2))
	a := newAttempt(t)
	f := newFollower()
	l := listen(t)
	a.serve(f, l, false)
	over := make(chan struct{})
	p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
		if p.cuts() < cuts {
			return anyFault(rnd)
		}
		select {
		case <-over:
		default:
			close(over)
		}
		return nil
	})
	a.server = p.Addr().String()
	a.startAgent()
	a.launch(fed, pattern{"steps", 0})
	stop := a.feed(3 * time.Millisecond)
	began := time.Now()
	select {
	case <-over:
	case <-time.After(patience):
		t.Fatalf("too few cuts: %s", p)
	}
	steps := stop()
	r := f.exited(t)
	a.ends()
	f.whole(t, pattern{"steps", steps}, false)
	if !slices.IsSorted(f.attached) {
		t.Errorf("attached at %d", f.attached)
	}
	t.Logf("%d bytes in %.1fs, attached %d times; %s", r.End, time.Since(began).Seconds(), len(f.attached), p)
}

// TestSlowPath cuts a path that is so slow that the agent compresses, and with a
// job that has printed everything before: it is all read from the spool.
func TestSlowPath(t *testing.T) {
	t.Parallel()
	const cuts = 5
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 4))
	a := newAttempt(t)
	f := newFollower()
	l := listen(t)
	a.serve(f, l, false)
	p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
		if p.links.Load() > cuts {
			return nil
		}
		return &fault{kind: torn, bytes: 2<<20 + rnd.Int64N(4<<20)}
	})
	p.bytesPerSecond.Store(10 << 20)
	a.server = p.Addr().String()
	a.startAgent()
	text := pattern{"lines", 16_000_000}
	a.launch(prints, text)
	r := f.exited(t)
	a.ends()
	f.whole(t, text, false)
	if n := p.faults[torn].Load(); f.zstd == 0 || n != cuts {
		t.Errorf("%d compressed batches, %d cuts", f.zstd, n)
	}
	t.Logf("%d bytes in %.1fs, %d compressed batches; %s", r.End, time.Since(r.Started.AsTime()).Seconds(), f.zstd, p)
}

// TestSilence holds that keepalives find a connection that has died without a
// word, whichever direction has, and that nothing is lost by then.
func TestSilence(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{deaf, mute, blackHole} {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			a := newAttempt(t)
			f := newFollower()
			l := listen(t)
			a.serve(f, l, false)
			p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
				if p.links.Load() > 1 {
					return nil
				}
				return &fault{kind: k, after: 300 * time.Millisecond}
			})
			a.server = p.Addr().String()
			a.startAgent()
			a.launch(fed, pattern{"steps", 0})
			began := time.Now()
			stop := a.feed(5 * time.Millisecond)
			f.until(t, "a second attachment", func() bool { return len(f.attached) > 1 })
			found := time.Since(began)
			steps := stop()
			r := f.exited(t)
			a.ends()
			f.whole(t, pattern{"steps", steps}, false)
			// Keepalives of 10 s, whose answers are awaited for 10 s, and a reconnect.
			if found < 10*time.Second || found > 30*time.Second {
				t.Errorf("found after %s", found)
			}
			t.Logf("found after %.1fs; %d bytes; %s", found.Seconds(), r.End, p)
		})
	}
}

// TestRestart ends the coordinator at its worst moments. The one that follows it
// knows what has been stored and nothing else.
func TestRestart(t *testing.T) {
	t.Parallel()
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 3))
	const anyTime = moment(0)
	moments := append(slices.Repeat([]moment{anyTime, outputArrived, outputStored}, 5), exitArrived, exitStored)
	// The agent must not reach a coordinator that is to be ended in this moment.
	nobody := newNobody(t)
	p := newProxy(t, nobody, func(*proxy) *fault { return nil })
	a := newAttempt(t)
	f := newFollower()
	var awaited atomic.Int32 // a moment
	reached := make(chan struct{}, 1)
	f.at = func(ctx context.Context, m moment, _ int) error {
		if m == anyTime || !awaited.CompareAndSwap(int32(m), int32(anyTime)) {
			return nil
		}
		p.target.Store(&nobody)
		reached <- struct{}{}
		if m == outputArrived || m == outputStored {
			<-ctx.Done()
		}
		return errors.New("the coordinator is being ended")
	}

	a.server = p.Addr().String()
	a.startAgent()
	a.launch(fed, pattern{"steps", 0})
	stop := a.feed(3 * time.Millisecond)
	steps := 0
	for i, m := range append(moments, anyTime) {
		awaited.Store(int32(m))
		if m == exitArrived {
			steps = stop()
		}
		l := listen(t)
		s := a.serve(f, l, false)
		address := l.Addr().String()
		p.target.Store(&address)
		if i == len(moments) {
			break
		}
		if m == anyTime {
			f.mu.Lock()
			end := f.end
			f.mu.Unlock()
			f.untilStored(t, end+uint64(rnd.IntN(4<<20)))
			p.target.Store(&nobody)
		} else {
			select {
			case <-reached:
			case <-time.After(patience):
				t.Fatalf("%s: not reached; %s", m, p)
			}
		}
		s.Close()
	}
	r := f.exited(t)
	a.ends()
	f.whole(t, pattern{"steps", steps}, false)
	t.Logf("%d bytes, %d restarts", r.End, len(moments))
}
