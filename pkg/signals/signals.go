// Package signals hears the signals that hodei is sent. It knows which of them ask hodei to end, which hodei passes on
// to a job's command, when two equal ones count as one, and which exit code a signal makes. Start with [New]: once in
// a process, before anything else asks for a signal. The package decides nothing about a job.
package signals

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

// Ending are the signals that ask a program to end. SIGQUIT and SIGABRT are among them because Go, left to itself,
// would print all its goroutines at them.
var Ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT}

// AsksToEnd reports whether a signal asks hodei to end; all others are only for the command.
func AsksToEnd(sig os.Signal) bool { return slices.Contains(Ending, sig) }

// PassedOn are the signals that hodei passes on to the command of a job that it follows, as if a shell here had started
// the command. The values are Linux's numbers, because the command runs on Linux.
var PassedOn = map[os.Signal]int32{
	syscall.SIGQUIT: 3, syscall.SIGABRT: 6, syscall.SIGUSR1: 10, syscall.SIGUSR2: 12, syscall.SIGALRM: 14,
}

// Set hears signals. A signal that was ignored when hodei started stays ignored: SIGHUP under nohup, SIGINT and SIGQUIT
// in the background of a shell without job control. A nil Set ignores none. Its methods may be called at the same time.
type Set struct {
	ignored map[os.Signal]bool
	heard   atomic.Int32 // how many calls of Hear have not ended
}

// New returns a Set that ignores the signals that the process ignores now.
func New() *Set {
	s := &Set{ignored: map[os.Signal]bool{}}
	for _, sig := range Ending {
		s.ignored[sig] = signal.Ignored(sig)
	}
	// Go replaces an ignored SIGQUIT before we can see it. A shell ignores both or none.
	if s.ignored[syscall.SIGINT] {
		s.ignored[syscall.SIGQUIT] = true
		signal.Ignore(syscall.SIGQUIT)
	}
	return s
}

// notify makes the system send the wanted signals to c, except those that stay ignored.
func (s *Set) notify(c chan<- os.Signal, wanted ...os.Signal) {
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(sig os.Signal) bool { return s.ignored[sig] })
	if len(wanted) > 0 { // none would be all
		signal.Notify(c, wanted...)
	}
}

// Hear returns a channel of the wanted signals. Equal ones that follow each other within 200 ms come once. After stop
// none comes, and the next signal ends the process. stop may be called more than once.
func (s *Set) Hear(wanted ...os.Signal) (heard <-chan os.Signal, stop func()) {
	if s == nil {
		s = &Set{}
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

// distinct passes signals on until done is closed, except those that are equal to the one less than sameSignal before.
// It drops signals that nobody takes. It returns sameSignal after the last signal at the earliest, so that one that is
// equal to it does not end the process.
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

// UnlessSignaled runs f and returns its exit code. If SIGQUIT or SIGABRT comes while nobody hears signals, it returns
// that signal's exit code at once, and leaves f behind: Go, left to itself, would print all its goroutines.
func (s *Set) UnlessSignaled(f func() int) int {
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
				return ExitCode(sig)
			}
		}
	}
}

// ForSession is Hear for all signals that a session acts on. It also ignores SIGPIPE, so that writing to a closed
// stdout is an error like any other.
func (s *Set) ForSession() (heard <-chan os.Signal, stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	return s.Hear(slices.AppendSeq(slices.Clone(Ending), maps.Keys(PassedOn))...)
}

// Resized hears that the terminal has another size, until stop. What comes while nobody takes it counts as one.
func (s *Set) Resized() (heard <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}

// Second says what the signal after the heard one does.
type Second bool

// What the signal after the one that was heard does.
const (
	NextEndsUs Second = true  // it ends the process, whatever hangs
	StillHeard Second = false // nothing: what was begun is being cleaned up
)

// UntilSignal returns a context that ends with the first signal of [Ending], and then has a [Signaled] as its cause.
// The caller calls the function when it needs the context no more; it waits for the goroutine that hears the signal.
func (s *Set) UntilSignal(ctx context.Context, then Second) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	heard, stop := s.Hear(Ending...)
	var work sync.WaitGroup
	work.Go(func() {
		select {
		case sig := <-heard:
			cancel(Signaled{sig})
			if then == NextEndsUs {
				stop()
			}
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		cancel(nil)
		stop()
		work.Wait()
	}
}

// Signaled is the end of a command by a signal.
type Signaled struct{ signal os.Signal }

// Error names the signal.
func (s Signaled) Error() string { return "interrupted by " + Name(s.signal) }

// Is makes it the end of a context like any other.
func (s Signaled) Is(target error) bool { return target == context.Canceled }

// InterruptedBy returns the [job.ExitError] of a command whose context, from [Set.UntilSignal], has ended: with the
// exit code of the signal that ended it. err is shown; nil: nothing is.
func InterruptedBy(ctx context.Context, err error) error {
	if s, ok := errors.AsType[Signaled](context.Cause(ctx)); ok {
		return &job.ExitError{Code: ExitCode(s.signal), Err: err}
	}
	return &job.ExitError{Code: job.ExitCancelled, Err: err}
}

// ExitCode returns the exit code that sh(1) gives a command that was ended by sig: 128 and its number.
func ExitCode(sig os.Signal) int {
	if n, ok := sig.(syscall.Signal); ok {
		return 128 + int(n)
	}
	return 1
}

// Name returns the name by which shells know a signal, such as SIGINT.
func Name(sig os.Signal) string {
	if n, ok := sig.(syscall.Signal); ok {
		if name := unix.SignalName(n); name != "" {
			return name
		}
	}
	return fmt.Sprint(sig)
}
