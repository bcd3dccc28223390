package coordinator

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// sendBytes is the most input in one message: an eighth of a second through a slow tunnel, so that
// an order waits no longer for its turn.
const sendBytes = 128 << 10

// ErrInputRead is why an attempt can't have the input: an earlier one has read some of it, and it can't
// be read again.
var ErrInputRead = errors.New("an earlier attempt has read some of the input")

// ErrInputRefused means that the agent does not take the input from here; the error that is it gives
// the agent's reason.
var ErrInputRefused = errors.New("the input is not taken")

// redrawAfter is how long a terminal has one row less before it has its size: a program that finds the
// size as it was when it looks draws nothing.
const redrawAfter = 100 * time.Millisecond

// Input is the stdin of a job's command, which a [Server] sends to the agent. Start with [NewInput].
//
// Every byte reaches the command once and in order, however often connections break: the agent
// acknowledges what the command's stdin has taken, and until then the Input keeps it. It keeps no
// more than hodeipb.InputWindow bytes, and does not read on while they are not acknowledged.
type Input struct {
	source io.Reader
	again  func() error
	id     string
	failed chan error
	over   chan struct{} // closed by end: the agent wants no more
	end    func()
	redraw bool // see Redraw
	window int  // so many bytes may be sent that are not acknowledged
	work   sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	reading bool          // a goroutine reads the source
	attempt string        // that has the input; empty: none yet
	turn    int           // how many connections have begun to send: only the last one does
	// data are the bytes from base, which are acknowledged, on. In this turn those below sent were
	// sent, and with told the end of the input.
	data       []byte
	buffer     []byte // that data is part of
	base, sent uint64
	told       bool
	complete   bool // nothing comes behind data
	done       bool // the attempt wants no more
	closed     bool // nothing is sent any more, to any attempt
	// size is that of the terminal here; nil: there is none. sizeTold: it was sent in this turn. It is not
	// before sizeAt.
	size     *hodeipb.TerminalSize
	sizeTold bool
	sizeAt   time.Time
}

// NewInput returns an Input that reads source once an agent wants it. again, if not nil, has source
// read from its beginning again, for another attempt, and says if that is not possible.
//
// Close ends the reading only if closing the source ends a Read.
func NewInput(source io.Reader, again func() error) *Input {
	over := make(chan struct{})
	return &Input{
		source: source, again: again, id: rand.Text(), window: hodeipb.InputWindow,
		failed: make(chan error, 1), over: over, end: sync.OnceFunc(func() { close(over) }), changed: make(chan struct{}),
	}
}

// Resize tells the size of the terminal here, from 1 to 65535 each way, to a command that has a terminal too.
// It is called before the input is used, and at each change.
func (in *Input) Resize(rows, columns uint32) {
	in.update(func() {
		in.size = &hodeipb.TerminalSize{Rows: rows, Columns: columns}
		in.sizeTold = false
	})
}

// Redraw has the program at the command's terminal draw its screen again when the input first gets there,
// by a change of the terminal's size. It is called before the input is used.
func (in *Input) Redraw() { in.redraw = true }

// Over is closed when the agent wants no more input. That is also its answer to a LeaveInput where the
// command is at a terminal.
func (in *Input) Over() <-chan struct{} { return in.over }

// Failed gets a value when the rest of the input can't be sent: reading it failed, or the error is
// [ErrInputRead] or [ErrInputRefused]. At most one value comes.
func (in *Input) Failed() <-chan error { return in.failed }

