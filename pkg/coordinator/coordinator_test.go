package coordinator

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	stdout = hodeipb.Stream_STDOUT
	stderr = hodeipb.Stream_STDERR
)

func TestWholeAttempt(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 3)
	if got := a.welcome(); got.Offset != 0 || !got.Output || !slices.Equal(got.Encodings, []hodeipb.Encoding{hodeipb.Encoding_ZSTD}) ||
		got.MetricsInterval != nil {
		t.Errorf("welcome %v", got)
	}
	a.send(&hodeipb.State{Phase: hodeipb.Phase_RUNNING})
	a.send(text(0, "abc"))
	a.ack(3, false)
	a.send(&hodeipb.Batch{Offset: 3, Data: []byte("de\x00\xff"), Records: []*hodeipb.Record{
		{Stream: stderr, Length: 2}, {Stream: stdout, StreamOffset: 3, Length: 2},
	}})
	a.ack(7, false)
	record := &hodeipb.ExitRecord{Code: 7, Cause: contract.CauseError, End: 7, StdoutEnd: 5, StderrEnd: 2}
	a.send(record)
	a.ack(7, true)
	if err := a.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	a.failsWith(codes.OK, "")
	f := w.follower
	if string(f.data) != "abcde\x00\xff" || f.lost != 0 || len(f.exits) != 1 || !proto.Equal(f.exits[0], record) {
		t.Errorf("stored %q, %d lost, exits %v", f.data, f.lost, f.exits)
	}
	if len(f.states) != 2 || f.states[0].Phase != hodeipb.Phase_WAITING || f.states[1].Phase != hodeipb.Phase_RUNNING {
		t.Errorf("states %v", f.states)
	}

	// An attempt that comes back after its end is told that all is stored, and
	// the Follower hears of the end once.
	b := w.attach(t, 7)
	if got := b.welcome(); got.Offset != 7 {
		t.Errorf("welcome %v", got)
	}
	b.send(record)
	b.ack(7, true)
	if len(f.exits) != 1 {
		t.Errorf("exits %v", f.exits)
	}
}

