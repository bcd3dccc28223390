// Package agent is what runs in a worker. [Run] is the agent: it owns the output, the identity and the
// connection to coordinators. [Launch] is process 1 of the job's container: it starts the command and hands
// its pipes to the agent. [Copy] puts the launcher where the job's container finds it.
//
// It is the agent's decisions: when the job may start, what its end means, who gets its output, and how long
// somebody is waited for. What it decides about is below it: spool keeps the output, meter measures, guard
// keeps the job out, launcher runs the command, and handover is what agent and launcher say to each other.
//
// It knows nothing of Kubernetes or of certificates: the protocol of pkg/hodeipb and the words of
// pkg/contract are all that it shares with the other side. It takes no signals and sets no exit status: that
// is cmd/hodei-worker's.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hodei-jobs/hodei/agent/guard"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/meter"
	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// retryLinger is the longest that an ended attempt waits for a coordinator when
// another attempt is to follow, or when the Pod is being deleted: the next
// attempt starts only once this Pod is done, and a deletion is somebody waiting.
const retryLinger = 10 * time.Second

// returnLinger is how long an attempt waits, when its command has ended and the container's log
// has its output, for a coordinator that followed it to come back. After a broken connection a
// coordinator backs off for 15 s at the most.
const returnLinger = 30 * time.Second

// stalledLinger is the longest that an ended attempt waits for a coordinator that
// is attached and stores nothing: somebody looks at the output page by page. One
// that is gone is noticed by keepalive within 20 s.
const stalledLinger = time.Hour

// blockFor is how long after the last coordinator that wanted output has left, or
// after the start, a full spool makes the job wait; then it drops its head.
const blockFor = 5 * time.Minute

// Overflow is what happens when the spool is at its cap and nobody has stored
// what it holds.
type Overflow string

// The kinds of Overflow.
const (
	// OverflowAuto lets the job wait while a coordinator that wants output is
	// attached, or was until 5 minutes ago; else, and of a detached job, the oldest
	// output is dropped.
	OverflowAuto  Overflow = ""
	OverflowBlock Overflow = contract.OverflowBlock // the job waits
	OverflowDrop  Overflow = contract.OverflowDrop  // the oldest output is dropped
)

// Config is what an agent needs to know. Job, Socket, SpoolDir, SpoolBytes, TLS
// and one of Listen and Server are required.
type Config struct {
	// Namespace, Job, Attempt and AttemptUID say who we are. The certificate in
	// TLS must have been issued for the first two.
	Namespace, Job      string
	Attempt, AttemptUID string
	Version             string

	// Socket is the path on which the launcher is awaited.
	Socket string
	// SpoolDir holds the output, at most SpoolBytes of it.
	SpoolDir   string
	SpoolBytes int64
	// Overflow is what happens at the cap.
	Overflow Overflow
	// Detached tells that nobody follows the job from its start.
	Detached bool
	// ContainerLogs copies the output to the launcher's own stdout and stderr, which
	// is the log of the job's container.
	ContainerLogs bool
	// Stdin tells that the command reads its input from a coordinator. Its start is held until a
	// coordinator lets it go on.
	Stdin bool
	// TTY tells that stdin, stdout and stderr of the command are a terminal. It needs Stdin.
	TTY bool
	// Exec lets coordinators run commands beside the job's whose certificate gives them the right to.
	Exec bool
	// EBPF is what is tried of it.
	EBPF EBPF
	// Listen is a loopback address on which coordinators arrive (tunnel).
	Listen string
	// Server is the address of the coordinator to dial (direct).
	Server string
	// ExecSocket is the path of a unix socket on which coordinators arrive besides; empty: there is none. Its directory
	// is closed to others.
	ExecSocket string
	// TLS is the client's side of every connection.
	TLS *tls.Config

	// StartTimeout bounds the wait for the launcher, from our own start. StartBy, if not
	// zero, is the instant after which the command must not start, by whatever clock:
	// somebody may have been told that it never will.
	StartTimeout time.Duration
	StartBy      time.Time
	// EvictionDir is a volume that is overfilled to have the Pod evicted when the command
	// must not start any more; empty: the agent just ends.
	EvictionDir string
	// Timeout counts from the command's start; 0: none.
	Timeout time.Duration
	// Grace is the time between SIGTERM and SIGKILL.
	Grace time.Duration
	// Linger is how long an ended attempt waits until a coordinator has stored all.
	Linger time.Duration
	// EndCopied says that the agent need not wait if nobody follows and the container's log has
	// all output.
	EndCopied bool
	// Retries tells that another attempt may follow one that failed.
	Retries bool

	// InPod tells that a Pod's status says more about the end of its containers than
	// they know.
	InPod bool
	// TerminationLog is the file that Kubernetes shows as the container's
	// message; empty: none.
	TerminationLog string
	Log            *slog.Logger
}

