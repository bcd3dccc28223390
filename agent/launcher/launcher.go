// Package launcher is process 1 of the job's container: [Run] finds what the command needs, starts it, and
// hands the read ends of its pipes to the agent, which is another process in another container. Package
// handover is all that the two share.
//
// It reads no output and decides no end: it passes signals on, and tells how the command has ended.
package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/cgroup"
	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/probe"
	"github.com/hodei-jobs/hodei/agent/proc"
	"github.com/hodei-jobs/hodei/pkg/contract"
)

// Config is what the launcher needs to know. The command's environment is
// the launcher's own.
type Config struct {
	// Socket is the path of the agent's unix socket.
	Socket string
	// Grace is the time between SIGTERM, when the launcher itself gets one or the
	// agent dies, and SIGKILL.
	Grace time.Duration
	// MergeOutput gives the command one pipe for both streams.
	MergeOutput bool
	// Stdin gives the command a pipe for its input, which the agent writes. Otherwise it has the
	// launcher's own.
	Stdin bool
	// TTY gives the command a terminal in place of pipes, which the agent reads and writes.
	TTY bool
	// Workdir is the command's directory; empty means the launcher's own, which is the
	// image's, or Home.
	Workdir string
	// Home is a directory to make a home in, where the command has no home and no
	// directory that it may write to; empty leaves it with what there is.
	Home string
	// KeepHome leaves $HOME as it is, whatever that is: somebody has chosen it.
	KeepHome bool
	// Command and its arguments.
	Command []string
}

// ErrAgentGone means that the agent died while the command ran, or as it was to start. The command
// was ended.
var ErrAgentGone = errors.New("the agent is gone")

// Run is the job side of the handover: it runs the command with its output in pipes that the
// agent reads, and returns the exit status to end with: the command's own, 128+n when signal n
// killed it, or the one that the agent asks for where it stopped the job. Of a command that can't
// be started it is contract.ExitCannotRun or contract.ExitNotFound; the agent has been told why.
// Any other error than ErrAgentGone means that the command never started.
//
// signals are those of the process, and must be all that can be caught: Run passes on those
// that are meant for the command, and gives up for one that ends processes if it comes before the
// command has started. The end of ctx is as a SIGTERM.
//
// A process launches once and ends then: Run makes it the one that inherits orphans, keeps others
// from tracing it, and reaps children in the background until there is none.
func Run(ctx context.Context, cfg Config, signals <-chan os.Signal) (int, error) {
	// The kernel takes the end of the thread that forked for its parent's end.
	runtime.LockOSThread()
	// Before anything else: the command runs as our own user and could
	// otherwise trace us and forge the exit message.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("prctl PR_SET_DUMPABLE: %w", err)
	}
	// Process 1 inherits orphans anyway; elsewhere this makes us do so.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("prctl PR_SET_CHILD_SUBREAPER: %w", err)
	}
	if os.Getpid() == 1 { // elsewhere it is another container's
		stop, err := keepShort(messageFile)
		if err != nil {
			fmt.Fprintf(os.Stderr, contract.LaunchPrefix+"the job can fill its container's message: %v\n", err)
		} else {
			defer stop()
		}
	}

	conn, err := dialAgent(ctx, cfg.Socket, signals)
	if err != nil {
		return 0, fmt.Errorf("no agent: %w", err)
	}
	defer conn.Close()
	ends, err := cfg.makePipes()
	noTerminal := cannotRun{}
	if errors.As(err, &noTerminal) { // the agent is told as of a command that can't be started
		ends, err = Config{}.makePipes()
	}
	if err != nil {
		return 0, fmt.Errorf("make pipes: %w", err)
	}
	// The agent's ends stay open here, too. If it dies, the command must not die of SIGPIPE, nor
	// take the input for complete.
	defer ends.close()
	if err := sayHello(conn, ends); err != nil {
		// Without descriptors it may get through.
		_ = handover.Send(conn, handover.FromLauncher{Failed: &handover.Failed{Error: err.Error()}})
		return 0, fmt.Errorf("hand over to the agent: %w", err)
	}
	if err := awaitStart(ctx, conn, signals); err != nil {
		return 0, fmt.Errorf("the agent did not let the command start: %w", err)
	}

	var found surroundings
	pid := 0
	if err = noTerminal; noTerminal.error == nil {
		found, err = cfg.surround()
	}
	if err == nil {
		pid, err = found.start(cfg.Command, ends, false)
	}
	ends.closeCommands()
	if err != nil {
		code := codeOf(err)
		l := &launched{conn: conn}
		l.exit(handover.Exit{Code: code, Error: err.Error()})
		return code, nil
	}
	l := &launched{
		child: child{pid: pid, stdin: ends.inW, terminal: ends.master},
		conn:  conn, grace: cfg.Grace, signals: signals, beside: newBeside(conn, found),
	}
	if err := handover.Send(conn, handover.FromLauncher{Started: &handover.Started{Time: time.Now()}}); err != nil {
		l.kills()
		return 0, ErrAgentGone
	}
	return l.supervise(ctx)
}

