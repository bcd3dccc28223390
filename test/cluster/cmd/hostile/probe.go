package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// What the agent and the kubelet put into the job's container, and beside it.
const (
	runDir   = "/run/hodei"
	launcher = runDir + "/hodei-worker"
	socket   = runDir + "/agent.sock"
	message  = "/dev/termination-log"
)

// forged is an exit record as the agent leaves one, of a success.
const forged = `{"code":0,"cause":"Completed","end":"0"}`

// probe tries all that does not end the job, and prints what came of it.
func probe() {
	holds()
	files()
	processes()
	network()
}

// result prints what came of one try.
func result(what string, err error) {
	if err == nil {
		fmt.Printf("%s: ok\n", what)
		return
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = errno // the same words, whatever was called
	}
	fmt.Printf("%s: %v\n", what, err)
}

// holds prints what the job holds: its environment, descriptors and privileges.
func holds() {
	for _, v := range os.Environ() {
		fmt.Println("environment:", v)
	}
	names, err := os.ReadDir("/proc/self/fd")
	result("list own descriptors", err)
	for _, n := range names {
		// Of ReadDir's own, and the runtime's, which came after the start.
		if to, err := os.Readlink("/proc/self/fd/" + n.Name()); err == nil && !strings.Contains(to, "anon_inode:[event") {
			fmt.Printf("descriptor: %s %s\n", n.Name(), strings.TrimRight(to, "0123456789:[]"))
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	result("read own status", err)
	for line := range strings.Lines(string(status)) {
		switch name, value, _ := strings.Cut(strings.TrimSpace(line), ":"); name {
		case "Uid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp":
			fmt.Printf("%s: %s\n", name, strings.Join(strings.Fields(value), " "))
		}
	}
	for _, path := range []string{"/var/run/secrets/kubernetes.io/serviceaccount/token", "/run/secrets", "/etc/hodei", "/var/spool/hodei"} {
		_, err := os.Lstat(path)
		result("stat "+path, err)
	}
}

// files tries what lies between the two containers, and the container's own message.
func files() {
	open := func(path string, flags int) error {
		f, err := os.OpenFile(path, flags, 0o777)
		if err == nil {
			f.Close()
		}
		return err
	}
	result("write the launcher", open(launcher, os.O_WRONLY))
	result("truncate the launcher", os.Truncate(launcher, 0))
	result("remove the launcher", os.Remove(launcher))
	result("rename the launcher", os.Rename(launcher, launcher+".old"))
	result("replace the launcher", os.Rename("/proc/self/exe", launcher))
	result("chmod the launcher", os.Chmod(launcher, 0o777))
	result("make a file beside the launcher", open(runDir+"/x", os.O_CREATE|os.O_WRONLY))
	result("make a link beside the launcher", os.Symlink("/etc/passwd", runDir+"/hodei-worker.tmp"))
	result("make a directory beside the launcher", os.Mkdir(runDir+"/d", 0o777))
	result("remount the launcher's directory", syscall.Mount("", runDir, "", syscall.MS_REMOUNT|syscall.MS_BIND, ""))
	result("mount over the launcher's directory", syscall.Mount("none", runDir, "tmpfs", 0, ""))
	result("enter a user namespace", syscall.Unshare(syscall.CLONE_NEWUSER))
	_, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socket, Net: "unixpacket"})
	result("dial the agent's socket", err)
	_, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	result("make a socket in its place", err)
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/tasks")
	for _, path := range append(groups, "/sys/fs/cgroup/cgroup.procs", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger") {
		result("write "+path, open(path, os.O_WRONLY))
	}
	result("forge the container's message", os.WriteFile(message, []byte(forged), 0o666))
}

// processes tries process 1, and looks for the agent's.
func processes() {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		if text, err := os.ReadFile(path); err == nil {
			fmt.Println("process:", strings.ReplaceAll(strings.TrimRight(string(text), "\x00"), "\x00", " "))
		}
	}
	for _, name := range []string{"mem", "environ", "maps", "auxv"} {
		_, err := os.ReadFile("/proc/1/" + name)
		result("read process 1's "+name, err)
	}
	for _, name := range []string{"exe", "cwd", "root", "fd/1", "ns/net"} {
		_, err := os.Readlink("/proc/1/" + name)
		result("follow process 1's "+name, err)
	}
	_, err := os.ReadDir("/proc/1/fd")
	result("list process 1's descriptors", err)
	result("trace process 1", syscall.PtraceAttach(1))
	buf := make([]byte, 16)
	local := syscall.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	remote := [2]uintptr{0x400000, uintptr(len(buf))} // where a Go program's text is
	_, _, errno := syscall.Syscall6(310 /* process_vm_readv */, 1, uintptr(unsafe.Pointer(&local)), 1,
		uintptr(unsafe.Pointer(&remote)), 1, 0)
	result("read process 1's memory", orNil(errno))
	pidfd, _, errno := syscall.Syscall(434 /* pidfd_open */, 1, 0, 0)
	result("open process 1's pidfd", orNil(errno))
	_, _, errno = syscall.Syscall(438 /* pidfd_getfd */, pidfd, 1, 0)
	result("take process 1's descriptor", orNil(errno))
	result("set own uid to 0", syscall.Setuid(0))
}

// network tries the agent's port, and what would let a job watch or break the
// connections of its Pod.
func network() {
	for kind, protocol := range map[string]int{"raw": syscall.IPPROTO_TCP, "packet": 0x0300} {
		family := map[string]int{"raw": syscall.AF_INET, "packet": syscall.AF_PACKET}[kind]
		_, err := syscall.Socket(family, syscall.SOCK_RAW, protocol)
		result("make a "+kind+" socket", err)
	}
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", agentPort), 5*time.Second)
	if err != nil {
		result("speak to the agent's port", err)
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")) // what it does to the answer counts
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if n > 0 {
		err = nil
	}
	result("hear from the agent's port", err)
}

func orNil(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