// EBPF says whether eBPF assists the measuring.
type EBPF string

// The kinds of EBPF.
const (
	EBPFOff     EBPF = ""                   // it is not tried
	EBPFAuto    EBPF = contract.EBPFAuto    // it does as far as it can be had
	EBPFRequire EBPF = contract.EBPFRequire // where nothing of it can be had, the command is not started
)

// agent is one attempt.
type agent struct {
	Config
	spool *spool.Spool
	// orders carries what coordinators ask for to the one goroutine that acts.
	orders chan *hodeipb.Control
	// jobUser is the uid of a job in another container than ours; guard.NoUser before it
	// is there, and where it can't be told from a coordinator.
	jobUser atomic.Int64

	mu sync.Mutex
	// state and exit are replaced, never changed in place.
	state *hodeipb.State
	exit  *hodeipb.ExitRecord
	// attached counts the attachments; stored: one of them has all output and
	// the exit record.
	attached int
	stored   bool
	storedAt time.Time
	// copied tells that the container's log has all output.
	copied bool
	// followers are those of the attached that want output; left is when the last
	// one went, and before the first came, when we began, or never.
	followers int
	left      time.Time
	// changed is closed and replaced when anything above changes.
	changed chan struct{}

	// samples are what the job has used.
	samples *meter.Sampler

	// compressor is one for all attachments, made when the first needs it.
	compressor func() *compressor

	// acks counts those of output, of all attachments.
	acks atomic.Uint64

	// input is the command's stdin; nil: it is empty.
	input *input
	// releases has a value when a coordinator has let a held start go on.
	releases chan struct{}

	// execs are the commands that run beside the job's, and executing counts the coordinators that have one.
	execs     execs
	executing int // with mu
}

func newAgent(c Config) *agent {
	a := &agent{
		Config:     c,
		orders:     make(chan *hodeipb.Control, 16),
		changed:    make(chan struct{}),
		samples:    meter.NewSampler(),
		compressor: sync.OnceValue(newCompressor),
		state:      &hodeipb.State{Phase: hodeipb.Phase_WAITING, AgentStarted: timestamppb.Now(), Signals: new(uint64(0))},
		releases:   make(chan struct{}, 1),
	}
	a.execs.samples, a.execs.running = a.samples, map[uint64]*execution{}
	if c.Stdin {
		a.input = newInput(hodeipb.InputWindow)
		a.input.tty = c.TTY
	}
	a.jobUser.Store(guard.NoUser)
	if !c.Detached { // somebody is on the way
		a.left = time.Now()
	}
	return a
}

// Why an agent ended whose command never started. They are told apart by errors.Is; the text of the
// error is the reason alone.
var (
	// ErrNeverStarted means that another attempt may start the command.
	ErrNeverStarted = errors.New("the command never started")
	// ErrNoEBPF means that eBPF is required and can't be had here.
	ErrNoEBPF = errors.New("the command never started, for want of eBPF")
	// ErrStartTimeout means that the command must not be started any more.
	ErrStartTimeout = errors.New("the command never started, and must not any more")
)