// launched is the job's command while it runs.
type launched struct {
	child
	conn    *net.UnixConn
	grace   time.Duration
	signals <-chan os.Signal
	beside  *beside

	// The rest is of supervise. told: a signal was passed on.
	told bool
	// kill fires when the grace after the first SIGTERM is over.
	kill <-chan time.Time
}

// supervise forwards signals until the command has ended, tells the agent, and
// returns the exit status.
func (l *launched) supervise(ctx context.Context) (int, error) {
	ended := make(chan death)
	orders := make(chan order)
	over := make(chan struct{})
	go reap(ended, over) // until there is no child, or no process
	var work sync.WaitGroup
	defer work.Wait()
	defer func() {
		close(over)
		l.conn.Close()
	}()
	work.Go(func() { l.receive(orders, over) })

	cancelled, fromAgent := ctx.Done(), (<-chan order)(orders)
	for {
		select {
		case d := <-ended:
			if d.pid == l.pid {
				return l.end(d.status, fromAgent)
			}
			l.beside.ended(d)
		case p := <-l.beside.prepared: // here, on the thread that does not end: it is the parent that children die with
			l.beside.start(p)
		case s := <-l.signals:
			l.pass(s)
		case <-cancelled:
			cancelled = nil
			l.terminate()
		case m, ok := <-fromAgent:
			if !ok { // the agent died: nobody reads the output any more
				fromAgent = nil
				l.terminate()
				continue
			}
			l.obey(m)
		case <-l.kill:
			l.kills()
		}
	}
}

// obey does what the agent has ordered.
func (l *launched) obey(m order) {
	switch {
	case m.Exec != nil:
		l.beside.prepare(m.Exec, m.fds)
		return
	case m.ExecOrder != nil:
		l.beside.obey(m.ExecOrder)
	case m.Signal == int(unix.SIGKILL):
		l.kills()
	case m.Signal > 0:
		l.signal(syscall.Signal(m.Signal))
	case m.HangUp:
		l.askToEnd()
	case m.InputComplete && l.stdin != nil:
		l.stdin.Close()
	}
	handover.CloseAll(m.fds)
}

// order is a message of the agent and the descriptors that came with it, which whoever takes it closes.
type order struct {
	handover.FromAgent
	fds []int
}

// receive hands on what the agent says, until it has gone or over is closed, and closes orders.
func (l *launched) receive(orders chan<- order, over <-chan struct{}) {
	defer close(orders)
	for {
		var m order
		var err error
		if m.fds, err = handover.Receive(l.conn, &m.FromAgent); err != nil {
			return
		}
		select {
		case orders <- m:
		case <-over:
			handover.CloseAll(m.fds)
			return
		}
	}
}

// end tells the agent how the command has ended, unless it has gone, which nil orders say. What the
// command left running in its group ends with it, as it would with process 1 of a container, and so do the
// commands beside it.
func (l *launched) end(status syscall.WaitStatus, orders <-chan order) (int, error) {
	defer l.kills()
	l.beside.end()
	msg := exitStatus(status)
	msg.Told = l.told
	addUsed(&msg)
	if orders == nil {
		return 0, ErrAgentGone
	}
	if err := handover.Send(l.conn, handover.FromLauncher{Exit: &msg}); err == nil {
		if code := l.awaitDone(orders); code != 0 {
			msg.Code = code
		}
	}
	return msg.Code, nil
}

// pass passes a signal of the launcher's own on to the command, if it is meant for that.
func (l *launched) pass(s os.Signal) {
	sig, ok := s.(syscall.Signal)
	if !ok || !forwarded(sig) {
		return
	}
	l.told = true
	switch {
	case sig != unix.SIGTERM:
		l.signal(sig)
	case l.kill == nil:
		l.terminate()
	default: // twice: somebody is in a hurry
		l.signal(unix.SIGTERM)
		l.kills()
	}
}

// terminate asks the command to end, and has SIGKILL sent when the grace after the first time is over.
func (l *launched) terminate() {
	l.askToEnd()
	if l.kill == nil {
		l.kill = time.After(l.grace)
	}
}

