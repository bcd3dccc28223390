package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hodei-jobs/hodei/agent/guard"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// overfillBytes is written to a volume whose limit is a third of it.
const overfillBytes = 3 * contract.EvictionBytes

// evictWait is how long an agent stays for the kubelet to evict its Pod. The kubelet looks
// every 10 s, at figures that are up to a minute old; an agent that leaves earlier keeps it
// from ever looking. Where it enforces no limits, an agent that stays longer is no use.
const evictWait = 5 * time.Minute

// neverAgain is why a command did not start and must not be started by another
// attempt: somebody may have been told that it never will.
type neverAgain struct{ error }

// startDeadline is when launchers are let in no more. It is a time of the wall clock,
// which goes on while the machine sleeps.
func (c Config) startDeadline(now time.Time) time.Time {
	deadline := now.Add(c.StartTimeout).Round(0)
	if !c.StartBy.IsZero() && c.StartBy.Before(deadline) {
		return c.StartBy
	}
	return deadline
}

// late reports whether now is after the deadline for launchers.
func late(deadline, now time.Time) bool { return !now.Round(0).Before(deadline) }

// tooLate is why no launcher is let in after the deadline.
func (c Config) tooLate(deadline time.Time) error {
	if deadline.Equal(c.StartBy) {
		return neverAgain{fmt.Errorf("no launcher came by %s, %s after the job was made: "+
			"the job's container did not start (this node's clock: %s)",
			stamp(c.StartBy), c.StartTimeout, stamp(time.Now()))}
	}
	return neverAgain{fmt.Errorf("no launcher came within %s: the job's container did not start", c.StartTimeout)}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// awaitLauncher lets one launcher in before the deadline, and closes and unlinks the
// socket.
func (a *agent) awaitLauncher(ctx context.Context, l *net.UnixListener, deadline time.Time) (*handover.Launcher, error) {
	arrived := make(chan arrival, 1)
	go func() {
		launcher, err := handover.Accept(l)
		arrived <- arrival{launcher, err}
	}()
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	var why error
	for why == nil {
		select {
		case got := <-arrived:
			if got.err != nil {
				return nil, fmt.Errorf("launcher's hello: %w", got.err)
			}
			if late(deadline, time.Now()) { // the machine slept: timers stood still
				got.launcher.Close()
				return nil, a.tooLate(deadline)
			}
			a.jobUser.Store(guard.ForeignUser(got.launcher.Conn))
			return got.launcher, nil
		case <-timeout.C:
			why = a.tooLate(deadline)
		case <-ctx.Done():
			why = errors.New("told to end before the job's container started")
		case order := <-a.orders:
			why = preventing(order, "the job's container")
		}
	}
	l.Close()
	if got := <-arrived; got.err == nil { // it came in this very moment: turn it away
		got.launcher.Close()
	}
	return nil, why
}

// arrival is a launcher, or why there is none.
type arrival struct {
	launcher *handover.Launcher
	err      error
}

// preventing says why the command does not start after an order; nil: the order is about something
// else. what has not started yet.
func preventing(order *hodeipb.Control, what string) error {
	switch {
	case order.GetCancel() != nil:
		return neverAgain{fmt.Errorf("cancelled before %s started", what)}
	case order.GetJobEnded() != nil:
		return fmt.Errorf("the launcher ended before the command started: %s", order.GetJobEnded().Message)
	}
	return nil
}

// hold waits, with the launcher ready, until a coordinator lets the command start. An error is why it
// does not start.
func (a *agent) hold(ctx context.Context, deadline time.Time) error {
	a.setState(func(s *hodeipb.State) { s.Phase = hodeipb.Phase_HELD })
	ctx, cancel := context.WithCancel(ctx)
	lost := make(chan string, 1)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { lost <- a.input.awaitLoss(ctx, a.StartTimeout) })
	timeout := time.NewTimer(time.Until(deadline))
	defer timeout.Stop()
	for {
		select {
		case <-a.releases:
			if late(deadline, time.Now()) { // the machine slept: timers stood still
				return a.unreleased(deadline)
			}
			return nil
		case <-timeout.C:
			return a.unreleased(deadline)
		case <-ctx.Done():
			return errors.New("told to end before the command started")
		case why := <-lost:
			if why != "" {
				return neverAgain{fmt.Errorf("the input can't come: %s", why)}
			}
		case order := <-a.orders:
			if why := preventing(order, "the command"); why != nil {
				return why
			}
		}
	}
}

// unreleased is why a command does not start whose start was held until the deadline.
func (a *agent) unreleased(deadline time.Time) error {
	if a.TTY {
		return neverAgain{fmt.Errorf("nobody has come to the command's terminal by %s, %s after the job was made",
			stamp(deadline), a.StartTimeout)}
	}
	return neverAgain{fmt.Errorf("nobody has come to send the input by %s, %s after the job was made", stamp(deadline), a.StartTimeout)}
}

// neverStarted is the error of Run for a command that did not start, where no container waits for its
// image any more.
func neverStarted(why error) error {
	if _, never := errors.AsType[neverAgain](why); never {
		return unstarted{why, ErrStartTimeout}
	}
	return unstarted{why, ErrNeverStarted}
}

// giveUp ends an attempt whose command never started. Kubernetes may start it again,
// unless why is neverAgain. Then a job's container that waits for its image would keep
// the Pod, whatever our exit status: only the kubelet ends it, if the Pod is over one of
// its limits while a container of it runs.
func (a *agent) giveUp(ctx context.Context, why error) error {
	if _, never := errors.AsType[neverAgain](why); !never || a.EvictionDir == "" {
		return neverStarted(why)
	}
	a.writeTermination([]byte(why.Error())) // the kubelet loses it if it evicts
	a.Log.Info("the command will not be started; overfilling a volume to have this Pod evicted", "reason", why, "volume", a.EvictionDir)
	if err := overfill(a.EvictionDir); err != nil {
		a.Log.Warn("volume not overfilled", "error", err)
	}
	bound := time.NewTimer(evictWait)
	defer bound.Stop()
	select {
	case <-ctx.Done():
	case <-bound.C:
		a.Log.Warn("not evicted: the kubelet enforces no limits of volumes", "waited", evictWait)
	}
	return neverStarted(why)
}

// overfill writes more to a volume than its limit. It is data, not a hole: the kubelet
// counts blocks.
func overfill(dir string) error {
	return os.WriteFile(filepath.Join(dir, "overfull"), make([]byte, overfillBytes), 0o600)
}
