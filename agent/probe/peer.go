package probe

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// PeerCgroup is the id of the v2 cgroup of the process that has connected conn's
// other end; for a listener's side, of who has called connect. It needs Linux 6.13
// and no privilege, and a process that is still there. The kernel answers EREMOTE
// for one in another PID namespace than ours and those below: between containers of
// a Pod there is [OwnCgroup] and a message. An error says what is missing.
func PeerCgroup(conn *net.UnixConn) (uint64, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var pidfd int
	var failure error
	err = raw.Control(func(fd uintptr) {
		pidfd, failure = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	})
	if err := errors.Join(err, failure); err != nil {
		return 0, fmt.Errorf("ask for the peer's process (SO_PEERPIDFD, Linux 6.5): %w", err)
	}
	defer unix.Close(pidfd)
	return cgroupOf(pidfd)
}

// OwnCgroup is the id of this process's v2 cgroup. It needs Linux 6.13 and no
// privilege; the launcher can tell it to an agent in another PID namespace.
func OwnCgroup() (uint64, error) {
	pidfd, err := unix.PidfdOpen(unix.Getpid(), 0)
	if err != nil {
		return 0, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	return cgroupOf(pidfd)
}

func cgroupOf(pidfd int) (uint64, error) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_CGROUPID}
	if err := unix.IoctlPidfdInfo(pidfd, &info); err != nil {
		return 0, fmt.Errorf("ask for a process's cgroup (PIDFD_GET_INFO, Linux 6.13): %w", err)
	}
	if info.Mask&unix.PIDFD_INFO_CGROUPID == 0 || info.Cgroupid == 0 {
		return 0, errors.New("the kernel does not tell a process's cgroup id")
	}
	return info.Cgroupid, nil
}
