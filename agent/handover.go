package agent

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

// The launcher and the agent talk over a unix socket of type SOCK_SEQPACKET,
// which keeps message boundaries: every packet is one JSON object. The launcher
// speaks first, with a helloMsg that carries file descriptors.

// handoverVersion changes with the meaning of the messages. Both sides come
// from one binary, so a difference means that somebody else is calling.
const handoverVersion = 1

// maxPacket bounds a message; the longest holds an error text.
const maxPacket = 4096

// Names of the descriptors in a helloMsg.
const (
	fdStdout       = "stdout"       // read end of the command's stdout pipe
	fdStderr       = "stderr"       // read end of its stderr pipe; absent with one pipe for both
	fdCgroup       = "cgroup"       // /sys/fs/cgroup as the job's container sees it; absent if there is none
	fdContainerOut = "containerOut" // the launcher's own stdout
	fdContainerErr = "containerErr" // the launcher's own stderr
)

// launcherMsg is what the launcher sends; exactly one field is set.
type launcherMsg struct {
	Hello   *helloMsg   `json:"hello,omitempty"`
	Started *startedMsg `json:"started,omitempty"`
	Exit    *exitMsg    `json:"exit,omitempty"`
	Cgroup  *cgroupMsg  `json:"cgroup,omitempty"`
	Failed  *failedMsg  `json:"failed,omitempty"`
}

type helloMsg struct {
	Version int `json:"version"`
	// FDs names the descriptors that came with the message, in their order.
	FDs []string `json:"fds"`
	// OwnCgroup2 tells that the launcher's cgroup of version 2 is its container's alone.
	OwnCgroup2 bool `json:"ownCgroup2,omitempty"`
}

// cgroupMsg answers TellCgroup.
type cgroupMsg struct {
	// ID is the kernel's number of the launcher's cgroup of version 2; 0: unknown.
	ID uint64 `json:"id"`
}

// failedMsg comes instead of a helloMsg whose descriptors could not be sent.
type failedMsg struct {
	Error string `json:"error"`
}

type startedMsg struct {
	Time time.Time `json:"time"`
}

// exitMsg says how the command ended, or why it never ran.
type exitMsg struct {
	Code     int       `json:"code"`
	Signal   int       `json:"signal,omitempty"`
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

// agentMsg is what the agent sends; exactly one field is set.
type agentMsg struct {
	// TellCgroup asks, before Start, for a cgroupMsg: an agent in another PID namespace
	// can't ask the kernel.
	TellCgroup bool `json:"tellCgroup,omitempty"`
	// Start lets the command start.
	Start bool `json:"start,omitempty"`
	// Signal is to be sent to the command's process group.
	Signal int `json:"signal,omitempty"`
	// Wait asks for another doneWait before the answer to an exitMsg.
	Wait bool `json:"wait,omitempty"`
	// Done answers an exitMsg: the agent has taken its last sample.
	Done bool `json:"done,omitempty"`
	// Code, with Done, is the launcher's exit status instead of the command's, so that the
	// container's is what hodei run ends with; 0: the command's own.
	Code int `json:"code,omitempty"`
}

// send writes one message, with descriptors if any are given.
func send(c *net.UnixConn, msg any, fds ...int) error {
	b, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	if len(b) > maxPacket {
		return fmt.Errorf("message of %d bytes", len(b))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive reads one message and the descriptors that came with it, which are
// the caller's to close.
func receive(c *net.UnixConn, msg any) ([]int, error) {
	buf := make([]byte, maxPacket)
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
		err = fmt.Errorf("message of more than %d bytes or 8 descriptors", maxPacket)
	default:
		err = json.Unmarshal(buf[:n], msg)
	}
	if err != nil {
		closeAll(fds)
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

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// handedOver are the launcher's descriptors by name.
type handedOver map[string]*os.File

// acceptHello reads the launcher's first message, and what came with it.
func acceptHello(c *net.UnixConn) (handedOver, *helloMsg, error) {
	var msg launcherMsg
	fds, err := receive(c, &msg)
	if err != nil {
		return nil, nil, err
	}
	if msg.Failed != nil {
		closeAll(fds)
		return nil, nil, errors.New(msg.Failed.Error)
	}
	if err := checkHello(msg.Hello, len(fds)); err != nil {
		closeAll(fds)
		return nil, nil, err
	}
	files := handedOver{}
	for i, name := range msg.Hello.FDs {
		// While they still block: those don't go into Go's poller, see pipe.
		files[name] = os.NewFile(uintptr(fds[i]), name)
	}
	for _, name := range []string{fdStdout, fdStderr} {
		// The other ones are shared with the container's runtime and stay as they are.
		if f := files[name]; f != nil {
			if err := unix.SetNonblock(int(f.Fd()), true); err != nil {
				files.close()
				return nil, nil, fmt.Errorf("make %s non-blocking: %w", name, err)
			}
		}
	}
	return files, msg.Hello, nil
}

// checkHello says what is wrong with a first message that came with n descriptors.
func checkHello(h *helloMsg, n int) error {
	switch {
	case h == nil:
		return fmt.Errorf("the first message is not a hello")
	case h.Version != handoverVersion:
		return fmt.Errorf("handover version %d, want %d", h.Version, handoverVersion)
	case len(h.FDs) != n:
		return fmt.Errorf("%d descriptors came for %d names", n, len(h.FDs))
	case !slices.Contains(h.FDs, fdStdout):
		return fmt.Errorf("no stdout pipe came")
	}
	for i, name := range h.FDs {
		if slices.Contains(h.FDs[:i], name) {
			return fmt.Errorf("descriptor %q came twice", name)
		}
	}
	return nil
}
