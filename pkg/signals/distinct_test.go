package signals

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// Equal signals that follow each other at once are one, whatever sends them.
func TestDistinct(t *testing.T) {
	type sent struct {
		sig   os.Signal
		after time.Duration
	}
	const in, term = syscall.SIGINT, syscall.SIGTERM
	for _, test := range []struct {
		name string
		sent []sent
		want string
	}{
		{"timeout to the program and to its group", []sent{{term, 0}, {term, time.Millisecond}}, "[terminated]"},
		{"a person presses twice", []sent{{in, 0}, {in, 300 * time.Millisecond}}, "[interrupt interrupt]"},
		{"a key that is held down", []sent{{in, 0}, {in, 150 * time.Millisecond}, {in, 100 * time.Millisecond}}, "[interrupt interrupt]"},
		{"two that differ", []sent{{in, 0}, {term, 0}, {in, 0}}, "[interrupt terminated interrupt]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				from, to, done := make(chan os.Signal), make(chan os.Signal, 16), make(chan struct{})
				var work sync.WaitGroup
				work.Go(func() { distinct(from, to, done) })
				for _, s := range test.sent {
					time.Sleep(s.after)
					from <- s.sig
				}
				close(done)
				work.Wait()
				var got []os.Signal
				for len(to) > 0 {
					got = append(got, <-to)
				}
				if fmt.Sprint(got) != test.want {
					t.Errorf("got %v, want %s", got, test.want)
				}
			})
		})
	}
}

// TestUntilSignal: the context ends with the first signal, which makes the exit code, and
// is one that was cancelled like any other.
func TestUntilSignal(t *testing.T) {
	var s *Set
	ctx, stop := s.UntilSignal(t.Context(), StillHeard)
	defer stop()
	if err := syscall.Kill(os.Getpid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	if exit, ok := errors.AsType[*job.ExitError](InterruptedBy(ctx, nil)); !ok || exit.Code != 131 {
		t.Errorf("got %v", exit)
	}
	if !errors.Is(context.Cause(ctx), context.Canceled) {
		t.Errorf("cause %v", context.Cause(ctx))
	}
}
