package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// taker is the agent's side of an Input on one connection, without the connection.
type taker struct {
	t    *testing.T
	in   *Input
	turn int
	got  []byte // from the beginning of the input on
	over bool
}

// attach begins a connection of an attempt that has taken what t.got says.
func (k *taker) attach(attempt string) bool {
	k.t.Helper()
	if !k.in.begin(attempt) {
		return false
	}
	var err error
	if k.turn, err = k.in.acked(&hodeipb.InputAck{Offset: uint64(len(k.got))}, 0); err != nil {
		k.t.Fatal(err)
	}
	return true
}

// take takes pieces until there are as many bytes, or the input ends, and does not acknowledge them.
func (k *taker) take(n int) {
	k.t.Helper()
	for len(k.got) < n && !k.over {
		piece, changed, over := k.in.next(k.turn)
		switch {
		case over:
			k.t.Fatalf("nothing is sent any more after %d bytes", len(k.got))
		case piece == nil:
			<-changed
		case piece.Offset != uint64(len(k.got)):
			k.t.Fatalf("a piece at %d, want %d", piece.Offset, len(k.got))
		default:
			k.got = append(k.got, piece.Data...)
			k.over = piece.Complete
		}
	}
}

func (k *taker) ack(offset int) error {
	_, err := k.in.acked(&hodeipb.InputAck{Offset: uint64(offset)}, k.turn)
	return err
}

func numbers(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d ", i)
	}
	return b.Bytes()[:n]
}

// TestInputAgain: what was not acknowledged is sent again on the next connection.
func TestInputAgain(t *testing.T) {
	want := numbers(3 * hodeipb.InputWindow)
	in := NewInput(bytes.NewReader(want), nil)
	defer in.Close()
	k := &taker{t: t, in: in}
	for begin := 0; !k.over; begin += hodeipb.InputWindow / 2 {
		k.got = k.got[:min(begin, len(k.got))]
		if !k.attach("pod-1") {
			t.Fatal("the attempt does not get its input")
		}
		k.take(min(begin+hodeipb.InputWindow, len(want)+1)) // at last the end, which may come alone
		if err := k.ack(min(begin+hodeipb.InputWindow/2, len(k.got))); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(k.got, want) {
		t.Error("another input came")
	}
	if !k.attach("pod-1") {
		t.Fatal("it can't come back")
	}
	if k.over = false; len(k.got) == len(want) {
		k.take(len(want) + 1) // the end alone
	}
	if !k.over {
		t.Error("the end was not sent again")
	}
}

// TestInputReplaced: a connection that was replaced sends nothing more, and its acks count for nothing.
func TestInputReplaced(t *testing.T) {
	in := NewInput(strings.NewReader("abcdef"), nil)
	defer in.Close()
	old := &taker{t: t, in: in}
	old.attach("pod-1")
	old.take(6)
	next := &taker{t: t, in: in}
	next.attach("pod-1")
	if _, _, over := in.next(old.turn); !over {
		t.Error("the old connection goes on")
	}
	if err := old.ack(6); err != nil {
		t.Error(err)
	}
	next.take(6)
	if string(next.got) != "abcdef" {
		t.Errorf("%q came", next.got)
	}
}

// TestInputAcks: an ack of what was not sent is refused.
func TestInputAcks(t *testing.T) {
	in := NewInput(bytes.NewReader(numbers(1000)), nil)
	defer in.Close()
	k := &taker{t: t, in: in}
	k.attach("pod-1")
	k.take(1000)
	for _, ack := range []struct {
		offset int
		ok     bool
	}{{1001, false}, {400, true}, {399, false}, {400, true}, {1000, true}} {
		if err := k.ack(ack.offset); (err == nil) != ack.ok {
			t.Errorf("ack of %d: %v", ack.offset, err)
		}
	}
}

// TestInputOfAnotherAttempt: a retry gets the input if none was read of it, or if it can be read again.
func TestInputOfAnotherAttempt(t *testing.T) {
	for _, test := range []struct {
		name  string
		acked int
		done  bool  // the first attempt wanted no more
		again error // of reading it again; nil: it can be
		never bool  // there is nothing to read it again with
		want  error // nil: it gets the input
	}{
		{"nothing was read", 0, false, nil, true, nil},
		{"some was read", 3, false, nil, true, ErrInputRead},
		{"all was read", 6, true, nil, true, ErrInputRead},
		{"nothing was read, and nothing wanted", 0, true, nil, true, ErrInputRead},
		{"some was read of a file", 3, false, nil, false, nil},
		{"some was read of a file, and no more wanted", 3, true, nil, false, nil},
		{"all was read of a file", 6, true, nil, false, nil},
		{"some was read of a file that has changed", 3, false, io.ErrUnexpectedEOF, false, io.ErrUnexpectedEOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := strings.NewReader("abcdef")
			again := func() error {
				source.Reset("abcdef")
				return test.again
			}
			if test.never {
				again = nil
			}
			in := NewInput(source, again)
			defer in.Close()
			first := &taker{t: t, in: in}
			first.attach("pod-1")
			first.take(6)
			if _, err := in.acked(&hodeipb.InputAck{Offset: uint64(test.acked), Done: test.done}, first.turn); err != nil {
				t.Fatal(err)
			}
			second := &taker{t: t, in: in}
			if got := second.attach("pod-2"); got != (test.want == nil) {
				t.Errorf("it gets the input: %t", got)
			}
			if test.want != nil {
				if err := <-in.Failed(); !errors.Is(err, test.want) {
					t.Error(err)
				}
				return
			}
			second.take(7)
			if string(second.got) != "abcdef" || !second.over {
				t.Errorf("%q came", second.got)
			}
		})
	}
}

