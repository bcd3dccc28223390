// Package signals is how hodei hears what it is sent: which signals ask it to end, which it passes on
// to a command, what counts as one, and what a signal's exit code is. Start with [New], once a process,
// before anything else asks for a signal. It decides nothing about a job.
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

// Ending ask a program to end. SIGQUIT and SIGABRT are among them for the sake of
// Go, which would print all its goroutines.
var Ending = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGABRT}

// AsksToEnd reports whether a signal asks hodei to end; all others are only for the command.
func AsksToEnd(sig os.Signal) bool { return slices.Contains(Ending, sig) }

// PassedOn are the signals that hodei passes on to the command of a job that it follows, as if
// a shell here had started the command. The numbers are those of Linux, on which the command
// runs.
var PassedOn = map[os.Signal]int32{
	syscall.SIGQUIT: 3, syscall.SIGABRT: 6, syscall.SIGUSR1: 10, syscall.SIGUSR2: 12, syscall.SIGALRM: 14,
}

// Set are the signals that hodei hears. A signal that was ignored when hodei started stays
// ignored: SIGHUP under nohup, SIGINT and SIGQUIT in the background of a shell without job
// control. A nil value ignores none.
type Set struct {
	ignored map[os.Signal]bool
	heard   atomic.Int32 // by so many
}

// New finds out which are ignored. It is called before any is asked for.
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

// notify has the wanted signals sent to c, except ignored ones.
func (s *Set) notify(c chan<- os.Signal, wanted ...os.Signal) {
	wanted = slices.DeleteFunc(slices.Clone(wanted), func(sig os.Signal) bool { return s.ignored[sig] })
	if len(wanted) > 0 { // none would be all
		signal.Notify(c, wanted...)
	}
}

// Hear returns the signals wanted, equal ones that follow each other within sameSignal
// once, until stop. Then the next one ends the process.
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

// UnlessSignaled returns f's exit code, or that of a SIGQUIT or SIGABRT which nobody hears:
// left to Go, they would print all its goroutines.
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

// ForSession hears what a session acts on, and makes a closed stdout an error like any
// other.
func (s *Set) ForSession() (heard <-chan os.Signal, stop func()) {
	signal.Ignore(syscall.SIGPIPE)
	return s.Hear(slices.AppendSeq(slices.Clone(Ending), maps.Keys(PassedOn))...)
}

// second says what the signal after the heard one does.
type second bool

// What the signal after the one that was heard does.
const (
	NextEndsUs second = true  // whatever hangs
	StillHeard second = false // what is being cleaned up is
)

// UntilSignal returns a context that ends with the first signal that asks a program to end. Its
// cause is a signaled.
func (s *Set) UntilSignal(ctx context.Context, then second) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	heard, stop := s.Hear(Ending...)
	go func() {
		select {
		case sig := <-heard:
			cancel(Signaled{sig})
			if then == NextEndsUs {
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

// Signaled is the end of a command by a signal.
type Signaled struct{ signal os.Signal }

func (s Signaled) Error() string { return "interrupted by " + Name(s.signal) }

// Is makes it the end of a context like any other.
func (s Signaled) Is(target error) bool { return target == context.Canceled }

// InterruptedBy is the end of a command whose context untilSignal has ended; err, if not
// nil, is shown.
func InterruptedBy(ctx context.Context, err error) error {
	if s, ok := errors.AsType[Signaled](context.Cause(ctx)); ok {
		return &job.ExitError{Code: ExitCode(s.signal), Err: err}
	}
	return &job.ExitError{Code: job.ExitCancelled, Err: err}
}

// ExitCode is that of a command that a signal ended, as sh(1) has it.
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
