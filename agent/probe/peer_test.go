package probe

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"
)

// The workload "connect SOCKET": says the id of its own cgroup and stays connected.
func init() {
	workloads["connect"] = func(args []string) error {
		conn, err := net.Dial("unix", args[0])
		if err != nil {
			return err
		}
		id, err := OwnCgroup()
		_, _ = conn.Write([]byte(strconv.FormatUint(id, 10) + "\n"))
		return err
	}
}

func TestPeerCgroup(t *testing.T) {
	if kernelBefore(6, 13) {
		t.Skipf("PIDFD_GET_INFO came with Linux 6.13, this is %s", release())
	}
	job := newGroup(t, "")
	want, err := cgroupID(job.dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := job.start(t, "connect", l.Addr().String())
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(buf[:n]); got != strconv.FormatUint(want, 10)+"\n" {
		t.Errorf("OwnCgroup() there = %s, want %d", got, want)
	}
	if got, err := PeerCgroup(conn); err != nil || got != want {
		t.Errorf("PeerCgroup() = %d, %v, want %d", got, err, want)
	}

	w.done(t)
	w.end(t)
	if id, err := PeerCgroup(conn); err == nil {
		t.Errorf("PeerCgroup() of a process that has ended = %d", id)
	} else {
		t.Log(err)
	}
}

func TestPeerCgroupBefore613(t *testing.T) {
	if !kernelBefore(6, 13) {
		t.Skipf("this is %s", release())
	}
	if id, err := OwnCgroup(); err == nil {
		t.Errorf("OwnCgroup() = %d", id)
	} else {
		t.Log(err)
	}
}