// unstarted is an error that is one of those, and has the reason's text.
type unstarted struct {
	error
	what error
}

func (e unstarted) Is(target error) bool { return target == e.what }
func (e unstarted) Unwrap() error        { return e.error }

// Run is the agent's life: it waits for the launcher, ships the output, and returns nil when the
// job has ended, however it ended. An error means that the command never started, which is one of
// ErrNeverStarted, ErrNoEBPF and ErrStartTimeout, or that the agent could not do its work. Run
// leaves it as the container's message, and doesn't log it.
//
// The end of ctx is word that the Pod is being deleted, and not an order to break off: Run goes on
// until the job has ended, but waits no longer than it must for coordinators. It waits for all
// goroutines that it has started, save one that is stuck in a write to the container's log.
func Run(ctx context.Context, c Config) error {
	a := newAgent(c)
	err := a.run(ctx)
	if err != nil {
		a.writeTermination([]byte(err.Error()))
	}
	return err
}

func (a *agent) run(ctx context.Context) error {
	var err error
	if a.spool, err = spool.Open(a.SpoolDir, a.SpoolBytes, a.outputDamaged); err != nil {
		return err
	}
	defer func() {
		if err := a.spool.Remove(); err != nil {
			a.Log.Warn("spool not removed", "error", err)
		}
	}()
	launchers, err := handover.Listen(a.Socket)
	if err != nil {
		return err
	}
	defer launchers.Close()

	// Coordinators are served until we end, also while the Pod is being deleted.
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { a.watchSpool(serving) })
	if a.Listen != "" {
		l, err := guard.Listen(a.Listen, &a.jobUser, a.Log)
		if err != nil {
			return err
		}
		work.Go(func() {
			defer l.Release()
			a.acceptCoordinators(serving, l)
		})
	} else {
		work.Go(func() { a.dialCoordinator(serving) })
	}
	if a.ExecSocket != "" {
		l, err := net.Listen("unix", a.ExecSocket)
		if err != nil {
			return err
		}
		work.Go(func() { a.acceptCoordinators(serving, l) })
	}
	a.Log.Info("waiting for the launcher", "job", a.Job, "attempt", a.Attempt)

	deadline := a.startDeadline(time.Now())
	launcher, err := a.awaitLauncher(ctx, launchers, deadline)
	if err != nil {
		return a.giveUp(ctx, err)
	}
	defer launcher.Close()
	m, err := meter.Open(launcher, meter.Options{
		EBPF: a.EBPF != EBPFOff, RequireEBPF: a.EBPF == EBPFRequire, DropCapabilities: a.InPod, Log: a.Log,
	})
	switch {
	case errors.Is(err, meter.ErrCapable):
		return err
	case err != nil:
		return unstarted{err, ErrNoEBPF}
	}
	if parts := m.Probes(); parts != nil {
		a.setState(func(s *hodeipb.State) { s.Probes = parts })
	}
	if a.input != nil {
		err = a.hold(ctx, deadline)
	} else if late(deadline, time.Now()) { // to prepare the measuring takes its time
		err = a.tooLate(deadline)
	}
	if err != nil {
		m.Close()
		return neverStarted(err) // the launcher ends when we do, and with it the job's container
	}
	record, err := a.supervise(ctx, launcher, m)
	if err != nil {
		return err
	}
	a.linger(ctx, record)
	a.awaitExecs()
	return nil
}

// linger waits until a coordinator has stored everything.
func (a *agent) linger(ctx context.Context, record *hodeipb.ExitRecord) {
	if !a.awaitCoordinators(ctx, record.Code != 0, func() bool { return a.stored && a.attached == 0 }) {
		a.Log.Info("nobody has stored all output", "linger", a.Linger, "inContainerLog", a.copied)
	}
}

