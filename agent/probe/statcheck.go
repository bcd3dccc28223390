package probe

import (
	"bytes"
	"os"

	"golang.org/x/sys/unix"
)

// statCheck compares what was read of memory.stat's counters with the file. From
// Linux 6.11 on, until 7.0 offers a function for it, the kernel's table has them in
// an order that only its source tells: what was found there is believed when all
// three have agreed with the file once.
type statCheck struct {
	file *os.File
	buf  []byte
}

// checked are names in memory.stat.
var checked = [...]string{"anon", "file", "kernel"}

// statSize is more than memory.stat has: 1.4 KiB on Linux 6.1, 1.9 KiB on 7.3.
const statSize = 16 << 10

// openStatCheck is nil, which never agrees, if there is no memory.stat.
func openStatCheck(dir *os.File) *statCheck {
	if dir == nil {
		return nil
	}
	fd, err := unix.Openat(int(dir.Fd()), "memory.stat", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil
	}
	return &statCheck{file: os.NewFile(uintptr(fd), "memory.stat"), buf: make([]byte, statSize)}
}

// against says whether the record's memory counters are right, as far as is known.
// Once they are it costs nothing.
func (c *statCheck) against(r *record) bool {
	if c == nil {
		return false
	}
	if c.file == nil {
		return true
	}
	n, _ := c.file.ReadAt(c.buf, 0) // an EOF is what is expected
	if r.Anon == 0 || r.Kernel == 0 || r.Anon == r.Kernel {
		return false // as any wrong place may be
	}
	for i, got := range [len(checked)]uint64{r.Anon, r.File, r.Kernel} {
		want, ok := statField(c.buf[:n], checked[i])
		if !ok || !agree(got, want) {
			return false
		}
	}
	_ = c.close()
	return true
}

// agree allows for what a running job changes between the two readings: a 64th.
func agree(got, want uint64) bool {
	return max(got, want)-min(got, want) <= want/64
}

// statField is the number after name in a file of lines "NAME NUMBER".
func statField(text []byte, name string) (n uint64, ok bool) {
	for line := range bytes.Lines(text) {
		rest, found := bytes.CutPrefix(line, []byte(name+" "))
		if !found {
			continue
		}
		digits, whole := bytes.CutSuffix(rest, []byte("\n"))
		if !whole || len(digits) == 0 || len(digits) > 18 { // torn, or more than any memory
			return 0, false
		}
		for _, d := range digits {
			if d < '0' || d > '9' {
				return 0, false
			}
			n = 10*n + uint64(d-'0')
		}
		return n, true
	}
	return 0, false
}

// close may be called again, and on nil.
func (c *statCheck) close() error {
	if c == nil || c.file == nil {
		return nil
	}
	err := c.file.Close()
	c.file, c.buf = nil, nil
	return err
}
