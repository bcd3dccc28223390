// Package handover is what the agent and the launcher, two processes in two containers, say to each other:
// a unix socket of type SOCK_SEQPACKET, which keeps message boundaries. Every packet is one JSON object.
// The launcher speaks first, with a [Hello] that carries file descriptors. Start with [FromLauncher] and
// [FromAgent], and with [Accept], the agent's side of the first message.
//
// It carries messages, and decides nothing: what they bring about is in agent and in agent/launcher.
package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Version changes with the meaning of the messages. Both sides come
// from one binary, so a difference means that somebody else is calling.
const Version = 1

// DialWait bounds how long the launcher looks for the agent's socket, and then the agent waits
// for its hello. The kubelet starts the agent's container first, so it is there within
// milliseconds or it is not coming.
const DialWait = 30 * time.Second

// DoneWait is how long the launcher waits for the agent's answer to its exit
// message: the agent reads the job's cgroup in that time, which is gone once
// the launcher is.
const DoneWait = 2 * time.Second

// MaxPacket bounds a message; the longest holds an error text.
const MaxPacket = 4096

// PipeBytes is how much the command can print before the agent has to have read
// some. With Linux' own 64 KiB, agent and command woke each other for every few KiB,
// which cost a fifth of the throughput. A program that writes line by line filled 256
// KiB nearly each time that the agent rested, and stood still. A user's pipes may hold
// 64 MiB in all, on one node; beyond that they keep their size.
const PipeBytes = 512 << 10

// MakePipe makes one of the command's pipes. It blocks, as programs expect; that also keeps it
// out of Go's poller, which each write would wake.
func MakePipe() (r, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, os.NewSyscallError("pipe2", err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "pipe"), os.NewFile(uintptr(fds[1]), "pipe")
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, PipeBytes) // else it is slower
	return r, w, nil
}

// Names of the descriptors in a Hello.
const (
	FDStdout       = "stdout"       // read end of the command's stdout pipe
	FDStderr       = "stderr"       // read end of its stderr pipe; absent with one pipe for both
	FDStdin        = "stdin"        // write end of its stdin pipe; absent if its input is empty
	FDTerminal     = "terminal"     // master of its terminal, in place of the three pipes
	FDCgroup       = "cgroup"       // /sys/fs/cgroup as the job's container sees it; absent if there is none
	FDContainerOut = "containerOut" // the launcher's own stdout
	FDContainerErr = "containerErr" // the launcher's own stderr
)

