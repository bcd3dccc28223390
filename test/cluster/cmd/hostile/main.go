// Command hostile is what a job might try against the agent beside it, against
// its launcher and against its node, for the tests that hold it back. It needs no
// right to run. It is the program of registry.local/hostile:1.
//
//	hostile probe                  print "what: result" of each try, one a line
//	hostile dial|storm N SECONDS   keep N loops busy with the agent's port
//	hostile flight                 keep as many descriptors in flight as its uid may
//	hostile ports                  keep every port that a connection could be made from
//	hostile fill PATH              write to a file until that fails
//	hostile fork                   start processes that start processes
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// agentPort is where the agent listens, on the Pod's loopback.
const agentPort = 25051

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "probe":
		probe()
		return nil
	case len(args) == 3 && (args[0] == "dial" || args[0] == "storm"):
		return flood(args[0], args[1], args[2])
	case len(args) == 1 && args[0] == "flight":
		return flight()
	case len(args) == 1 && args[0] == "ports":
		return ports()
	case len(args) == 2 && args[0] == "fill":
		return fill(args[1])
	case len(args) == 1 && args[0] == "fork":
		return fork()
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// flood keeps loops busy with the agent's port, and says how often they came through.
func flood(kind, loops, seconds string) error {
	n, err := strconv.Atoi(loops)
	if err != nil {
		return err
	}
	s, err := strconv.Atoi(seconds)
	if err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(s) * time.Second)
	var connected, refused atomic.Int64
	var work sync.WaitGroup
	fmt.Println("flooding")
	for range n {
		work.Go(func() {
			var held [8]net.Conn // as long as the agent lets them
			for i := 0; time.Now().Before(end); i++ {
				if kind == "storm" {
					if storm() != nil {
						refused.Add(1)
					} else {
						connected.Add(1)
					}
					continue
				}
				conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", agentPort), time.Second)
				if err != nil {
					refused.Add(1)
					continue
				}
				connected.Add(1)
				if old := held[i%len(held)]; old != nil {
					old.Close()
				}
				held[i%len(held)] = conn
			}
		})
	}
	work.Wait()
	fmt.Printf("%s with %d loops: %d connections, %d refusals in %d s\n", kind, n, connected.Load(), refused.Load(), s)
	return nil
}

// storm begins a connection and leaves it: nothing is waited for, so that the
// listener's queue is as full as one can keep it.
func storm() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	err = syscall.Connect(fd, &syscall.SockaddrInet4{Port: agentPort, Addr: [4]byte{127, 0, 0, 1}})
	if errors.Is(err, syscall.EINPROGRESS) {
		return nil
	}
	return err
}

// rightsOfMessage is how many descriptors one message takes: SCM_MAX_FD.
const rightsOfMessage = 253

// flight puts descriptors on their way through unix sockets that nobody reads, until the
// kernel takes no more of its uid's, and goes on to take what room others leave.
func flight() error {
	pipe := make([]int, 2)
	if err := syscall.Pipe(pipe); err != nil {
		return err
	}
	fds := make([]int, rightsOfMessage)
	for i := range fds {
		fds[i] = pipe[0]
	}
	count, said := 0, false
	for n := rightsOfMessage; ; {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		for err = nil; err == nil || errors.Is(err, syscall.ETOOMANYREFS); {
			switch err = syscall.Sendmsg(pair[0], []byte{0}, syscall.UnixRights(fds[:n]...), nil, 0); {
			case err == nil:
				count += n
			case !errors.Is(err, syscall.ETOOMANYREFS):
			case n > 1:
				n = 1 // up to the last one
			default:
				if !said {
					said = true
					fmt.Printf("full with %d in flight\n", count)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if !errors.Is(err, syscall.EAGAIN) { // this pair has no more room
			return err
		}
	}
}

// ports takes the ports that the kernel chooses from for a connection on loopback,
// as many as one process may hold, and tries for the rest until it is ended.
func ports() error {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return err
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return err
	}
	held := map[int]bool{}
	for said := false; ; time.Sleep(time.Millisecond) {
		for port := first; port <= last; port++ {
			if held[port] {
				continue
			}
			fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
			if err != nil {
				break // it holds as many as it may
			}
			if err := syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				syscall.Close(fd) // somebody else's, for now
				continue
			}
			held[port] = true
		}
		if !said {
			fmt.Printf("holds %d of %d ports\n", len(held), last-first+1)
			said = true
		}
	}
}

// fill writes until that fails.
func fill(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for written := int64(0); ; {
		n, err := f.Write(block)
		written += int64(n)
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", written, err)
		}
		if written%(64<<20) == 0 {
			fmt.Printf("%d MiB in %s\n", written>>20, path)
		}
	}
}

// fork starts copies of itself until that fails, and waits.
func fork() error {
	for n := 0; ; n++ {
		if err := exec.Command("/proc/self/exe", "fork").Start(); err != nil {
			fmt.Printf("after %d: %v\n", n, err)
			time.Sleep(time.Second)
		}
	}
}
