package agent

import "time"

const (
	// maxRest is the longest pause between two reads of a pipe: a line waits that much
	// longer at most, and a program that writes every line by itself is held up a
	// thousand times a second instead of at every line.
	maxRest = time.Millisecond
	// minRest is the shortest: a timer of Linux and Go is some 60 microseconds late.
	minRest = maxRest / 8
	// promptReads follow each other without a pause after the output has paused, so
	// that a few lines that alternate between stdout and stderr keep their order.
	promptReads = 16
)

// pace says how long a pipe is left alone between two reads. A reader that waits
// for a pipe is woken by each write to it, which costs the writer more than the
// write itself; while it rests, output gathers. The rest is so short that the
// pipe does not fill up meanwhile: from much output on, there is none.
type pace struct {
	size   int // of the pipe, in bytes
	prompt int // reads left that no rest follows
	pause  time.Duration
}

func newPace(size int) pace { return pace{size: size, prompt: promptReads} }

// waited tells how long there was nothing in the pipe.
func (p *pace) waited(d time.Duration) {
	if d > 2*maxRest {
		p.prompt, p.pause = promptReads, 0
	}
}

// rest is how long to wait after a read of n bytes. It aims at a pipe that is
// between an eighth and a half full.
func (p *pace) rest(n int) time.Duration {
	switch {
	case n == 0: // nothing was there: it has been waited for
		return 0
	case p.prompt > 0:
		p.prompt--
		return 0
	case n > p.size/2:
		if p.pause /= 2; p.pause < minRest {
			p.pause = 0
		}
	case n < p.size/8:
		p.pause = min(max(2*p.pause, minRest), maxRest)
	}
	return p.pause
}
