package kernel

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// runJob does what a test's job is to do: WHAT or WHAT=ARGUMENT.
func runJob(text string) error {
	what, argument, _ := strings.Cut(text, "=")
	switch what {
	case "burn":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return err
		}
		return burn(d)
	case "throttled":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return err
		}
		err = burn(d)
		time.Sleep(quotaPeriod) // the launcher's own end is to have a whole quota
		return err
	case "touch":
		n, err := strconv.Atoi(argument)
		if err != nil {
			return err
		}
		return touch(n)
	case "write":
		return write(argument)
	case "loopback":
		return loopback(argument)
	case "send":
		return send(argument)
	}
	return fmt.Errorf("no such job: %q", text)
}

// quotaPeriod is that of the throttled job: a fifth of it is more than the launcher's end
// takes on an emulated CPU, so that nothing is throttled after the last sample.
const quotaPeriod = time.Second

// burn computes until this process has used so much CPU time.
func burn(d time.Duration) error {
	for {
		var used unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
			return err
		}
		if time.Duration(used.Utime.Nano()+used.Stime.Nano()) >= d {
			return nil
		}
		for range 100_000 {
		}
	}
}

// touch writes to so many MiB of memory and keeps them until it is told to go on.
func touch(mib int) error {
	b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += os.Getpagesize() {
		b[i] = 1
	}
	return nil
}

// written is what the job write writes.
const written = 64 << 20

// write writes a file and has the disk keep it.
func write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for range written >> 20 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// transferred is what the jobs loopback and send send.
const transferred = 8 << 20

// loopback sends to itself, over an address of this machine.
func loopback(address string) error {
	l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn)
			conn.Close()
		}
		received <- err
	}()
	if err := send(l.Addr().String()); err != nil {
		return err
	}
	return <-received
}

// send sends to whoever listens.
func send(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	if _, err := conn.Write(make([]byte, transferred)); err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn) // until the other side has it all
	return err
}
