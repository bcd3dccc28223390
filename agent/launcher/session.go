package launcher

import (
	"bytes"
	"fmt"
	"iter"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// sessionLooks bounds how often signalSession looks for processes that were just made.
const sessionLooks = 5

// signalSession sends a signal once to every process of the session that pid leads, in whatever process
// group it is. A process that is made meanwhile may be missed if it makes others without end.
func signalSession(pid int, s syscall.Signal) {
	told := map[int]bool{}
	if _, err := os.Stat("/proc/self"); err != nil {
		_ = unix.Kill(-pid, s)
	}
	for range sessionLooks {
		before := len(told)
		for member := range processes() {
			if told[member] || member != pid && statOf(member).session != pid {
				continue
			}
			told[member] = true
			_ = unix.Kill(member, s)
		}
		if len(told) == before {
			return
		}
	}
}

// hangUp tells every process of the session that pid leads that it is to end. Interactive shells ignore SIGTERM
// alone.
func hangUp(pid int) {
	for _, s := range []syscall.Signal{unix.SIGHUP, unix.SIGCONT, unix.SIGTERM} {
		signalSession(pid, s)
	}
}

// processes are the ids of all that can be seen.
func processes() iter.Seq[int] {
	return func(yield func(int) bool) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return
		}
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && !yield(pid) {
				return
			}
		}
	}
}

// stat is what /proc/PID/stat says: proc_pid_stat(5). The zero value is of a process that has gone.
type stat struct {
	state           byte
	parent, session int
}

func statOf(pid int) stat {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}
	}
	return parseStat(text)
}

// parseStat reads /proc/PID/stat. The name, in parentheses, may have any bytes in it.
func parseStat(text []byte) stat {
	_, rest, _ := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
	fields := bytes.Fields(rest) // state, parent, group, session
	if len(fields) < 4 {
		return stat{}
	}
	s := stat{state: fields[0][0]}
	s.parent, _ = strconv.Atoi(string(fields[1]))
	s.session, _ = strconv.Atoi(string(fields[3]))
	return s
}