// TestInputEnds: the reading of the source ends where nobody wants more, or where it fails.
func TestInputEnds(t *testing.T) {
	t.Run("the command reads no more", func(t *testing.T) {
		in := NewInput(endless{}, nil)
		k := &taker{t: t, in: in}
		k.attach("pod-1")
		k.take(1)
		if _, err := in.acked(&hodeipb.InputAck{Offset: 1, Done: true}, k.turn); err != nil {
			t.Error(err)
		}
		in.work.Wait()
		if _, _, over := in.next(k.turn); !over {
			t.Error("it is sent on")
		}
	})
	t.Run("the source fails", func(t *testing.T) {
		in := NewInput(io.MultiReader(strings.NewReader("abc"), broken{}), nil)
		k := &taker{t: t, in: in}
		k.attach("pod-1")
		if err := <-in.Failed(); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
		if _, _, over := in.next(k.turn); !over {
			t.Error("it is sent on")
		}
	})
	t.Run("it is refused", func(t *testing.T) {
		in := NewInput(endless{}, nil)
		if _, err := in.acked(&hodeipb.InputAck{Refused: "another has it"}, 0); err != nil {
			t.Error(err)
		}
		if err := <-in.Failed(); !errors.Is(err, ErrInputRefused) || err.Error() != "the input is not taken: another has it" {
			t.Error(err)
		}
		in.Close()
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestInputSize: a terminal's size is told at each connection and at each change, and a program that is to draw its
// screen again has another one first.
func TestInputSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := NewInput(empty{}, nil)
		defer in.Close()
		in.Resize(30, 90)
		in.Redraw()
		size := func(turn int) (rows uint32) {
			t.Helper()
			got, late := in.nextSize(turn)
			if late != nil {
				<-late
				got, _ = in.nextSize(turn)
			}
			return got.GetRows()
		}
		if got := in.firstSize(); got.Rows != 29 || got.Columns != 90 {
			t.Errorf("the first size is %v", got)
		}
		began := time.Now()
		k := &taker{t: t, in: in}
		k.attach("pod-1")
		if got := size(k.turn); got != 30 || time.Since(began) != redrawAfter {
			t.Errorf("%d rows after %s", got, time.Since(began))
		}
		if got := size(k.turn); got != 0 {
			t.Errorf("%d rows are told again", got)
		}
		in.Resize(20, 60)
		if got := size(k.turn); got != 20 {
			t.Errorf("%d rows after a change", got)
		}
		if got := in.firstSize(); got.Rows != 20 {
			t.Errorf("the next connection gets %v", got)
		}
		old := k.turn
		k.attach("pod-1")
		if got := size(old); got != 0 {
			t.Errorf("%d rows over a connection that was replaced", got)
		}
		if got := size(k.turn); got != 20 {
			t.Errorf("%d rows over the next connection", got)
		}
	})
	in := NewInput(empty{}, nil)
	defer in.Close()
	if got := in.firstSize(); got != nil {
		t.Errorf("%v without a terminal", got)
	}
}

// TestInputOver: who leaves a terminal hears that the agent knows it, and an agent that has begun again with another
// owner has no use for the rest.
func TestInputOver(t *testing.T) {
	in := NewInput(empty{}, nil)
	defer in.Close()
	k := &taker{t: t, in: in}
	k.attach("pod-1")
	if _, err := in.acked(&hodeipb.InputAck{Done: true}, k.turn); err != nil {
		t.Error(err)
	}
	<-in.Over()

	second := NewInput(strings.NewReader("abc"), nil)
	defer second.Close()
	k = &taker{t: t, in: second}
	k.attach("pod-1")
	k.take(3)
	if err := k.ack(3); err != nil {
		t.Fatal(err)
	}
	if _, err := second.acked(&hodeipb.InputAck{}, 0); err != nil {
		t.Error(err)
	}
	if err := <-second.Failed(); !errors.Is(err, ErrInputRefused) || !strings.Contains(err.Error(), "another hodei has had it meanwhile") {
		t.Error(err)
	}
}

// empty is input that ends without a byte.
type empty struct{}

func (empty) Read([]byte) (int, error) { return 0, io.EOF }

// TestInputAwaitTaken: who leaves waits for what was read, as long as somebody takes it.
func TestInputAwaitTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, typed := io.Pipe()
		in := NewInput(r, nil)
		in.AwaitTaken(t.Context()) // nothing was
		k := &taker{t: t, in: in}
		k.attach("a")
		if _, err := typed.Write([]byte("keys")); err != nil {
			t.Fatal(err)
		}
		k.take(4)
		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if in.AwaitTaken(late); late.Err() == nil {
			t.Error("it waits for nothing")
		}
		taken := make(chan struct{})
		go func() { in.AwaitTaken(t.Context()); close(taken) }()
		synctest.Wait()
		if err := k.ack(4); err != nil {
			t.Fatal(err)
		}
		<-taken
		r.Close()
		in.Close()
	})
}