// AwaitTaken waits until the command has taken all that was read, or nothing more is sent, but not longer than until ctx
// ends.
func (in *Input) AwaitTaken(ctx context.Context) {
	for {
		in.mu.Lock()
		taken, changed := len(in.data) == 0 || in.done || in.closed, in.changed
		in.mu.Unlock()
		if taken {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Close ends the reading of the source, after a Read that is under way, and waits for that.
func (in *Input) Close() {
	in.update(func() { in.closed = true })
	in.work.Wait()
}

// update changes the input and wakes who waits for it.
func (in *Input) update(change func()) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changes(change)
}

// changes is update with in.mu held.
func (in *Input) changes(change func()) {
	change()
	close(in.changed)
	in.changed = make(chan struct{})
}

// fail tells that the rest of the input can't be sent. Nothing is sent any more.
func (in *Input) fail(err error) {
	in.update(func() { in.closed = true })
	select {
	case in.failed <- err:
	default: // the first reason counts
	}
}

// firstSize is what a Welcome says of the terminal's size; nil: nothing.
func (in *Input) firstSize() *hodeipb.TerminalSize {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.size == nil || !in.redraw || in.turn > 0 {
		return in.size
	}
	if in.size.Rows == 1 {
		return &hodeipb.TerminalSize{Rows: 2, Columns: in.size.Columns}
	}
	return &hodeipb.TerminalSize{Rows: in.size.Rows - 1, Columns: in.size.Columns}
}

// begin gives the input to an attempt that has attached, and tells whether it may have it.
func (in *Input) begin(attempt string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch {
	case in.closed:
		return false
	case in.attempt == attempt, in.base == 0 && !in.done: // nothing was taken
	default:
		if err := in.rewind(); err != nil {
			in.mu.Unlock()
			in.fail(err)
			in.mu.Lock()
			return false
		}
	}
	in.attempt = attempt
	return true
}

// rewind has the input begin again, for another attempt. in.mu is held, and let go in between.
func (in *Input) rewind() error {
	if in.again == nil {
		return ErrInputRead
	}
	in.changes(func() { in.attempt, in.data, in.base, in.sent, in.complete = "", nil, 0, 0, true }) // ends the reading
	in.mu.Unlock()
	in.work.Wait()
	err := in.again()
	in.mu.Lock()
	in.reading, in.complete, in.done = false, false, false
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInputRead, err)
	}
	return nil
}