// askToEnd sends SIGTERM. A command at a terminal is hung up first, as by the end of a connection.
func (l *launched) askToEnd() {
	if l.terminal == nil {
		l.signal(unix.SIGTERM)
		return
	}
	hangUp(l.pid)
}

// kills sends SIGKILL to the command, and to all there is in the container.
func (l *launched) kills() {
	l.beside.over = true
	l.signal(unix.SIGKILL)
	if os.Getpid() == 1 {
		_ = unix.Kill(-1, unix.SIGKILL)
	}
}

// child is a command that we have started. It leads a process group, and at a terminal a session.
type child struct {
	pid int
	// stdin is our write end of the command's stdin; nil: it has none.
	stdin *os.File
	// terminal is the master of the command's terminal; nil: it has none.
	terminal *os.File
	// hungUp: whoever had it run has gone.
	hungUp bool
}

// signal reaches the command's whole process group, and the command itself where it has left that. At a
// terminal it reaches the group in the foreground, as a key would. SIGKILL reaches the whole session.
func (c *child) signal(s syscall.Signal) {
	switch {
	case c.terminal == nil:
	case s == unix.SIGKILL:
		signalSession(c.pid, s)
	default:
		if group, err := unix.IoctlGetInt(int(c.terminal.Fd()), unix.TIOCGPGRP); err == nil && group > 0 {
			_ = unix.Kill(-group, s)
			return
		}
	}
	_ = unix.Kill(-c.pid, s)
	if group, err := unix.Getpgid(c.pid); err == nil && group != c.pid {
		_ = unix.Kill(c.pid, s)
	}
}

// awaitDone waits for the agent's Done, at most DoneWait after its last word, and returns the
// exit status that it asks for; 0: none.
func (l *launched) awaitDone(orders <-chan order) int {
	timeout := time.NewTimer(handover.DoneWait)
	defer timeout.Stop()
	for {
		select {
		case m, ok := <-orders:
			handover.CloseAll(m.fds)
			if !ok || m.Done {
				return m.Code
			}
			if m.Wait {
				timeout.Reset(handover.DoneWait)
			}
		case <-timeout.C:
			return 0
		}
	}
}

// exit tells the agent about a command that never ran.
func (l *launched) exit(msg handover.Exit) {
	msg.Finished = time.Now()
	if err := handover.Send(l.conn, handover.FromLauncher{Exit: &msg}); err != nil {
		return
	}
	for {
		_ = l.conn.SetReadDeadline(time.Now().Add(handover.DoneWait))
		var m handover.FromAgent
		if _, err := handover.Receive(l.conn, &m); err != nil || m.Done {
			return
		}
	}
}

// death is the end of a child.
type death struct {
	pid    int
	status syscall.WaitStatus
}

// reap waits for every child, the orphans of commands included, and reports each until over is closed. It ends
// when there is no child left.
func reap(ended chan<- death, over <-chan struct{}) {
	for {
		var d death
		var err error
		d.pid, err = syscall.Wait4(-1, &d.status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return
		}
		select {
		case ended <- d:
		case <-over:
		}
	}
}

func exitStatus(s syscall.WaitStatus) handover.Exit {
	m := handover.Exit{Code: s.ExitStatus(), Finished: time.Now()}
	if s.Signaled() {
		m.Signal = int(s.Signal())
		m.Code = 128 + m.Signal
	}
	return m
}

// addUsed fills in what the children have used that were waited for: getrusage(2).
func addUsed(m *handover.Exit) {
	var children unix.Rusage
	if unix.Getrusage(unix.RUSAGE_CHILDREN, &children) != nil {
		return
	}
	m.CPUUser, m.CPUSystem = time.Duration(children.Utime.Nano()), time.Duration(children.Stime.Nano())
	// A child's peak is at least ours: until its exec it is us.
	status, err := os.ReadFile("/proc/self/status")
	peak := uint64(children.Maxrss) << 10
	if own, ok := proc.ParsePeak(status); err == nil && ok && peak > own {
		m.PeakBytes = peak
	}
}

// forwarded tells signals meant for the command from those that are about
// ourselves: our children's, a closed pipe's, and the Go runtime's own.
func forwarded(s syscall.Signal) bool {
	switch s {
	case unix.SIGCHLD, unix.SIGPIPE, unix.SIGURG:
		return false
	}
	return true
}

// stops tells the signals that end a launcher whose command does not run yet.
func stops(s os.Signal) bool {
	return s == unix.SIGTERM || s == unix.SIGINT || s == unix.SIGHUP || s == unix.SIGQUIT
}

