package session

import (
	"cmp"

	"github.com/hodei-jobs/hodei/pkg/job"
	"github.com/hodei-jobs/hodei/pkg/joblog"
	"github.com/hodei-jobs/hodei/pkg/output"
)

// missing returns what is missing of the output, and what helps against that. lost is empty if nothing is missing. It
// compares what o's attempt has printed with what was shown, so it is called when all is shown.
func (f *follower) missing(o *job.Outcome) (lost, hint string, err error) {
	f.mu.Lock()
	silent, tail := f.silent, f.tail
	f.mu.Unlock()
	switch {
	case silent:
		return "", "", nil
	case f.fallback:
		return f.missingOfLog(o, tail)
	}
	f.mu.Lock()
	attempt := f.attempt
	if o.Attempt != "" {
		attempt = o.Attempt
	}
	if f.before[attempt] { // who shows it has said what is missing
		defer f.mu.Unlock()
		return f.lost, "", nil
	}
	p, ended := f.passages[attempt], f.ended && attempt == f.attempt
	f.mu.Unlock()
	if p == nil && f.attached && f.terminal != nil { // what was printed before is not shown to a terminal
		return "", "", nil
	}
	g := output.Gap{Attempt: attempt}
	if p != nil {
		g.Offset, g.Damage = p.Offset(), p.Damage()
	}
	torn := !o.Counted() && f.ran() && !ended // its Pod or agent has gone under way
	switch {
	case o.OutputBytes > g.Offset:
		g.Bytes = o.OutputBytes - g.Offset
		err = f.lose(g)
	case torn:
		err = f.lose(g)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.damaged || g.Damage != nil:
		return f.lost, "check this machine's disk, and let it be fetched again: {hodei} logs " + f.name, err
	case f.fullDisk:
		return f.lost, "make room on the disk that the job runs on", err
	case f.dropped:
		return f.lost, "let more of it be kept, or the job wait: --log-spool, --log-overflow=block", err
	case torn: // what has ended the job is why
		return f.lost, "", err
	}
	return f.lost, "let the Pod wait longer for its output to be fetched: --linger", err
}

// missingOfLog is missing for output that came from the container's log t. A nil t means that no log was found.
func (f *follower) missingOfLog(o *job.Outcome, t *joblog.Tail) (lost, hint string, err error) {
	if g, missing := t.Missing(o); missing && f.ran() {
		g.Attempt = cmp.Or(g.Attempt, f.name)
		err = f.lose(g)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost, tunnelHint, err
}

// tunnelHint is what helps where a container's log is not enough.
const tunnelHint = "to fetch it from the agent: ask for the right to create pods/portforward"

// followedSink passes output on, and notes in the follower what is missing of it.
type followedSink struct {
	output.Sink
	follower *follower
}

func (s followedSink) Gap(g output.Gap) error {
	s.follower.mu.Lock()
	if g.Damage == nil {
		s.follower.dropped = true
	} else {
		s.follower.damaged = true
	}
	s.follower.mu.Unlock()
	return s.follower.lose(g)
}

// lose notes and shows that output is missing.
func (f *follower) lose(g output.Gap) error {
	f.misses(g.String())
	return f.sink.Gap(g)
}

// misses notes what is missing of the output; empty: nothing.
func (f *follower) misses(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = cmp.Or(f.lost, text)
}
