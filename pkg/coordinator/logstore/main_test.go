package logstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/contract"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	stdout = hodeipb.Stream_STDOUT
	stderr = hodeipb.Stream_STDERR
)

var (
	testKey  = Key{Namespace: "ns", Job: "job", JobUID: "j-1", Attempt: "job-abcde", AttemptUID: "a-1"}
	testTime = time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)
)

// TestMain is also the process that is killed in the middle of writing.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LOGSTORE_TEST_WRITER"); dir != "" {
		fmt.Fprintln(os.Stderr, writeForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// testStore opens a store; segmentBytes of zero leaves them as Open has made them.
func testStore(t testing.TB, dir string, l Limits, segmentBytes int64) *Store {
	t.Helper()
	s, err := Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	if segmentBytes > 0 {
		s.segmentBytes = segmentBytes
	}
	return s
}

func mustCreate(t testing.TB, s *Store, k Key, first uint64) *Log {
	t.Helper()
	l, err := s.Create(k, first)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, l) })
	return l
}

func mustRead(t testing.TB, s *Store, k Key) *Log {
	t.Helper()
	l, err := s.Read(k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mustClose(t, l) })
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// out is a record and its bytes.
type out struct {
	stream hodeipb.Stream
	text   string
	lost   uint64
	time   time.Time
}

// piece is where a part of a stream is.
type piece struct {
	offset uint64
	length int
}

// stamp says when a record was read.
type stamp struct {
	offset uint64
	time   time.Time
}

// feed appends to a log and keeps a plain copy of what it has appended.
type feed struct {
	log     *Log
	end     uint64
	ends    [3]uint64
	all     []byte     // lost bytes are zeros
	streams [3][]byte  // both together at index 0
	pieces  [3][]piece // that a stream is made of, and both together at index 0
	times   []stamp    // of the records, in order
}

func newFeed(l *Log) *feed {
	_, end := l.Extent()
	return &feed{log: l, end: end}
}

func (f *feed) add(t testing.TB, records ...out) {
	t.Helper()
	if err := f.try(t, records...); err != nil {
		t.Fatal(err)
	}
}

func (f *feed) try(t testing.TB, records ...out) error {
	t.Helper()
	g := *f
	b, data := g.batch(records...)
	err := f.log.Append(t.Context(), b, data)
	if err == nil {
		*f = g
	}
	return err
}

// batch makes the next batch, and the copy of it.
func (f *feed) batch(records ...out) (*hodeipb.Batch, mem.BufferSlice) {
	b := &hodeipb.Batch{Offset: f.end}
	var data mem.BufferSlice
	for _, r := range records {
		if r.time.IsZero() {
			r.time = testTime
		}
		f.times = append(f.times, stamp{f.end, r.time})
		row := &hodeipb.Record{Stream: r.stream, Length: uint32(len(r.text)), TimeUnixNano: r.time.UnixNano(), Lost: r.lost}
		b.Records = append(b.Records, row)
		if r.lost > 0 {
			f.end += r.lost
			f.all = append(f.all, make([]byte, r.lost)...)
			continue
		}
		row.StreamOffset = f.ends[r.stream]
		f.pieces[0] = append(f.pieces[0], piece{f.end, len(r.text)})
		f.pieces[r.stream] = append(f.pieces[r.stream], piece{f.end, len(r.text)})
		f.all = append(f.all, r.text...)
		f.streams[0] = append(f.streams[0], r.text...)
		f.streams[r.stream] = append(f.streams[r.stream], r.text...)
		f.end += uint64(len(r.text))
		f.ends[r.stream] += uint64(len(r.text))
		half := len(r.text) / 2 // as gRPC gives it, in pieces
		data = append(data, mem.SliceBuffer(r.text[:half]), mem.SliceBuffer(r.text[half:]))
	}
	return b, data
}

// random appends a batch of up to n bytes of lines.
func (f *feed) random(t testing.TB, rnd *rand.Rand, n int) {
	t.Helper()
	var records []out
	for n > 0 && len(records) < 8 {
		size := 1 + rnd.IntN(n)
		n -= size
		b := make([]byte, size)
		for i := range b {
			b[i] = 'a' + byte(i%19)
		}
		for range size / 16 {
			b[rnd.IntN(size)] = '\n'
		}
		records = append(records, out{stream: stdout + hodeipb.Stream(rnd.IntN(2)), text: string(b)})
	}
	f.add(t, records...)
}

// collected is what a reader has given.
type collected struct {
	next uint64
	all  []byte // lost bytes are zeros
	lost uint64
	ends [3]uint64

	damages []*DamageError // where it is gaps
}

func (c *collected) take(b *hodeipb.Batch) error {
	if b.Offset != c.next {
		return fmt.Errorf("batch at %d, want %d", b.Offset, c.next)
	}
	if len(b.Records) == 0 {
		return errors.New("no records")
	}
	data := b.Data
	for i, r := range b.Records {
		if r.Lost > 0 {
			c.ends = [3]uint64{} // unknown until the stream's next record
			c.lost += r.Lost
			c.next += r.Lost
			if r.Lost < 1<<20 {
				c.all = append(c.all, make([]byte, r.Lost)...)
			}
			continue
		}
		if r.Length == 0 || int(r.Length) > len(data) {
			return fmt.Errorf("record %d of %d bytes with %d left", i, r.Length, len(data))
		}
		if c.ends[r.Stream] != 0 && c.ends[r.Stream] != r.StreamOffset {
			return fmt.Errorf("record %d: stream offset %d, want %d", i, r.StreamOffset, c.ends[r.Stream])
		}
		c.ends[r.Stream] = r.StreamOffset + uint64(r.Length)
		c.all = append(c.all, data[:r.Length]...)
		c.next += uint64(r.Length)
		data = data[r.Length:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes of no record", len(data))
	}
	return nil
}

// collect reads until an error, which is nil for io.EOF.
func collect(t testing.TB, l *Log, offset uint64) (*collected, error) {
	t.Helper()
	c := &collected{next: offset}
	for r := l.Reader(offset); ; {
		b, err := r.Next(t.Context())
		if err == io.EOF {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		if err := c.take(b); err != nil {
			t.Fatal(err)
		}
		if d := r.Damage(); d != nil {
			c.damages = append(c.damages, d)
		}
	}
}

func mustCollect(t testing.TB, l *Log, offset uint64) *collected {
	t.Helper()
	c, err := collect(t, l, offset)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// check compares what was read from an offset on with what was appended.
func (f *feed) check(t testing.TB, c *collected, offset uint64) {
	t.Helper()
	if c.next != f.end || !bytes.Equal(c.all, f.all[offset:]) {
		t.Fatalf("from %d: read %d bytes to %d, not the %d to %d that were appended", offset, len(c.all), c.next, len(f.all), f.end)
	}
}

// spell writes a batch so that a table can hold it.
func spell(b *hodeipb.Batch) string {
	var parts []string
	data := b.Data
	for _, r := range b.Records {
		if r.Lost > 0 {
			parts = append(parts, fmt.Sprintf("lost %d", r.Lost))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s@%d:%s", strings.ToLower(r.Stream.String()), r.StreamOffset, data[:r.Length]))
		data = data[r.Length:]
	}
	return fmt.Sprintf("%d %s", b.Offset, strings.Join(parts, " "))
}

func exitAt(end uint64) *hodeipb.ExitRecord {
	return &hodeipb.ExitRecord{Code: 3, Cause: contract.CauseError, End: end}
}