// awaitStart waits for the agent's word that the command may start.
func awaitStart(ctx context.Context, conn *net.UnixConn, signals <-chan os.Signal) error {
	answered := make(chan error, 1)
	go func() {
		answered <- receiveStart(conn)
	}()
	for {
		select {
		case err := <-answered:
			return err
		case s := <-signals:
			if stops(s) {
				conn.Close()
				if <-answered == nil {
					return fmt.Errorf("told to end by %s as it was to start", s)
				}
				return fmt.Errorf("told to end by %s", s)
			}
		case <-ctx.Done():
			conn.Close()
			if <-answered == nil {
				return fmt.Errorf("%w as it was to start", ctx.Err())
			}
			return ctx.Err()
		}
	}
}

// receiveStart reads until the agent lets the command start, and answers what it asks.
func receiveStart(conn *net.UnixConn) error {
	for {
		var m handover.FromAgent
		if _, err := handover.Receive(conn, &m); err != nil {
			return err
		}
		switch {
		case m.Start:
			return nil
		case m.TellCgroup:
			// Not unasked: a seccomp profile may end whoever calls pidfd_open.
			id, _ := probe.OwnCgroup() // no more than the agent can do without
			if err := handover.Send(conn, handover.FromLauncher{Cgroup: &handover.Cgroup{ID: id}}); err != nil {
				return err
			}
		default:
			return errors.New("it said something else")
		}
	}
}

// dialAgent connects to the agent's socket, which may be a moment away.
func dialAgent(ctx context.Context, path string, signals <-chan os.Signal) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(ctx, handover.DialWait)
	defer cancel()
	addr := &net.UnixAddr{Name: path, Net: "unixpacket"}
	for {
		c, err := net.DialUnix("unixpacket", nil, addr)
		if err == nil {
			return c, nil
		}
		select {
		case s := <-signals:
			if stops(s) {
				return nil, fmt.Errorf("told to end by %s", s)
			}
		case <-ctx.Done():
			return nil, err
		case <-time.After(2 * time.Millisecond): // in its own container, with nobody else to ask
		}
	}
}

// pipes of the command. errR and errW are nil when both streams share one, inR and inW when its
// input is the launcher's own. All are nil when it has a terminal: master and slave.
type pipes struct{ outR, outW, errR, errW, inR, inW, master, slave *os.File }

// makePipes makes what the command's streams are. Its error is a cannotRun if there is no terminal to be had.
func (cfg Config) makePipes() (_ *pipes, err error) {
	p := &pipes{}
	if cfg.TTY {
		if p.master, p.slave, err = openTerminal(ptmx); err != nil {
			return nil, cannotRun{err}
		}
		return p, nil
	}
	for _, pipe := range []struct {
		wanted bool
		r, w   **os.File
	}{{true, &p.outR, &p.outW}, {!cfg.MergeOutput, &p.errR, &p.errW}, {cfg.Stdin, &p.inR, &p.inW}} {
		if !pipe.wanted {
			continue
		}
		r, w, err := handover.MakePipe()
		if err != nil {
			p.close()
			return nil, err
		}
		*pipe.r, *pipe.w = r, w
	}
	return p, nil
}

// commands returns the descriptors that are the command's stdin, stdout and stderr.
func (p *pipes) commands() (stdin, stdout, stderr uintptr) {
	if p.slave != nil {
		return p.slave.Fd(), p.slave.Fd(), p.slave.Fd()
	}
	stdout = p.outW.Fd()
	stderr = stdout
	if p.errW != nil {
		stderr = p.errW.Fd()
	}
	if p.inR != nil {
		stdin = p.inR.Fd()
	}
	return stdin, stdout, stderr
}

// closeCommands closes the command's ends here, so that an end that it closes is closed.
func (p *pipes) closeCommands() { closeFiles(p.outW, p.errW, p.inR, p.slave) }

func (p *pipes) close() { closeFiles(p.outR, p.outW, p.errR, p.errW, p.inR, p.inW, p.master, p.slave) }

