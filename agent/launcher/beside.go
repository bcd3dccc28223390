package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/ellipsis"
	"github.com/hodei-jobs/hodei/agent/handover"
)

// maxExecError bounds why a command was not started, in bytes, so that it fits into a packet however JSON writes it.
const maxExecError = 512

// maxWaiting bounds the orders that wait for a command that is being looked for. The last one replaces the one before.
const maxWaiting = 64

// beside are the commands that run beside the job's. They find what that finds, and end when it ends. Its methods are
// for one goroutine, whose thread does not end before the process.
type beside struct {
	conn    *net.UnixConn
	found   surroundings // of the job's command
	running map[uint64]*child
	// preparing holds the orders for each command that is being looked for, which prepared then gets.
	preparing map[uint64][]*handover.ExecOrder
	prepared  chan prepared
	look      func(fds []int) (command []string, s surroundings, err error) // may hang
	// sessions are those of all commands that were started; nil: all that is in the container ends with the job.
	sessions map[int]bool
	// over: the job is being killed, and they with it. Their ends are not told any more.
	over bool
}

func newBeside(conn *net.UnixConn, found surroundings) *beside {
	b := &beside{
		conn: conn, found: found, running: map[uint64]*child{},
		preparing: map[uint64][]*handover.ExecOrder{}, prepared: make(chan prepared, handover.MaxExecs),
	}
	b.look = b.find
	if os.Getpid() != 1 {
		b.sessions = map[int]bool{}
	}
	return b
}

// prepared is a command that was looked for.
type prepared struct {
	*handover.Exec
	command []string
	surroundings
	err error
}

// prepare looks for a command, of which prepared then tells. It closes fds. A dead network file system may hold up the
// looking for ever, but neither signals nor other commands: nobody waits for its goroutine, which may end with the
// process.
func (b *beside) prepare(e *handover.Exec, fds []int) {
	if len(b.preparing) == handover.MaxExecs {
		handover.CloseAll(fds)
		b.refuse(e, fmt.Errorf("%d other commands are still being looked for", handover.MaxExecs))
		return
	}
	b.preparing[e.ID] = nil
	go func() {
		p := prepared{Exec: e}
		p.command, p.surroundings, p.err = b.look(fds)
		b.prepared <- p // has room for all
	}()
}

// find finds what the command needs that a file describes. It closes fds.
func (b *beside) find(fds []int) (words []string, s surroundings, err error) {
	if len(fds) != 1 {
		handover.CloseAll(fds)
		return nil, s, fmt.Errorf("%d files came for one command", len(fds))
	}
	command, err := handover.ReadExecCommand(fds[0])
	if err != nil {
		return nil, s, err
	}
	if s, err = b.found.with(command); err == nil {
		readAhead(s.path)
	}
	return texts(command.Command), s, err
}

// readAhead reads the beginning of a program. What hangs in that would hang in execve(2) too, where the Go runtime
// waits with the whole process: it forks by vfork(2).
func readAhead(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a FIFO
	if err != nil {
		return // execve tells
	}
	defer f.Close()
	_, _ = f.Read(make([]byte, os.Getpagesize()))
}

// refuse tells the agent of a command that was not started.
func (b *beside) refuse(e *handover.Exec, err error) {
	b.tell(&handover.ExecExit{ID: e.ID, Exit: handover.Exit{Code: codeOf(err), Error: ellipsis.Cut(err.Error(), maxExecError)}})
}

// start starts a command that was prepared, tells the agent, and obeys what that has ordered meanwhile.
func (b *beside) start(p prepared) {
	orders := b.preparing[p.ID]
	delete(b.preparing, p.ID)
	if b.over {
		return
	}
	pid, ends, err := b.run(p)
	if err != nil {
		b.refuse(p.Exec, err)
		return
	}
	c := &child{pid: pid, stdin: ends.inW, terminal: ends.master}
	b.running[p.ID] = c
	if b.sessions != nil {
		b.sessions[pid] = true
	}
	names, files := ends.agents()
	err = patiently(func() error {
		return handover.Send(b.conn, handover.FromLauncher{ExecStarted: &handover.ExecStarted{ID: p.ID, FDs: names}}, files...)
	})
	closeFiles(ends.outR, ends.errR) // the agent alone reads; what it writes to is held open, so that no cut looks like an end
	if err != nil {
		signalSession(pid, unix.SIGKILL) // its end is told
	}
	for _, o := range orders {
		b.obey(o)
	}
}

// run starts a command.
func (b *beside) run(p prepared) (pid int, ends *pipes, err error) {
	if p.err != nil {
		return 0, nil, p.err
	}
	if ends, err = (Config{Stdin: p.Stdin, TTY: p.TTY}).makePipes(); err != nil {
		return 0, nil, err
	}
	if ends.inR == nil && ends.slave == nil {
		if ends.inR, err = os.Open(os.DevNull); err != nil {
			ends.close()
			return 0, nil, err
		}
	}
	if ends.master != nil {
		size := &unix.Winsize{Row: p.Rows, Col: p.Columns}
		_ = unix.IoctlSetWinsize(int(ends.master.Fd()), unix.TIOCSWINSZ, size) // fails for nothing but a bad pointer
	}
	pid, err = p.surroundings.start(p.command, ends, true)
	ends.closeCommands()
	if err != nil {
		ends.close()
		return 0, nil, err
	}
	return pid, ends, nil
}