// TestBadBatch sends "abc", which is fine, and then what must not be stored.
func TestBadBatch(t *testing.T) {
	one := func(change func(*hodeipb.Batch)) *hodeipb.Batch {
		b := text(3, "def")
		change(b)
		return b
	}
	const neither = "batch with a record that is neither output nor a gap"
	const beyond = "batch with a gap beyond all offsets"
	tests := []struct {
		name    string
		message any
		code    codes.Code
		want    string
	}{
		{"hole", one(func(b *hodeipb.Batch) { b.Offset = 4 }), codes.FailedPrecondition, "batch at offset 4, expected 3"},
		{"overlap", one(func(b *hodeipb.Batch) { b.Offset = 2 }), codes.FailedPrecondition, "batch at offset 2, expected 3"},
		{"again", one(func(b *hodeipb.Batch) { b.Offset = 0 }), codes.FailedPrecondition, "batch at offset 0, expected 3"},
		{"more data than records", one(func(b *hodeipb.Batch) { b.Data = []byte("defg") }), codes.InvalidArgument,
			"batch of 4 bytes with records of 3"},
		{"less data than records", one(func(b *hodeipb.Batch) { b.Data = nil }), codes.InvalidArgument,
			"batch of 0 bytes with records of 3"},
		{"no records", one(func(b *hodeipb.Batch) { b.Records = nil }), codes.InvalidArgument, "batch with 0 records"},
		{"empty", &hodeipb.Batch{}, codes.InvalidArgument, "batch with 0 records"},
		{"empty record", one(func(b *hodeipb.Batch) { b.Records[0].Length, b.Data = 0, nil }), codes.InvalidArgument, neither},
		{"no stream", one(func(b *hodeipb.Batch) { b.Records[0].Stream = 0 }), codes.InvalidArgument, neither},
		{"unknown stream", one(func(b *hodeipb.Batch) { b.Records[0].Stream = 3 }), codes.InvalidArgument, neither},
		{"output and gap in one", one(func(b *hodeipb.Batch) { b.Records[0].Lost = 1 }), codes.InvalidArgument, neither},
		{"gap with a stream", one(func(b *hodeipb.Batch) {
			b.Records[0] = &hodeipb.Record{Stream: stdout, Lost: 3}
			b.Data = nil
		}), codes.InvalidArgument, neither},
		{"gap that goes round", one(func(b *hodeipb.Batch) {
			b.Records = append(b.Records, &hodeipb.Record{Lost: math.MaxUint64})
		}), codes.InvalidArgument, beyond},
		{"output behind the largest gap", one(func(b *hodeipb.Batch) {
			b.Records = append([]*hodeipb.Record{{Lost: math.MaxUint64}}, b.Records...)
		}), codes.InvalidArgument, beyond},
		{"gap beyond all offsets", &hodeipb.Batch{Offset: 3, Records: []*hodeipb.Record{{Lost: math.MaxUint64 - 2}}}, codes.InvalidArgument,
			"batch with a gap beyond all offsets"},
		{"not what its encoding says", one(func(b *hodeipb.Batch) { b.Encoding = hodeipb.Encoding_ZSTD }), codes.InvalidArgument,
			"batch at offset 3: unexpected EOF"},
		{"compressed, of another size", one(func(b *hodeipb.Batch) { b.Encoding, b.Data = hodeipb.Encoding_ZSTD, compress("de") }),
			codes.InvalidArgument, "batch at offset 3: 2 bytes, its records have 3"},
		{"compressed, larger than its records", one(func(b *hodeipb.Batch) {
			b.Encoding, b.Data = hodeipb.Encoding_ZSTD, compress(strings.Repeat("x", 1<<24))
		}), codes.InvalidArgument, "batch at offset 3: window size exceeded"},
		{"more records than a batch may have", one(func(b *hodeipb.Batch) {
			for range hodeipb.MaxBatchRecords {
				b.Records = append(b.Records, &hodeipb.Record{Stream: stdout, Length: 1})
			}
		}), codes.InvalidArgument, "batch with 1025 records"},
		{"more data than a batch may have", one(func(b *hodeipb.Batch) { b.Records[0].Length = hodeipb.MaxBatchBytes + 1 }),
			codes.InvalidArgument, "batch of more than 1048576 bytes"},
		{"unknown encoding", one(func(b *hodeipb.Batch) { b.Encoding = 9 }), codes.InvalidArgument,
			"batch in encoding 9, which was not offered"},
		{"exit record too early", &hodeipb.ExitRecord{End: 4}, codes.FailedPrecondition, "exit record at offset 4, expected 3"},
		{"exit record too late", &hodeipb.ExitRecord{End: 2}, codes.FailedPrecondition, "exit record at offset 2, expected 3"},
		{"second hello", &hodeipb.FromAgent_Hello{Hello: hello(3)}, codes.InvalidArgument, "unexpected message *hodeipb.FromAgent_Hello"},
		{"empty message", nil, codes.InvalidArgument, "unexpected message <nil>"},
	}
	w := newWorld(t, nil)
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w.follower.data = nil
			a := w.attachAs(t, fmt.Sprint("uid-", i), 0)
			a.welcome()
			a.send(text(0, "abc"))
			a.ack(3, false)
			a.send(tt.message)
			a.failsWith(tt.code, tt.want)
			if f := w.follower; string(f.data) != "abc" || f.lost > 0 || len(f.exits) > 0 {
				t.Errorf("stored %q, %d lost, exits %v", f.data, f.lost, f.exits)
			}
		})
	}
}