// FromLauncher is what the launcher sends; exactly one field is set.
type FromLauncher struct {
	Hello   *Hello   `json:"hello,omitempty"`
	Started *Started `json:"started,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
	Cgroup  *Cgroup  `json:"cgroup,omitempty"`
	Failed  *Failed  `json:"failed,omitempty"`
	// ExecStarted and ExecExit answer an Exec: at most one of the first, with descriptors, and one of the second.
	ExecStarted *ExecStarted `json:"execStarted,omitempty"`
	ExecExit    *ExecExit    `json:"execExit,omitempty"`
}

// Hello is the launcher's first message.
type Hello struct {
	// Version is the sender's.
	Version int `json:"version"`
	// FDs names the descriptors that came with the message, in their order.
	FDs []string `json:"fds"`
	// OwnCgroup2 tells that the launcher's cgroup of version 2 is its container's alone.
	OwnCgroup2 bool `json:"ownCgroup2,omitempty"`
}

// Cgroup answers TellCgroup.
type Cgroup struct {
	// ID is the kernel's number of the launcher's cgroup of version 2; 0: unknown.
	ID uint64 `json:"id"`
}

// Failed comes instead of a Hello whose descriptors could not be sent.
type Failed struct {
	// Error is why they could not be sent.
	Error string `json:"error"`
}

// Started tells that the command runs.
type Started struct {
	// Time is when it was started, by the launcher's clock.
	Time time.Time `json:"time"`
}

// ExecStarted tells that a command runs beside the job's.
type ExecStarted struct {
	// ID is the Exec's.
	ID uint64 `json:"id"`
	// FDs names the descriptors that came with the message, in their order: those of the command's streams.
	FDs []string `json:"fds"`
}

// ExecExit tells that a command beside the job's has ended, or was not started.
type ExecExit struct {
	// ID is the Exec's.
	ID uint64 `json:"id"`
	// Exit is how it ended. Only Code, Signal and Error are set.
	Exit
}

// Exit says how the command ended, or why it never ran.
type Exit struct {
	// Code is the exit status: the command's, or 128 and the Signal that killed it.
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
	// Error is why the command never ran; empty: it did.
	Error    string    `json:"error,omitempty"`
	Finished time.Time `json:"finished"`
	// Told says that the launcher got a signal while the command ran: from the kubelet, or from
	// within the container.
	Told bool `json:"told,omitempty"`
	// CPUUser and CPUSystem, in nanoseconds, are what the launcher's children have used
	// that have ended, and theirs.
	CPUUser   time.Duration `json:"cpuUser,omitempty"`
	CPUSystem time.Duration `json:"cpuSystem,omitempty"`
	// PeakBytes is the most memory that one of them held; 0: not known, because the
	// launcher itself, which they are before they are themselves, has held more.
	PeakBytes uint64 `json:"peakBytes,omitempty"`
}

// FromAgent is what the agent sends; exactly one field is set.
type FromAgent struct {
	// TellCgroup asks, before Start, for a Cgroup: an agent in another PID namespace
	// can't ask the kernel.
	TellCgroup bool `json:"tellCgroup,omitempty"`
	// Start lets the command start.
	Start bool `json:"start,omitempty"`
	// Signal is to be sent to the command's process group.
	Signal int `json:"signal,omitempty"`
	// HangUp ends a command at a terminal: SIGHUP and SIGCONT, and then SIGTERM, to each process of its
	// session. Interactive shells ignore SIGTERM, and their jobs are in process groups of their own.
	HangUp bool `json:"hangUp,omitempty"`
	// InputComplete tells that all input is written: the command may read the end of its stdin.
	InputComplete bool `json:"inputComplete,omitempty"`
	// Exec has the launcher start a command beside the job's, and ExecOrder is for one that it has started.
	Exec      *Exec      `json:"exec,omitempty"`
	ExecOrder *ExecOrder `json:"execOrder,omitempty"`
	// Wait asks for another DoneWait before the answer to an Exit.
	Wait bool `json:"wait,omitempty"`
	// Done answers an Exit: the agent has taken its last sample.
	Done bool `json:"done,omitempty"`
	// Code, with Done, is the launcher's exit status instead of the command's, so that the
	// container's is what hodei run ends with; 0: the command's own.
	Code int `json:"code,omitempty"`
}

// Exec has the launcher start a command beside the job's. A file with an [ExecCommand] comes with it.
type Exec struct {
	// ID is chosen by the agent, which gives out each once.
	ID uint64 `json:"id"`
	// Stdin gives the command a pipe for its input; otherwise that is empty.
	Stdin bool `json:"stdin,omitempty"`
	// TTY gives the command a terminal in place of pipes, of so many rows and columns; 0: it does not say.
	TTY     bool   `json:"tty,omitempty"`
	Rows    uint16 `json:"rows,omitempty"`
	Columns uint16 `json:"columns,omitempty"`
}

// ExecOrder is about a command beside the job's; one field besides ID is set.
type ExecOrder struct {
	ID uint64 `json:"id"`
	// Signal is as FromAgent's.
	Signal int `json:"signal,omitempty"`
	// HangUp sends SIGHUP, SIGCONT and SIGTERM to each process of the command's session.
	HangUp bool `json:"hangUp,omitempty"`
	// InputComplete is as FromAgent's.
	InputComplete bool `json:"inputComplete,omitempty"`
}

// Send writes one message, of at most MaxPacket bytes as JSON, with descriptors if any are given.
func Send(c *net.UnixConn, msg any, fds ...int) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if len(b) > MaxPacket {
		return fmt.Errorf("message of %d bytes", len(b))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// Receive reads one message and the descriptors that came with it, which are
// the caller's to close.
func Receive(c *net.UnixConn, msg any) ([]int, error) {
	buf := make([]byte, MaxPacket)
	oob := make([]byte, unix.CmsgSpace(8*4)) // up to 8 descriptors of 4 bytes
	n, oobn, flags, _, readErr := c.ReadMsgUnix(buf, oob)
	// An empty packet reads as io.EOF and may have brought descriptors all the same.
	fds, err := parseRights(oob[:oobn])
	switch {
	case readErr != nil:
		err = readErr
	case err != nil:
	case n == 0:
		err = io.EOF // how SEQPACKET says that the other side is gone
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("message of more than %d bytes or 8 descriptors", MaxPacket)
	default:
		err = json.Unmarshal(buf[:n], msg)
	}
	if err != nil {
		CloseAll(fds)
		return nil, err
	}
	return fds, nil
}

func parseRights(oob []byte) ([]int, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("parse control message: %w", err)
	}
	var fds []int
	for _, m := range msgs {
		if got, err := unix.ParseUnixRights(&m); err == nil { // else it is no SCM_RIGHTS
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

// CloseAll closes descriptors that came with a message and that nobody wants.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Files are a launcher's descriptors by name: FDStdout and those after it.
type Files map[string]*os.File

// Close closes all files. Nil has none.
func (f Files) Close() {
	for _, file := range f {
		file.Close()
	}
}

// Launcher is a launcher that was let in, and what it brought: the agent's side of the handover.
type Launcher struct {
	// Conn takes FromAgent and gives FromLauncher.
	Conn  *net.UnixConn
	Files Files
	// OwnCgroup2 is as its hello says.
	OwnCgroup2 bool
}

// Close closes the connection, which the launcher takes for the agent's end, and all files.
func (l *Launcher) Close() {
	l.Conn.Close()
	l.Files.Close()
}

// Listen makes the socket, open to whatever user the job runs as: the launcher comes before
// any of the job's own code, and only one is let in. What was at path before is removed.
func Listen(path string) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Accept takes the first connection, and closes and unlinks the socket. It waits at most
// DialWait for the hello.
func Accept(l *net.UnixListener) (*Launcher, error) {
	conn, err := l.AcceptUnix()
	l.Close() // unlinks too
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(DialWait))
	launcher, err := AcceptHello(conn)
	_ = conn.SetReadDeadline(time.Time{})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return launcher, nil
}

// AcceptHello reads the launcher's first message, and what came with it. The pipes of its
// command don't block, and the connection is the Launcher's unless there is an error.
func AcceptHello(c *net.UnixConn) (*Launcher, error) {
	var msg FromLauncher
	fds, err := Receive(c, &msg)
	if err != nil {
		return nil, err
	}
	if msg.Failed != nil {
		CloseAll(fds)
		return nil, errors.New(msg.Failed.Error)
	}
	if err := checkHello(msg.Hello, len(fds)); err != nil {
		CloseAll(fds)
		return nil, err
	}
	files := Files{}
	for i, name := range msg.Hello.FDs {
		files[name], err = openFile(name, fds[i])
		if err != nil {
			files.Close()
			CloseAll(fds[i+1:])
			return nil, err
		}
	}
	return &Launcher{Conn: c, Files: files, OwnCgroup2: msg.Hello.OwnCgroup2}, nil
}

// openFile makes a file of a launcher's descriptor, and has it not block if it is one of the command's
// pipes. The other ones are shared with the container's runtime and stay as they are.
func openFile(name string, fd int) (*os.File, error) {
	nonblock := func() error {
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("make %s non-blocking: %w", name, err)
		}
		return nil
	}
	switch name {
	case FDStdin: // Go's poller has it, so that a write waits for room and a Close ends the wait
		if err := nonblock(); err != nil {
			unix.Close(fd)
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	case FDStdout, FDStderr, FDTerminal:
		// While it still blocks, so that it does not go into Go's poller, which each write of the
		// command would wake.
		f := os.NewFile(uintptr(fd), name)
		return f, nonblock()
	}
	return os.NewFile(uintptr(fd), name), nil
}

// checkHello says what is wrong with a first message that came with n descriptors.
func checkHello(h *Hello, n int) error {
	switch {
	case h == nil:
		return fmt.Errorf("the first message is not a hello")
	case h.Version != Version:
		return fmt.Errorf("handover version %d, want %d", h.Version, Version)
	}
	err := checkNames(h.FDs, n)
	if err == nil && !slices.Contains(h.FDs, FDStdout) && !slices.Contains(h.FDs, FDTerminal) {
		err = errors.New("no stdout pipe came")
	}
	return err
}

// checkNames says what is wrong with the names of n descriptors.
func checkNames(names []string, n int) error {
	if len(names) != n {
		return fmt.Errorf("%d descriptors came for %d names", n, len(names))
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("descriptor %q came twice", name)
		}
	}
	return nil
}

// AskCgroup asks the launcher, before the command may start, for the number of its cgroup; 0: unknown.
func AskCgroup(conn *net.UnixConn) uint64 {
	if Send(conn, FromAgent{TellCgroup: true}) != nil {
		return 0
	}
	_ = conn.SetReadDeadline(time.Now().Add(DoneWait))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()
	var m FromLauncher
	fds, err := Receive(conn, &m)
	CloseAll(fds)
	if err != nil || m.Cgroup == nil {
		return 0
	}
	return m.Cgroup.ID
}

// Peer is the other end of a unix socket.
type Peer struct {
	PID  int // 0: in another PID namespace, or not to be had
	UID  uint32
	Seen bool // the kernel has told
}

// PeerOf asks the kernel who has made the other end of a connection, by SO_PEERCRED: unix(7).
// The zero Peer is one of which that is not told.
func PeerOf(conn *net.UnixConn) (p Peer) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return p
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = Peer{int(cred.Pid), cred.Uid, true}
		}
	})
	return p
}
