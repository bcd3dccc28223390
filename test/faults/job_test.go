package faults

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// jobVariable makes this test binary a job's command: it holds a job as text.
const jobVariable = "HODEI_TEST_JOB"

// What a job does besides printing.
const (
	prints  = "prints"  // and ends
	ticks   = "ticks"   // prints a step each millisecond
	fed     = "fed"     // prints a step for each byte of its standard input
	orphans = "orphans" // ends at once; a process that it leaves behind prints then
	holds   = "holds"   // prints and ends; a process that it leaves behind keeps its pipes
	echoes  = "echoes"  // prints its standard input, and not the pattern
	typed   = "typed"   // prints the lines that are typed at its terminal

	orphaned = "orphaned" // is left behind by one that orphans
	holding  = "holding"  // is left behind by one that holds
)

// jobText is the value of jobVariable.
func jobText(how string, p pattern) string { return fmt.Sprint(how, " ", p.kind, " ", p.size) }

// runJob is the command; it returns its exit status.
func runJob(text string) int {
	var how string
	var p pattern
	if _, err := fmt.Sscan(text, &how, &p.kind, &p.size); err != nil {
		return fail(err)
	}
	more := p.counted()
	switch how {
	case ticks:
		ticker, counted := time.NewTicker(time.Millisecond), more
		more = func() bool { <-ticker.C; return counted() }
	case fed:
		one := make([]byte, 1)
		more = func() bool { _, err := os.Stdin.Read(one); return err == nil }
	case orphans:
		return leaveBehind(jobText(orphaned, p), true)
	case orphaned:
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the parent has ended
			return fail(err)
		}
	case echoes:
		if _, err := io.Copy(struct{ io.Writer }{os.Stdout}, os.Stdin); err != nil {
			return fail(err)
		}
		return 0
	case typed:
		if err := echoTyped(p.size); err != nil {
			return fail(err)
		}
		return 0
	case holding:
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	}
	if err := p.write(os.Stdout, os.Stderr, more); err != nil {
		return fail(err)
	}
	if how == holds {
		return leaveBehind(jobText(holding, p), false)
	}
	return 0
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 99
}

// alive is closed when this process ends, and not before.
var alive *os.File

// leaveBehind starts a process that has our output, and whose standard input ends
// with us or is our own.
func leaveBehind(text string, tied bool) int {
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), jobVariable+"="+text)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if tied {
		var err error
		if child.Stdin, alive, err = os.Pipe(); err != nil {
			return fail(err)
		}
	}
	if err := child.Start(); err != nil {
		return fail(err)
	}
	return 0
}

// pattern is output that a job prints and a test expects: the same each time.
type pattern struct {
	kind string
	size int // in bytes, or in the kind's own pieces
}

func (p pattern) String() string { return p.kind + " " + strconv.Itoa(p.size) }

// counted is a pattern's pace where nothing but its size ends it.
func (p pattern) counted() func() bool {
	n := 0
	return func() bool { n++; return n <= p.size }
}

// stepBytes is one step: half of what a pipe holds.
const stepBytes = 32 << 10

// write prints it. more says whether there is to be another step.
func (p pattern) write(stdout, stderr io.Writer, more func() bool) error {
	rnd := rand.NewChaCha8([32]byte{'h', 'o', 'd', 'e', 'i'})
	number := rand.New(rnd)
	both := [2]io.Writer{stdout, stderr}
	out := bufio.NewWriterSize(stdout, 64<<10)
	buf := make([]byte, stepBytes)
	switch p.kind {
	case "random":
		_, err := io.CopyBuffer(struct{ io.Writer }{stdout}, io.LimitReader(rnd, int64(p.size)), buf)
		return err
	case "zeros": // with a mark now and then, so that a shift shows
		clear(buf)
		for i := 0; i < p.size; i += len(buf) {
			binary.BigEndian.PutUint32(buf[number.IntN(len(buf)-4):], uint32(i))
			if _, err := stdout.Write(buf); err != nil {
				return err
			}
			clear(buf)
		}
	case "progress":
		for i := range p.size {
			fmt.Fprintf(out, "\r%3d%% [%-40.*s] %d of %d", 100*i/p.size, 40*i/p.size, "########################################", i, p.size)
		}
	case "line": // without its end
		for i := range buf {
			buf[i] = 'a' + byte(number.IntN(26))
		}
		for i := 0; i < p.size; i += len(buf) {
			copy(buf, strconv.Itoa(i))
			if _, err := stdout.Write(buf[:min(len(buf), p.size-i)]); err != nil {
				return err
			}
		}
	case "invalid": // beginnings, ends, overlong forms, surrogates
		pieces := []string{"\xc3", "\xe2\x82", "\xf0\x9f\x98", "\x80", "\xbf", "\xc0\xaf", "\xed\xa0\x80", "\xff", "\xfe", "é", "€\n"}
		for range p.size {
			out.WriteString(pieces[number.IntN(len(pieces))])
		}
	case "unended":
		for i := range p.size {
			fmt.Fprintf(out, "line %d\n", i)
		}
		out.WriteString("and this is the last")
	case "lines":
		for i := range p.size {
			buf = append(strconv.AppendInt(buf[:0], int64(i), 10), '\n')
			out.Write(buf)
		}
	case "both":
		for left := p.size; left > 0; {
			chunk := buf[:min(left, 1+number.IntN(9000))]
			left -= len(chunk)
			if _, err := rnd.Read(chunk); err != nil {
				return err
			}
			if _, err := both[number.IntN(2)].Write(chunk); err != nil {
				return err
			}
		}
	case "turns": // small writes, one here and one there
		for i := range p.size {
			if _, err := fmt.Fprintf(both[i%2], "%d,", i); err != nil {
				return err
			}
		}
	case "bytes": // the same, as small as can be
		for i := range p.size {
			if _, err := both[i%2].Write([]byte{byte(number.Uint32())}); err != nil {
				return err
			}
		}
	case "steps":
		for i := 0; more(); i++ {
			if _, err := rnd.Read(buf); err != nil {
				return err
			}
			if _, err := both[i%2].Write(buf); err != nil {
				return err
			}
		}
	case "typed":
		out.WriteString(typedReady)
		for i := range p.size {
			out.WriteString(typedLine(i))
		}
	case "nothing":
	default:
		return fmt.Errorf("no such pattern %q", p.kind)
	}
	return out.Flush()
}