func TestGap(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 1<<40)
	a.welcome()
	b := text(0, "abc")
	b.Records = append([]*hodeipb.Record{{Lost: 1 << 40}}, b.Records...)
	a.send(b)
	a.ack(1<<40+3, false)
	a.send(&hodeipb.Batch{Offset: 1<<40 + 3, Records: []*hodeipb.Record{{Lost: 5}}})
	a.ack(1<<40+8, false)
	a.send(&hodeipb.ExitRecord{End: 1<<40 + 8})
	a.ack(1<<40+8, true)
	if f := w.follower; string(f.data) != "abc" || f.lost != 1<<40+5 {
		t.Errorf("stored %q, %d lost", f.data, f.lost)
	}
}

// TestFollowerErrors checks that what was not stored is not acknowledged, and
// that an attempt which comes back goes on from there.
func TestFollowerErrors(t *testing.T) {
	w := newWorld(t, nil)
	var full, unwritable = true, true
	w.follower.output = func(b *hodeipb.Batch) error {
		if b.Offset == 3 && full {
			return errDiskFull
		}
		return nil
	}
	w.follower.exit = func(*hodeipb.ExitRecord) error {
		if unwritable {
			return errDiskFull
		}
		return nil
	}
	a := w.attach(t, 6)
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	a.send(text(3, "def"))
	a.failsWith(codes.ResourceExhausted, "store output: disk full")

	full = false
	b := w.attach(t, 6)
	if got := b.welcome(); got.Offset != 3 {
		t.Fatalf("welcome %v", got)
	}
	b.send(text(3, "def"))
	b.ack(6, false)
	b.send(&hodeipb.ExitRecord{End: 6})
	b.failsWith(codes.ResourceExhausted, "store exit record: disk full")

	unwritable = false
	c := w.attach(t, 6)
	if got := c.welcome(); got.Offset != 6 {
		t.Fatalf("welcome %v", got)
	}
	c.send(&hodeipb.ExitRecord{End: 6})
	c.ack(6, true)
	if f := w.follower; string(f.data) != "abcdef" || len(f.exits) != 1 {
		t.Errorf("stored %q, exits %v", f.data, f.exits)
	}
}

// TestResume cuts the connection where it hurts: output is on its way, and the
// Follower is in the middle of storing it.
func TestResume(t *testing.T) {
	w := newWorld(t, nil)
	storing, stored := make(chan struct{}), make(chan struct{})
	w.follower.output = func(b *hodeipb.Batch) error {
		if b.Offset == 3 {
			close(storing)
			<-stored
		}
		return nil
	}
	a := w.attach(t, 9)
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	a.send(text(3, "def"))
	a.send(text(6, "ghi")) // will be lost with the connection
	<-storing
	a.conn.Close()
	a.fails()

	// It is back before the coordinator has noticed.
	b := w.attach(t, 9)
	close(stored)
	welcome := b.welcome()
	offset := welcome.Offset
	if offset != 6 && offset != 9 { // 9: it was read before the cut
		t.Fatalf("welcome %v after the cut", welcome)
	}
	b.send(text(offset, "abcdefghijkl"[offset:]))
	b.ack(12, false)
	if f := w.follower; string(f.data) != "abcdefghijkl" {
		t.Errorf("stored %q", f.data)
	}
	if got := fmt.Sprint(w.follower.attached); got != fmt.Sprintf("[0 %d]", offset) {
		t.Errorf("attached at %s", got)
	}
}

func TestSecondAttachmentReplacesFirst(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 9)
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	b := w.attach(t, 9)
	if got := b.welcome(); got.Offset != 3 {
		t.Errorf("welcome %v", got)
	}
	a.failsWith(codes.Aborted, "another attachment of the same attempt has come")
	a.send(text(3, "XXX"))
	b.send(text(3, "def"))
	b.ack(6, false)
	if string(w.follower.data) != "abcdef" {
		t.Errorf("stored %q", w.follower.data)
	}

	// Another attempt is none of its business.
	c := w.attachAs(t, "uid-2", 0)
	if got := c.welcome(); got.Offset != 0 {
		t.Errorf("welcome of another attempt: %v", got)
	}
	b.send(text(6, "ghi"))
	b.ack(9, false)
}

