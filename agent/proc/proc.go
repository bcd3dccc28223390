// Package proc measures a process's descendants by /proc, as cgroup measures a cgroup by its files. Start
// with [Open]. It reads, and says what it has seen; which figure of a job that becomes is the agent's.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxProcesses bounds what one look at the job's processes costs, some 10 µs each.
	// Of a larger tree nothing is said but what was seen before: a part of it is not
	// the job.
	maxProcesses = 4096
	// maxChildrenBytes is a list of as many children, of 7 digits each, and one more
	// page to notice that there are others.
	maxChildrenBytes = 8*maxProcesses + 4096
	// tick is the unit of CPU time in /proc: USER_HZ is 100 in every Linux ABI that
	// Go runs on, whatever the kernel's own clock.
	tick = 10 * time.Millisecond
)

// Tree measures the launcher's descendants by /proc, for a job that has no
// container: proc(5). What has ended is in it as far as its parent has waited for it,
// which the launcher does for all that nobody else does. One goroutine may use it.
type Tree struct {
	root     string // of the mount
	launcher int
	began    uint64 // of the launcher, in ticks since boot: another may get its number
	// before is the launcher's own I/O before it had a child; nil: it can't be read,
	// and then neither can that of the children that have ended.
	before *IO
	// reaped replaces the launcher's count of ended children, once that is final.
	reaped *Spent

	cpu      Spent // the most that was seen: who ends during a look is missed in it
	io       IO
	children []byte
	buf      [4096]byte
}

// Spent is CPU time.
type Spent struct{ User, System time.Duration }

// IO is what went from and to block devices, in bytes.
type IO struct{ Read, Written uint64 }

// Look is what one look at the processes gives.
type Look struct {
	// CPU and IO are of all processes that there were; they never become less.
	CPU   Spent
	IO    IO
	HasIO bool // IO is known of all of them
	// Whole tells that all processes were seen that are there. The figures below are theirs.
	Whole          bool
	Processes      int // zombies left out
	Threads        uint64
	Resident, Anon uint64 // bytes; a page that n processes share counts n times
}

// Open returns the tree below a launcher, whose process id it is given; root is /proc. It is an
// error that the launcher is in another PID namespace than ours, or that /proc does not show it.
func Open(root string, launcher int) (*Tree, error) {
	if launcher <= 0 {
		return nil, errors.New("the launcher is in another PID namespace")
	}
	p := &Tree{root: root, launcher: launcher}
	stat, err := p.stat(launcher)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(fmt.Sprintf("%s/%d/task/%d/children", root, launcher, launcher)); err != nil {
		return nil, err // the kernel was built without
	}
	p.began = stat.began
	if io, err := p.ioOf(launcher); err == nil {
		p.before = &io
	}
	return p, nil
}

// Look looks at the processes once; false: the launcher has gone.
func (p *Tree) Look() (Look, bool) {
	own, err := p.stat(p.launcher)
	if err != nil || own.began != p.began {
		return Look{CPU: p.cpu, IO: p.io, HasIO: p.before != nil}, false
	}
	l := Look{Whole: true, HasIO: p.before != nil, CPU: own.ended}
	if p.reaped != nil {
		l.CPU = *p.reaped
	}
	if io, err := p.ioOf(p.launcher); err == nil && l.HasIO {
		l.IO = IO{since(io.Read, p.before.Read), since(io.Written, p.before.Written)}
	} else {
		l.HasIO = false
	}
	// Parents come before their children: who ends in between is missed until the next
	// look, and not counted twice.
	seen := map[int]bool{p.launcher: true}
	queue := []int{p.launcher}
	for len(queue) > 0 {
		next, ok := p.childrenOf(queue[0])
		l.Whole = l.Whole && ok
		queue = queue[1:]
		for _, child := range next {
			if seen[child] {
				continue
			}
			if len(seen) > maxProcesses {
				l.Whole = false
				break
			}
			seen[child] = true
			if p.add(&l, child) {
				queue = append(queue, child)
			}
		}
	}
	p.cpu.User, p.cpu.System = max(p.cpu.User, l.CPU.User), max(p.cpu.System, l.CPU.System)
	p.io.Read, p.io.Written = max(p.io.Read, l.IO.Read), max(p.io.Written, l.IO.Written)
	l.CPU, l.IO = p.cpu, p.io
	return l, true
}

// add counts a process; false: it has gone.
func (p *Tree) add(l *Look, pid int) bool {
	s, err := p.stat(pid)
	if err != nil {
		return false
	}
	l.CPU.User = sum(l.CPU.User, s.used.User, s.ended.User)
	l.CPU.System = sum(l.CPU.System, s.used.System, s.ended.System)
	if io, err := p.ioOf(pid); err == nil {
		l.IO.Read += io.Read
		l.IO.Written += io.Written
	} else if !gone(err) {
		l.HasIO = false
	}
	if s.state == 'Z' {
		return true
	}
	l.Processes++
	l.Threads += s.threads
	if resident, shared, err := p.memoryOf(pid); err == nil {
		l.Resident += resident
		l.Anon += since(resident, shared)
	}
	return true
}

// Total returns both together, up to the longest time there is.
func (s Spent) Total() time.Duration { return sum(s.User, s.System) }

// ReplaceReaped takes the count of the launcher's ended children that is final, in place of
// what /proc says of them.
func (p *Tree) ReplaceReaped(cpu Spent) { p.reaped = &cpu }

// sum adds CPU times, up to the longest there is.
func sum(times ...time.Duration) time.Duration {
	var all time.Duration
	for _, t := range times {
		all += min(t, math.MaxInt64-all)
	}
	return all
}

// since is how much more now is than then; never less than 0.
func since(now, then uint64) uint64 { return now - min(now, then) }

