package agent

import "time"

const (
	// maxRest is the longest pause between two reads of a pipe: a line waits that much
	// longer at most, and a program that writes every line by itself is held up a
	// thousand times a second instead of at every line.
	maxRest = time.Millisecond
	// minRest is the shortest. A timer of Linux and Go is some 60 microseconds late, so a
	// shorter pause would be mostly that.
	minRest = maxRest / 8
	// promptReads follow each other without a pause after the output has paused, so
	// that a few lines that alternate between stdout and stderr keep their order.
	promptReads = 16
)

// pace says how long a pipe is left alone between two reads. A reader that waits
// for a pipe is woken by each write to it, which costs the writer more than the
// write itself; while it rests, output gathers.
type pace struct {
	size   int // of the pipe, in bytes
	prompt int // reads left that no rest follows

	began time.Time // of the last rest, or the last read that none followed
	read  int       // bytes since then
}

func newPace(size int) pace { return pace{size: size, prompt: promptReads} }

// waited tells how long there was nothing in the pipe.
func (p *pace) waited(d time.Duration) {
	if d > 2*maxRest {
		p.prompt = promptReads
	}
}

// rest is how long to wait after a read of n bytes that ended at now: at most maxRest, and
// at the rate since the last rest until a quarter of the pipe is full. A pipe that fills up
// stops the writer.
func (p *pace) rest(n int, now time.Time) time.Duration {
	p.read += n
	switch {
	case n == 0: // nothing was there: it has been waited for
		return 0
	case n == readBytes: // more is there
		return 0
	case p.prompt > 0:
		p.prompt--
		p.began, p.read = now, 0
		return 0
	}
	rest := min(maxRest, now.Sub(p.began)*time.Duration(p.size/4)/time.Duration(p.read))
	p.began, p.read = now, 0
	if rest < minRest {
		return 0
	}
	return rest
}