// A hello may be older than what has been stored since: whether there is so much
// output, the agent knows.
func TestAttemptWithLessThanStored(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 3)
	a.welcome()
	a.send(text(0, "abc"))
	a.ack(3, false)
	b := w.attach(t, 2)
	if got := b.welcome(); got.Offset != 3 {
		t.Errorf("welcome %v", got)
	}
}

func TestSilent(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Silent = true })
	a := w.attach(t, 0)
	if got := a.welcome(); got.Output {
		t.Errorf("welcome %v", got)
	}
	a.send(&hodeipb.State{Phase: hodeipb.Phase_RUNNING})
	a.send(&hodeipb.ExitRecord{Code: 1, Cause: contract.CauseError, End: 1 << 30})
	a.ack(0, true)
	if f := w.follower; len(f.exits) != 1 || len(f.states) != 2 {
		t.Errorf("exits %v, states %v", f.exits, f.states)
	}
}

func TestCancel(t *testing.T) {
	w := newWorld(t, nil)
	isCancel := func(a *agent, grace time.Duration) {
		t.Helper()
		c := a.recv().GetControl().GetCancel()
		if c == nil || c.Grace.AsDuration() != grace {
			t.Fatalf("got %v", c)
		}
	}
	a := w.attach(t, 0)
	a.welcome()
	w.server.Cancel(&hodeipb.Cancel{Grace: durationpb.New(time.Second)})
	isCancel(a, time.Second)
	// The stream goes on: the job has yet to end.
	a.send(text(0, "abc"))
	a.ack(3, false)

	later := w.attachAs(t, "uid-2", 0)
	later.welcome()
	isCancel(later, time.Second)
	again := w.attach(t, 3)
	again.welcome()
	isCancel(again, time.Second)

	// More orders than an agent takes do not block who gives them.
	for range 100 {
		w.server.Cancel(&hodeipb.Cancel{Grace: durationpb.New(2 * time.Second)})
	}
	isCancel(again, 2*time.Second)
}

// TestJobEnded: the agent of that attempt is told, now and whenever it attaches, and no other.
func TestJobEnded(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.JobEnded("pod-of-another", "exit code 1") })
	a := w.attach(t, 0)
	a.welcome()
	w.server.JobEnded("pod-uid-1", "exit code 137")
	for _, told := range []*agent{a, w.attach(t, 0)} {
		if told != a {
			told.welcome()
		}
		if e := told.recv().GetControl().GetJobEnded(); e == nil || e.Message != "exit code 137" {
			t.Errorf("got %v", e)
		}
	}
}

func TestCancelBeforeServe(t *testing.T) {
	w := newWorld(t, func(s *Server) { s.Cancel(&hodeipb.Cancel{}) })
	a := w.attach(t, 0)
	a.welcome()
	if c := a.recv().GetControl().GetCancel(); c == nil || c.Grace != nil {
		t.Errorf("got %v", c)
	}
}

// TestClose ends attachments in each of their states. The world checks that no
// goroutine is left.
func TestClose(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 0)
	a.welcome()
	stranger, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	b := w.attachAs(t, "uid-2", 0)
	b.welcome()
	b.send(&hodeipb.ExitRecord{})
	b.ack(0, true) // and it never closes its side
	start := time.Now()
	w.server.Close()
	if took := time.Since(start); took > handshakeWait/2 {
		t.Errorf("Close waited %s for who had not shaken hands", took)
	}
	for _, x := range []*agent{a, b} {
		if s := x.fails(); s.Code() == codes.OK {
			t.Errorf("ended with %v", s)
		}
	}
	w.server.Close() // again
	conn, err := net.DialTimeout("tcp", w.addr, patience)
	if err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
}