// childrenOf lists the children of all of a process's threads; false: not all.
func (p *Tree) childrenOf(pid int) (children []int, whole bool) {
	dir, err := os.Open(fmt.Sprintf("%s/%d/task", p.root, pid))
	if err != nil {
		return nil, gone(err)
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(maxProcesses)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, gone(err)
	}
	whole = len(threads) < maxProcesses
	for _, thread := range threads {
		if p.children == nil {
			p.children = make([]byte, maxChildrenBytes)
		}
		text, err := p.read(p.children, fmt.Sprintf("%s/%d/task/%s/children", p.root, pid, thread))
		if err != nil {
			whole = whole && gone(err)
			continue
		}
		var ok bool
		children, ok = parseChildren(children, text)
		whole = whole && ok && len(text) < len(p.children)
	}
	return children, whole
}

// gone tells that a process has ended while we looked at it.
func gone(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) }

func (p *Tree) stat(pid int) (stat, error) {
	text, err := p.read(p.buf[:], fmt.Sprintf("%s/%d/stat", p.root, pid))
	if err != nil {
		return stat{}, err
	}
	s, ok := parseStat(text)
	if !ok {
		return stat{}, fmt.Errorf("stat of process %d: %.80q", pid, text)
	}
	return s, nil
}

// memoryOf gives the bytes that are resident, and those of them that a file or
// others have too.
func (p *Tree) memoryOf(pid int) (resident, shared uint64, err error) {
	text, err := p.read(p.buf[:], fmt.Sprintf("%s/%d/statm", p.root, pid))
	if err != nil {
		return 0, 0, err
	}
	resident, shared, ok := parseStatm(text, uint64(os.Getpagesize()))
	if !ok {
		return 0, 0, fmt.Errorf("statm of process %d: %.80q", pid, text)
	}
	return resident, shared, nil
}

func (p *Tree) ioOf(pid int) (IO, error) {
	text, err := p.read(p.buf[:], fmt.Sprintf("%s/%d/io", p.root, pid))
	if err != nil {
		return IO{}, err
	}
	c, ok := parseIO(text)
	if !ok {
		return IO{}, fmt.Errorf("io of process %d: %.80q", pid, text)
	}
	return c, nil
}

// read reads a file up to the size of buf.
func (p *Tree) read(buf []byte, path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n, err := io.ReadFull(f, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return buf[:n], err
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	state       byte // 'Z': it has ended, and nobody has waited for it
	used, ended Spent
	threads     uint64
	began       uint64 // ticks after boot
}

// parseStat reads /proc/PID/stat. The second field is the process's own choice, with
// spaces and brackets, and ends at the last bracket.
func parseStat(b []byte) (stat, bool) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, false
	}
	// Numbered as in proc(5), from the third.
	fields := bytes.Fields(b[i+1:])
	const first, last = 3, 22
	if len(fields) <= last-first || len(fields[0]) != 1 {
		return stat{}, false
	}
	s, ok := stat{state: fields[0][0]}, true
	number := func(field int) uint64 {
		n, err := strconv.ParseUint(string(fields[field-first]), 10, 64)
		ok = ok && err == nil
		return n
	}
	cpu := func(field int) time.Duration {
		n := number(field)
		ok = ok && n <= maxTicks
		return time.Duration(n) * tick
	}
	s.used, s.ended = Spent{cpu(14), cpu(15)}, Spent{cpu(16), cpu(17)}
	s.threads, s.began = number(20), number(22)
	if !ok {
		return stat{}, false
	}
	return s, true
}

// maxTicks are the longest time.Duration.
const maxTicks = uint64(math.MaxInt64 / tick)

// parseStatm reads the second and third field of /proc/PID/statm, as bytes.
func parseStatm(b []byte, pageBytes uint64) (resident, shared uint64, ok bool) {
	fields := bytes.Fields(b)
	if len(fields) < 3 {
		return 0, 0, false
	}
	resident, ok1 := parsePages(fields[1], pageBytes)
	shared, ok2 := parsePages(fields[2], pageBytes)
	return resident, shared, ok1 && ok2
}

func parsePages(b []byte, pageBytes uint64) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 36) // 256 TiB in small pages
	return n * pageBytes, err == nil
}

// parseIO reads read_bytes and write_bytes of /proc/PID/io.
func parseIO(b []byte) (c IO, ok bool) {
	var read, written bool
	for line := range bytes.Lines(b) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		var to *uint64
		switch string(name) {
		case "read_bytes":
			to, read = &c.Read, true
		case "write_bytes":
			to, written = &c.Written, true
		default:
			continue
		}
		n, err := strconv.ParseUint(string(value), 10, 50) // a PiB, for a sum that fits
		if err != nil {
			return IO{}, false
		}
		*to = n
	}
	return c, read && written
}

// parseChildren appends the process numbers of a children file; false: there is
// something else in it.
func parseChildren(to []int, b []byte) ([]int, bool) {
	ok := true
	for field := range bytes.FieldsSeq(b) {
		n, err := strconv.ParseUint(string(field), 10, 22) // PID_MAX_LIMIT is 4 Mi
		if err != nil || n == 0 {
			ok = false
			continue
		}
		to = append(to, int(n))
	}
	return to, ok
}

// ParsePeak reads VmHWM of /proc/PID/status: the most bytes that were resident since
// the process became the program that it is.
func ParsePeak(b []byte) (uint64, bool) {
	for line := range bytes.Lines(b) {
		value, found := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !found {
			continue
		}
		value, unit := bytes.CutSuffix(bytes.TrimSpace(value), []byte(" kB"))
		n, err := strconv.ParseUint(string(value), 10, 38) // 256 TiB
		return n << 10, err == nil && unit
	}
	return 0, false
}
