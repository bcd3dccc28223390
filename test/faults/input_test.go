package faults

import (
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
)

// TestInputCuts breaks the connection of one job 100 times while it gets its input and prints it: all
// of it arrives, once and in order, there and back.
func TestInputCuts(t *testing.T) {
	t.Parallel()
	const cuts = 100
	seed := newSeed(t)
	rnd := rand.New(rand.NewPCG(seed, 7))
	text := pattern{"random", 60 << 20}
	if long {
		text.size = 2 << 30
	}
	source, sink := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := text.write(sink, io.Discard, text.counted())
		sink.CloseWithError(err)
		written <- err
	}()
	a := newAttempt(t)
	a.input = coordinator.NewInput(source, nil)
	t.Cleanup(func() { // hangs if what reads is not ended
		source.Close()
		a.input.Close()
	})
	f := newFollower()
	l := listen(t)
	s := a.serve(f, l, false)
	p := newProxy(t, l.Addr().String(), func(p *proxy) *fault {
		if p.cuts() < cuts {
			f := anyFault(rnd)
			f.bytes /= 4 // of what comes back: so many times more go in meanwhile
			return f
		}
		return nil
	})
	a.server = p.Addr().String()
	a.startAgent()
	a.launch(echoes, text)
	began := time.Now()
	a.release(s, f)
	r := f.exited(t)
	a.ends()
	if err := <-written; err != nil {
		t.Error(err)
	}
	a.passed(f, text)
	t.Logf("%d bytes in %.1fs, attached %d times; %s", r.End, time.Since(began).Seconds(), len(f.attached), p)
}

// passed checks that all input was sent, and that what was printed is text.
func (a *attempt) passed(f *follower, text pattern) {
	a.t.Helper()
	select {
	case err := <-a.input.Failed():
		a.t.Error(err)
	default:
	}
	f.whole(a.t, text, false)
}