func TestShutdown(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 0)
	a.welcome()
	done := make(chan struct{})
	go func() {
		w.server.Shutdown(context.Background())
		close(done)
	}()
	a.send(text(0, "abc")) // it waits for an attachment to complete
	a.ack(3, false)
	a.send(&hodeipb.ExitRecord{End: 3})
	a.ack(3, true)
	select {
	case <-done:
		t.Error("it did not wait for the agent's end of the stream")
	default:
	}
	if err := a.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	<-done
}

func TestShutdownGivesUp(t *testing.T) {
	w := newWorld(t, nil)
	a := w.attach(t, 0)
	a.welcome()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		w.server.Shutdown(ctx)
		close(done)
	}()
	cancel()
	<-done
	if s := a.fails(); s.Code() == codes.OK {
		t.Errorf("ended with %v", s)
	}
}

// TestSlowFollower checks that the agent is held back: no more is on its way
// than the flow control window and what gRPC buffers on both sides.
func TestSlowFollower(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	w.follower.output = func(*hodeipb.Batch) error { <-release; return nil }
	a := w.attach(t, 0)
	a.welcome()
	const total = 3 * windowBytes / (64 << 10)
	sent := make(chan int, total)
	go func() {
		chunk := strings.Repeat("x", 64<<10)
		for i := range total {
			a.send(text(uint64(i)<<16, chunk))
			sent <- i
		}
		close(sent)
	}()
	most := 0
	for quiet := false; !quiet; {
		select {
		case n, ok := <-sent:
			if !ok {
				t.Fatal("all was taken from the agent")
			}
			most = n
		case <-time.After(500 * time.Millisecond): // nothing tells that nothing will happen
			quiet = true
		}
	}
	if most < windowBytes/2>>16 {
		t.Errorf("held back after %d KiB", most<<6)
	}
	close(release)
	for range sent {
	}
	w.follower.until(t, "all output", func() bool { return len(w.follower.data) == total<<16 })
}

func compress(s string) []byte {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return encoder.EncodeAll([]byte(s), nil)
}