func texts(words [][]byte) (all []string) {
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

// agents names the descriptors that are the agent's.
func (p *pipes) agents() (names []string, fds []int) {
	for _, f := range []struct {
		name string
		file *os.File
	}{{handover.FDStdout, p.outR}, {handover.FDStderr, p.errR}, {handover.FDStdin, p.inW}, {handover.FDTerminal, p.master}} {
		if f.file != nil {
			names = append(names, f.name)
			fds = append(fds, int(f.file.Fd()))
		}
	}
	return names, fds
}

// obey does what the agent orders about a command that runs.
func (b *beside) obey(o *handover.ExecOrder) {
	if waiting, ok := b.preparing[o.ID]; ok {
		b.preparing[o.ID] = append(waiting[:min(len(waiting), maxWaiting-1)], o)
		return
	}
	c := b.running[o.ID]
	switch {
	case c == nil: // it has ended meanwhile
	case o.HangUp:
		c.hungUp = true
		hangUp(c.pid)
	case o.InputComplete && c.stdin != nil:
		c.stdin.Close()
		c.stdin = nil
	case o.Signal == int(unix.SIGKILL):
		signalSession(c.pid, unix.SIGKILL)
	case o.Signal > 0:
		c.signal(syscall.Signal(o.Signal))
	}
}

// ended tells the agent about a child that has ended, if it is one of the commands. What it has left running goes on.
func (b *beside) ended(d death) {
	if b.over {
		return
	}
	for id, c := range b.running {
		if c.pid != d.pid {
			continue
		}
		delete(b.running, id)
		if c.hungUp && c.stdin != nil { // its input was cut: what it has left running must not take that for the end
			signalSession(c.pid, unix.SIGKILL)
		}
		closeFiles(c.stdin, c.terminal)
		status := exitStatus(d.status)
		b.tell(&handover.ExecExit{ID: id, Exit: handover.Exit{Code: status.Code, Signal: status.Signal}})
	}
}

// tell sends an end. An agent that is not reached is gone.
func (b *beside) tell(e *handover.ExecExit) {
	_ = handover.Send(b.conn, handover.FromLauncher{ExecExit: e})
}

// end kills the commands, and what they have left running: all of that is in process 1's container, or in their
// sessions.
func (b *beside) end() {
	for _, c := range b.running {
		signalSession(c.pid, unix.SIGKILL)
	}
	if len(b.sessions) == 0 {
		return
	}
	for range sessionLooks { // the children of those that are killed are ours then
		killed := false
		for pid := range processes() {
			stat := statOf(pid)
			if stat.parent == os.Getpid() && b.sessions[stat.session] && stat.state != 'Z' {
				killed = unix.Kill(pid, unix.SIGKILL) == nil || killed
			}
		}
		if !killed {
			return
		}
		time.Sleep(time.Millisecond) // until those that are dead have left us their children
	}
}

// with returns the surroundings of a command beside the one that s is of.
func (s surroundings) with(c *handover.ExecCommand) (surroundings, error) {
	s.env = slices.Clone(s.env)
	for _, v := range texts(c.Environment) {
		name, value, ok := strings.Cut(v, "=")
		if !ok || name == "" {
			return s, fmt.Errorf("%q is no variable", v)
		}
		s.set(name, value)
	}
	if s.dir == "" {
		var err error
		if s.dir, err = os.Getwd(); err != nil {
			return s, fmt.Errorf("%w: %w", errWorkdir, err)
		}
	}
	if dir := string(c.Directory); dir != "" {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(s.dir, dir)
		}
		info, err := os.Stat(dir)
		if err == nil && !info.IsDir() {
			err = syscall.ENOTDIR
		}
		if err != nil {
			return s, fmt.Errorf("%w: --workdir %q: %w", errWorkdir, c.Directory, withoutPath(err))
		}
		s.dir = dir
		s.set("PWD", dir)
	}
	var err error
	s.path, err = s.find(string(c.Command[0]))
	return s, err
}

// find returns the path of a program, as a shell in these surroundings would find it.
func (s surroundings) find(name string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.dir, path)
		}
		if err := executable(path); err != nil {
			return "", notRun(name, err)
		}
		return path, nil
	}
	found := exec.ErrNotFound
	for dir := range strings.SplitSeq(s.get("PATH"), ":") {
		if !filepath.IsAbs(dir) { // "" is the directory itself
			dir = filepath.Join(s.dir, dir)
		}
		path := filepath.Join(dir, name)
		switch err := executable(path); {
		case err == nil:
			return path, nil
		case errors.Is(err, fs.ErrPermission):
			found = err
		}
	}
	return "", notRun(name, found)
}

// executable says why a file can't be executed by us.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return withoutPath(err)
	case info.IsDir():
		return syscall.EISDIR
	}
	return unix.Access(path, unix.X_OK)
}

// get returns the value of a variable; empty: it is not set.
func (s *surroundings) get(name string) string {
	for _, v := range slices.Backward(s.env) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}