// awaitCoordinators waits until done, which is called with a.mu held, and says whether it came
// to that. It gives up when nobody has stored anything for the linger, or, where somebody is
// attached and reads slowly, for stalledLinger; who goes before the end has the linger to come
// back. Once one coordinator has stored all, the others have the linger to end. If somebody
// waits for this Pod to be gone, the agent gives up after retryLinger. If nobody has to come
// because the output is copied, it waits only for followers that have just left.
func (a *agent) awaitCoordinators(ctx context.Context, failed bool, done func() bool) bool {
	deleted, told, urgent := ctx.Done(), false, a.Retries && failed
	acks, progress := a.acks.Load(), time.Now()
	there := false
	for {
		a.mu.Lock()
		over, nobody, changed, storedAt := done(), a.attached == 0, a.changed, a.storedAt
		needless, left := a.copied && a.EndCopied, a.left
		a.mu.Unlock()
		switch {
		case over:
			return true
		case nobody && told:
			return false
		case nobody && there && !urgent:
			progress = time.Now()
		}
		there = !nobody
		patience := a.Linger
		switch {
		case urgent:
			patience = min(patience, retryLinger)
		case !nobody:
			patience = max(patience, stalledLinger)
		}
		from := progress
		if nobody && needless {
			from, patience = left, min(patience, returnLinger)
		}
		if !storedAt.IsZero() {
			from, patience = storedAt, min(patience, a.Linger)
		}
		deadline := time.NewTimer(time.Until(from.Add(patience)))
		select {
		case <-changed:
		case <-deadline.C:
			if !storedAt.IsZero() {
				return true
			}
			before := acks
			if acks = a.acks.Load(); acks == before {
				return false
			}
			progress = time.Now()
		case <-deleted: // who is attached may finish, nobody new is waited for
			deleted, told, urgent, progress = nil, true, true, time.Now()
		}
		deadline.Stop()
	}
}

// update changes the agent's state and wakes who waits for it.
func (a *agent) update(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.changed)
	a.changed = make(chan struct{})
}

// setState replaces the state by a changed copy.
func (a *agent) setState(change func(*hodeipb.State)) {
	a.update(func() {
		s := &hodeipb.State{
			Phase: a.state.Phase, AgentStarted: a.state.AgentStarted,
			CommandStarted: a.state.CommandStarted, BlockedOnOutput: a.state.BlockedOnOutput, Probes: a.state.Probes,
			Signals: a.state.Signals,
		}
		change(s)
		a.state = s
	})
}

func (a *agent) setExit(record *hodeipb.ExitRecord) {
	a.setState(func(s *hodeipb.State) { s.Phase = hodeipb.Phase_ENDED })
	a.update(func() { a.exit = record })
	a.spool.Close()
}

// outputDamaged logs that the spool could not give back some of the output.
func (a *agent) outputDamaged(err error) { a.Log.Error("output lost", "error", err) }

// watchSpool keeps State.blocked_on_output true to the spool, and decides what a
// full spool does: by itself, the job waits for somebody who follows, not for nobody.
func (a *agent) watchSpool(ctx context.Context) {
	for {
		full, filled := a.spool.Full()
		a.mu.Lock()
		known, changed, alone := a.state.BlockedOnOutput, a.changed, a.followers == 0
		wait := time.Until(a.left.Add(blockFor))
		a.mu.Unlock()
		if a.Overflow != OverflowAuto {
			alone, wait = a.Overflow == OverflowDrop, 0
		}
		if known != full {
			a.setState(func(s *hodeipb.State) { s.BlockedOnOutput = full })
			continue
		}
		a.spool.DropUnstored(alone && wait <= 0)
		var over <-chan time.Time
		if alone && wait > 0 {
			over = time.After(wait)
		}
		select {
		case <-filled:
		case <-changed:
		case <-over:
		case <-ctx.Done():
			return
		}
	}
}