// FuzzBatchSize checks a batch's size against sums that can't go round.
func FuzzBatchSize(f *testing.F) {
	seed := func(b *hodeipb.Batch) {
		bytes, err := proto.Marshal(b)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	seed(text(0, "abc"))
	seed(&hodeipb.Batch{Records: []*hodeipb.Record{{Lost: 1}, {Stream: stderr, Length: 1}}, Data: []byte("x")})
	seed(&hodeipb.Batch{Records: []*hodeipb.Record{{Lost: math.MaxUint64}, {Stream: stderr, Length: 1}}, Data: []byte("x")})
	seed(&hodeipb.Batch{Records: []*hodeipb.Record{{Lost: math.MaxUint64}, {Lost: math.MaxUint64}}})
	f.Fuzz(func(t *testing.T, bytes []byte) {
		b := &hodeipb.Batch{}
		if proto.Unmarshal(bytes, b) != nil {
			t.Skip("no batch")
		}
		size, data, err := batchSize(b)
		if err != nil {
			return
		}
		left := size
		for _, r := range b.Records {
			if n := r.Lost + uint64(r.Length); n == 0 || n > left {
				t.Fatalf("size %d is not the sum of %v", size, b.Records)
			} else {
				left -= n
			}
			data -= int(r.Length)
		}
		if left != 0 || data != 0 {
			t.Fatalf("size %d is not the sum of %v with %d bytes", size, b.Records, data)
		}
	})
}

// checker is a Follower that stores nothing but wants every batch to be what its
// records say, and to continue where the one before ended.
type checker struct {
	t      *testing.T
	stored uint64
	exits  int
}

func (c *checker) Attached(*hodeipb.Hello) (Resume, error) { return Resume{Offset: c.stored}, nil }
func (c *checker) Metrics(string, *hodeipb.Metrics)        {}

func (c *checker) State(string, *hodeipb.State) {}

func (c *checker) Output(_ context.Context, _ string, b *hodeipb.Batch, data mem.BufferSlice) error {
	if b.Offset != c.stored {
		c.t.Errorf("batch at %d, stored are %d", b.Offset, c.stored)
	}
	if n := len(b.Records); n == 0 || n > hodeipb.MaxBatchRecords {
		c.t.Errorf("%d records", n)
	}
	left := data.Len()
	if left > hodeipb.MaxBatchBytes || len(b.Data) > 0 {
		c.t.Errorf("%d bytes of data, and %d in the batch", left, len(b.Data))
	}
	for _, r := range b.Records {
		n := r.Lost + uint64(r.Length)
		if n == 0 || c.stored+n < c.stored {
			c.t.Errorf("record %v at %d", r, c.stored)
		}
		c.stored += n
		left -= int(r.Length)
	}
	if left != 0 {
		c.t.Errorf("%d bytes of data more than its records say", left)
	}
	return nil
}

func (c *checker) Exited(_ string, r *hodeipb.ExitRecord) error {
	if r.End != c.stored {
		c.t.Errorf("exit record at %d, stored are %d", r.End, c.stored)
	}
	c.exits++
	return nil
}

// FuzzOutput takes any bytes as a message of an agent, whose output is stored up
// to an offset, and which comes in buffers of some size: what it says is stored,
// and acknowledged, as it is said, or it is refused and nothing is.
func FuzzOutput(f *testing.F) {
	for _, b := range []*hodeipb.Batch{
		text(7, "abc"),
		{Offset: 7, Encoding: hodeipb.Encoding_ZSTD, Data: compress("abc"), Records: text(7, "abc").Records},
		{Offset: 7, Encoding: hodeipb.Encoding_ZSTD, Data: compress(strings.Repeat("\x00", 1<<21)), Records: text(7, "abc").Records},
	} {
		bytes, err := proto.Marshal(&hodeipb.FromAgent{Message: &hodeipb.FromAgent_Batch{Batch: b}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes, uint64(7), uint16(16<<10))
	}
	decoder := newDecoder()
	f.Fuzz(func(t *testing.T, bytes []byte, stored uint64, size uint16) {
		var frames mem.BufferSlice
		for rest := bytes; len(rest) > 0; {
			n := min(len(rest), int(size)+1)
			frames = append(frames, mem.SliceBuffer(rest[:n]))
			rest = rest[n:]
		}
		e := &hodeipb.Envelope{}
		if (hodeipb.Codec{}).Unmarshal(frames, e) != nil {
			t.Skip("no message")
		}
		defer e.Free()
		kind := e.Message.Message
		c := &checker{t: t, stored: stored}
		s := &service{policy: oneJob{&Server{}}, decoder: decoder}
		a := &attempt{follower: c, stored: stored}
		ack, err := s.take(t.Context(), e, a, hello(0))
		if a.stored != c.stored || err != nil && (a.stored != stored || c.exits > 0 || ack != nil) {
			t.Errorf("stored from %d up to %d, which counts as %d; ack %v, %v", stored, c.stored, a.stored, ack, err)
		}
		switch kind.(type) {
		case *hodeipb.FromAgent_Batch, *hodeipb.FromAgent_Exit:
			if err == nil && (ack == nil || ack.Offset != c.stored || ack.Exit != (c.exits == 1)) {
				t.Errorf("stored up to %d, %d exit records; ack %v", c.stored, c.exits, ack)
			}
		default:
			if ack != nil {
				t.Errorf("ack %v of %T", ack, kind)
			}
		}
	})
}

// TestPatience is about agents that say nothing, by a clock of its own.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		silence := make(chan received)
		begin := time.Now()
		_, err := new(service).awaitHello(t.Context(), silence)
		if status.Code(err) != codes.DeadlineExceeded || time.Since(begin) != helloWait {
			t.Errorf("hello awaited for %s: %v", time.Since(begin), err)
		}
		begin = time.Now()
		if err := awaitEnd(t.Context(), silence); err != nil || time.Since(begin) != closeWait {
			t.Errorf("end awaited for %s: %v", time.Since(begin), err)
		}
	})
}
