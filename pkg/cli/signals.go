package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/pkg/job"
)

// sameSignal is the time within which two equal signals count as one: timeout(1) sends its
// signal to the program and then to its group, and a terminal's Ctrl-C may come together with a
// parent's signal. A person who presses Ctrl-C twice takes longer.
const sameSignal = 200 * time.Millisecond

// endSignals ask a program to end. SIGQUIT and SIGABRT are among them for the sake of
// Go, which would print all its goroutines.
var endSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT}

// passedOn are the signals that hodei passes on to the command of a job that it follows, as if
// a shell here had started the command. The numbers are those of Linux, on which the command
// runs.
var passedOn = map[os.Signal]int32{
	syscall.SIGQUIT: 3, syscall.SIGABRT: 6, syscall.SIGUSR1: 10, syscall.SIGUSR2: 12, syscall.SIGALRM: 14,
}

// signals are the signals that hodei hears. A signal that was ignored when hodei started stays
// ignored: SIGHUP under nohup, SIGINT and SIGQUIT in the background of a shell without job
// control. A nil value ignores none.
type signals struct {
	ignored map[os.Signal]bool
	heard   atomic.Int32 // by so many
}

// newSignals finds out which are ignored. It is called before any is asked for.
func newSignals() *signals {
	s := &signals{ignored: map[os.Signal]bool{}}
	for _, sig := range endSignals {
		s.ignored[sig] = signal.Ignored(sig)
	}
	// Go replaces an ignored SIGQUIT before we can see it. A shell ignores both or none.
	if s.ignored[syscall.SIGINT] {
		s.ignored[syscall.SIGQUIT] = true
		signal.Ignore(syscall.SIGQUIT)
	}
	return s
}

// notify has the wanted signals sent to c, except ignored ones.
func (s *signals) notify(c chan<- os.Signal, wanted ...os.Signal) {
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(sig os.Signal) bool { return s.ignored[sig] })
	if len(wanted) > 0 { // none would be all
		signal.Notify(c, wanted...)
	}
}

// hear returns the signals wanted, equal ones that follow each other within sameSignal
// once, until stop. Then the next one ends the process.
func (s *signals) hear(wanted ...os.Signal) (heard <-chan os.Signal, stop func()) {
	if s == nil {
		s = &signals{}
	}
	raw, once, done := make(chan os.Signal, 16), make(chan os.Signal, 16), make(chan struct{})
	s.heard.Add(1)
	s.notify(raw, wanted...)
	go func() {
		defer s.heard.Add(-1)
		defer signal.Stop(raw)
		distinct(raw, once, done)
	}()
	return once, sync.OnceFunc(func() { close(done) })
}

// distinct passes signals on until done is closed, and after that for sameSignal, in which an
// equal one does not count. It drops signals that nobody takes.
func distinct(from <-chan os.Signal, to chan<- os.Signal, done <-chan struct{}) {
	var last os.Signal
	var at time.Time
	for {
		select {
		case sig := <-from:
			if now := time.Now(); sig != last || now.Sub(at) >= sameSignal {
				last, at = sig, now
				select {
				case to <- sig:
				default:
				}
			}
		case <-done:
			if last != nil {
				time.Sleep(time.Until(at.Add(sameSignal)))
			}
			return
		}
	}
}

// unlessSignaled returns f's exit code, or that of a SIGQUIT or SIGABRT which nobody hears:
// left to Go, they would print all its goroutines.
func (s *signals) unlessSignaled(f func() int) int {
	code, raw := make(chan int, 1), make(chan os.Signal, 1)
	s.notify(raw, syscall.SIGQUIT, syscall.SIGABRT)
	defer signal.Stop(raw)
	go func() { code <- f() }()
	for {
		select {
		case c := <-code:
			return c
		case sig := <-raw:
			if s.heard.Load() == 0 {
				return exitCode(sig)
			}
		}
	}
}

// forSession hears what a session acts on, and makes a closed stdout an error like any
// other.
func (s *signals) forSession() (heard <-chan os.Signal, stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	return s.hear(slices.AppendSeq(slices.Clone(endSignals), maps.Keys(passedOn))...)
}

// second says what the signal after the heard one does.
type second bool

const (
	nextEndsUs second = true  // whatever hangs
	stillHeard second = false // what is being cleaned up is
)

// untilSignal returns a context that ends with the first signal that asks a program to end. Its
// cause is a signaled.
func (s *signals) untilSignal(ctx context.Context, then second) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	heard, stop := s.hear(endSignals...)
	go func() {
		select {
		case sig := <-heard:
			cancel(signaled{sig})
			if then == nextEndsUs {
				stop()
			}
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel(nil)
		stop()
	}
}

// signaled is the end of a command by a signal.
type signaled struct{ signal os.Signal }

func (s signaled) Error() string { return "interrupted by " + signalName(s.signal) }

// Is makes it the end of a context like any other.
func (s signaled) Is(target error) bool { return target == context.Canceled }

// interruptedBy is the end of a command whose context untilSignal has ended; err, if not
// nil, is shown.
func interruptedBy(ctx context.Context, err error) error {
	if s, ok := errors.AsType[signaled](context.Cause(ctx)); ok {
		return &exitError{code: exitCode(s.signal), err: err}
	}
	return &exitError{code: job.ExitCancelled, err: err}
}

// exitCode is that of a command that a signal ended, as sh(1) has it.
func exitCode(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return exitFailed
}

func signalName(sig os.Signal) string {
	if n, ok := sig.(syscall.Signal); ok {
		if name := unix.SignalName(n); name != "" {
			return name
		}
	}
	return fmt.Sprint(sig)
}