// acked takes an ack of the attempt that has the input, over the connection of a turn; 0: it is the
// first one there. The connection sends from the ack on, in the turn that is returned.
func (in *Input) acked(ack *hodeipb.InputAck, turn int) (int, error) {
	if ack.Refused != "" {
		in.fail(fmt.Errorf("%w: %s", ErrInputRefused, ack.Refused))
		return turn, nil
	}
	if ack.Done {
		in.end()
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	end := in.base + uint64(len(in.data))
	switch {
	case turn > 0 && turn != in.turn: // a connection that was replaced
		return turn, nil
	case in.closed:
		return turn, nil
	case ack.Done:
		in.changes(func() { in.done = true })
		return turn, nil
	case turn == 0 && ack.Offset < in.base: // only a terminal begins again, with another owner
		in.mu.Unlock()
		in.fail(fmt.Errorf("%w: another hodei has had it meanwhile", ErrInputRefused))
		in.mu.Lock()
		return turn, nil
	case ack.Offset < in.base || ack.Offset > end || turn > 0 && ack.Offset > in.sent:
		return turn, status.Errorf(codes.InvalidArgument, "ack of input up to %d, of which %d to %d were sent",
			ack.Offset, in.base, in.sent)
	}
	in.changes(func() {
		in.data = in.data[ack.Offset-in.base:]
		in.base = ack.Offset
		if turn == 0 {
			if in.redraw && in.turn == 0 {
				in.sizeAt = time.Now().Add(redrawAfter)
			}
			in.turn++
			turn, in.sent, in.told, in.sizeTold = in.turn, ack.Offset, false, false
		}
	})
	if !in.reading && !in.done && !in.complete {
		in.reading = true
		in.work.Go(in.read)
	}
	return turn, nil
}

// read reads the source to its end, as far ahead as may be sent.
func (in *Input) read() {
	buffer := make([]byte, sendBytes)
	for {
		room, changed := in.room()
		if changed != nil {
			<-changed
			continue
		}
		if room == 0 {
			return
		}
		n, err := in.source.Read(buffer[:min(room, len(buffer))])
		if err != nil && !errors.Is(err, io.EOF) {
			in.fail(fmt.Errorf("read stdin: %w", err))
			return
		}
		in.update(func() {
			if !in.complete { // else the input begins again
				in.add(buffer[:n])
				in.complete = err != nil
			}
		})
	}
}

// room is how much may be read; 0: nothing any more. A channel instead is closed when that may have
// changed.
func (in *Input) room() (int, <-chan struct{}) {
	in.mu.Lock()
	defer in.mu.Unlock()
	switch room := in.window - len(in.data); {
	case in.closed || in.done || in.complete:
		return 0, nil
	case room == 0:
		return 0, in.changed
	default:
		return room, nil
	}
}

// add puts bytes behind data; in.mu is held. It copies what is there when that has moved on by as much
// as it holds, so that each byte is copied a few times at most.
func (in *Input) add(p []byte) {
	if size := len(in.data) + len(p); size > cap(in.data) {
		if cap(in.buffer) < 2*size {
			in.buffer = make([]byte, 2*size)
		}
		in.data = in.buffer[:copy(in.buffer, in.data)]
	}
	in.data = append(in.data, p...)
}

// gatherFor is how long a piece that is not full waits for more, unless it is typed at a terminal: everybody on the way
// through the API server pays for each piece, not for its bytes.
const gatherFor = 2 * time.Millisecond

// gather gives the source a moment to fill a piece that is begun.
func (in *Input) gather(ctx context.Context) {
	late := time.NewTimer(gatherFor)
	defer late.Stop()
	for {
		in.mu.Lock()
		rest, changed := len(in.data)-int(in.sent-in.base), in.changed
		enough := rest == 0 || rest >= sendBytes || in.complete || in.closed || in.size != nil
		in.mu.Unlock()
		if enough {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// send sends the input in a turn, until ctx ends or another turn has come. A stream that breaks is the
// receiver's to report.
func (in *Input) send(ctx context.Context, turn int, send func(*hodeipb.ToAgent) error) {
	for {
		in.gather(ctx)
		piece, changed, over := in.next(turn)
		size, late := in.nextSize(turn)
		switch {
		case over:
			return
		case size != nil && send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_TerminalSize{TerminalSize: size}}) != nil:
			return
		case piece != nil:
			if send(&hodeipb.ToAgent{Message: &hodeipb.ToAgent_Input{Input: piece}}) != nil {
				return
			}
			continue
		}
		select {
		case <-changed:
		case <-late:
		case <-ctx.Done():
			return
		}
	}
}

// nextSize returns the terminal's size if it is to be sent in a turn. A channel instead tells when to ask again;
// neither: when something has changed.
func (in *Input) nextSize(turn int) (*hodeipb.TerminalSize, <-chan time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.size == nil || in.sizeTold || turn != in.turn {
		return nil, nil
	}
	if wait := time.Until(in.sizeAt); wait > 0 {
		return nil, time.After(wait)
	}
	in.sizeTold = true
	return in.size, nil
}

// next returns the next piece to send in a turn; nil: there is none before something has changed.
func (in *Input) next(turn int) (piece *hodeipb.Input, changed <-chan struct{}, over bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if turn != in.turn || in.closed || in.done || in.attempt == "" {
		return nil, nil, true
	}
	rest := in.data[in.sent-in.base:]
	if len(rest) == 0 && (!in.complete || in.told) {
		return nil, in.changed, false
	}
	n := min(len(rest), sendBytes)
	in.told = in.complete && n == len(rest)
	piece = &hodeipb.Input{Offset: in.sent, Data: bytes.Clone(rest[:n]), Complete: in.told}
	in.sent += uint64(n)
	return piece, nil, false
}