// closeFiles closes those that are there. One that is closed already stays so.
func closeFiles(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// sayHello passes the pipes or the terminal, the cgroup directory and our own output to the agent.
func sayHello(c *net.UnixConn, p *pipes) error {
	names, fds := p.agents()
	names, fds = append(names, handover.FDContainerOut, handover.FDContainerErr), append(fds, 1, 2)
	hello := &handover.Hello{Version: handover.Version}
	if dir, own2, err := openCgroup(); err == nil {
		defer dir.Close()
		names = append(names, handover.FDCgroup)
		fds = append(fds, int(dir.Fd()))
		hello.OwnCgroup2 = own2
	}
	hello.FDs = names
	return patiently(func() error { return handover.Send(c, handover.FromLauncher{Hello: hello}, fds...) })
}

// flightWait is how long the launcher tries to send descriptors while the kernel has no room
// for them; another process of its uid may make room. flightPause is the pause between two
// tries.
const flightWait, flightPause = 5 * time.Second, 20 * time.Millisecond

// patiently tries again as long as the kernel counts too many descriptors on their way
// through unix sockets, of all processes of our uid on the node: unix(7), ETOOMANYREFS.
func patiently(send func() error) error {
	for end := time.Now().Add(flightWait); ; time.Sleep(flightPause) {
		err := send()
		if !errors.Is(err, unix.ETOOMANYREFS) {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes of uid %d on this node, of this job or of others, have too many descriptors in flight: %w",
				os.Getuid(), os.NewSyscallError("sendmsg", unix.ETOOMANYREFS))
		}
	}
}

// openCgroup opens the directory in which the container sees its cgroup, unless
// that is more than the command's: without a container it is the machine's, or what
// the agent and whoever started it are in as well.
//
// own2: our cgroup of version 2 is the container's own too.
func openCgroup() (dir *os.File, own2 bool, err error) {
	if os.Getpid() != 1 {
		return nil, false, errors.New("not in a container of the command's own")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, false, err
	}
	paths, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, false, err
	}
	if !cgroup.Own(mounts, paths) {
		return nil, false, fmt.Errorf("%s is not the container's own cgroup", cgroup.Mount)
	}
	if dir, err = os.Open(cgroup.Mount); err != nil {
		return nil, false, err
	}
	return dir, cgroup.OwnV2(mounts, paths), nil
}

// findProgram returns the whole path of a command's program.
func findProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil && !errors.Is(err, exec.ErrDot) { // a shell runs what stands in "." too
		return "", notRun(name, err)
	}
	return filepath.Abs(path)
}

// start starts a command in a process group of its own, or at a terminal or where that is asked for in a session
// of its own, and returns its process id.
// It is not os/exec's: reap waits for all children, and the two would take each other's.
func (s surroundings) start(command []string, p *pipes, session bool) (int, error) {
	stdin, stdout, stderr := p.commands()
	// Outside a container the command would outlive a launcher that is killed.
	attr := &syscall.SysProcAttr{Setpgid: !session, Setsid: session, Pdeathsig: syscall.SIGKILL}
	if p.slave != nil {
		attr.Setpgid, attr.Setsid, attr.Setctty = false, true, true // of its stdin
	}
	pid, err := syscall.ForkExec(s.path, command, &syscall.ProcAttr{
		Dir:   s.dir,
		Env:   s.env,
		Files: []uintptr{stdin, stdout, stderr},
		Sys:   attr,
	})
	if errors.Is(err, fs.ErrNotExist) { // the file was there a moment ago
		return 0, notRun(command[0], fmt.Errorf("its interpreter or loader is missing: %w", err))
	}
	if errors.Is(err, syscall.ENOEXEC) {
		return 0, notRun(command[0], fmt.Errorf("%w: %s", err, notExecutable(s.path)))
	}
	if err != nil {
		return 0, notRun(command[0], err)
	}
	return pid, nil
}

// codeOf returns the exit status for a command that could not be started.
func codeOf(err error) int {
	if _, terminal := errors.AsType[cannotRun](err); terminal || errors.Is(err, errWorkdir) {
		return contract.ExitCannotRun
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return contract.ExitNotFound
	}
	return contract.ExitCannotRun
}

// notExecutable says why the kernel knows no way to execute a file.
func notExecutable(path string) string {
	const magic = "\x7fELF"
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // by now it can be a FIFO
	if err != nil {
		return "it can't be read"
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "it is no program"
	}
	begin := make([]byte, len(magic))
	if _, err := io.ReadFull(f, begin); err == nil && string(begin) == magic {
		return "it is no program for " + runtime.GOARCH
	}
	return "it is no program, and has no #! line that names its interpreter"
}

// withoutPath returns the reason of a path error without the path, which the caller names.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// notRun says of a command, and once, why it does not run. The command may be a
// whole script that somebody forgot to give to a shell; the text has to fit
// into a message.
func notRun(command string, err error) error {
	if e, ok := errors.AsType[*exec.Error](err); ok {
		err = e.Err
	}
	err = withoutPath(err)
	const most = 200
	if len(command) > most {
		command = command[:most] + "..."
	}
	return fmt.Errorf("%s: %w", command, err)
}
