package spool

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	stdout = hodeipb.Stream_STDOUT
	stderr = hodeipb.Stream_STDERR
)

var readAt = time.Date(2025, 2, 3, 4, 5, 6, 789, time.UTC)

// testSpool makes a spool that is removed at the end of the test. segmentBytes
// of zero leaves them as Open has made them.
func testSpool(t testing.TB, capBytes, segmentBytes int64) *Spool {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "spool"), capBytes, nil)
	if err != nil {
		t.Fatal(err)
	}
	if segmentBytes > 0 {
		s.segmentBytes = segmentBytes
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustAppend(t testing.TB, s *Spool, stream hodeipb.Stream, data string) {
	t.Helper()
	if err := s.Append(t.Context(), stream, readAt, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

// tryAppend stores as much as there is room for without waiting.
func tryAppend(t testing.TB, s *Spool, stream hodeipb.Stream, data []byte) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return s.Append(ctx, stream, readAt, data)
}

// collector takes batches in and checks what holds for every one.
type collector struct {
	next    uint64
	all     []byte
	streams [3][]byte
	ends    [3]uint64
	records int
	lost    uint64
}

func (c *collector) take(b *hodeipb.Batch, maxBytes int) error {
	switch {
	case b.Offset != c.next:
		return fmt.Errorf("batch at %d, want %d", b.Offset, c.next)
	case len(b.Records) == 0 || len(b.Records) > maxBatchRecords:
		return fmt.Errorf("%d records", len(b.Records))
	case len(b.Data) > maxBytes:
		return fmt.Errorf("%d bytes, want at most %d", len(b.Data), maxBytes)
	}
	data := b.Data
	for i, r := range b.Records {
		c.records++
		if r.Lost > 0 {
			if i > 0 || r.Length > 0 || r.Stream != 0 {
				return fmt.Errorf("record %d: bad gap %v", i, r)
			}
			c.next += r.Lost
			c.lost += r.Lost
			c.ends = [3]uint64{} // unknown until the stream's next record
			continue
		}
		if r.Stream != stdout && r.Stream != stderr {
			return fmt.Errorf("record %d: stream %v", i, r.Stream)
		}
		if r.Length == 0 || int(r.Length) > len(data) {
			return fmt.Errorf("record %d: length %d with %d bytes left", i, r.Length, len(data))
		}
		if c.ends[r.Stream] != 0 && r.StreamOffset != c.ends[r.Stream] {
			return fmt.Errorf("record %d: stream offset %d, want %d", i, r.StreamOffset, c.ends[r.Stream])
		}
		c.ends[r.Stream] = r.StreamOffset + uint64(r.Length)
		c.all = append(c.all, data[:r.Length]...)
		c.streams[r.Stream] = append(c.streams[r.Stream], data[:r.Length]...)
		c.next += uint64(r.Length)
		data = data[r.Length:]
	}
	if len(data) > 0 {
		return fmt.Errorf("%d bytes belong to no record", len(data))
	}
	return nil
}

// forget empties the tail, so that what follows is read from the file.
func forget(s *Spool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tail.free()
}

// nextBatch is next with the data in the batch.
func nextBatch(r *Reader, ctx context.Context, maxBytes int, flush time.Duration) (*hodeipb.Batch, error) {
	b, data, err := r.Next(ctx, maxBytes, flush)
	if err == nil {
		b.Data = data.Materialize()
		data.Free()
	}
	return b, err
}

// readAll reads to the end of a closed spool.
func readAll(t testing.TB, r *Reader, maxBytes int) *collector {
	t.Helper()
	c := &collector{next: r.offset}
	for {
		b, err := nextBatch(r, t.Context(), maxBytes, 0)
		if err == io.EOF {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := c.take(b, maxBytes); err != nil {
			t.Fatal(err)
		}
	}
}

// printed is what was appended, as a plain copy.
type printed struct {
	all     []byte
	streams [3][]byte
}

func (o *printed) add(stream hodeipb.Stream, data []byte) {
	o.all = append(o.all, data...)
	o.streams[stream] = append(o.streams[stream], data...)
}

func (o *printed) check(t testing.TB, c *collector) {
	t.Helper()
	if sha256.Sum256(c.all) != sha256.Sum256(o.all) {
		t.Errorf("both streams: read %d bytes, not the %d that were appended", len(c.all), len(o.all))
	}
	for _, stream := range []hodeipb.Stream{stdout, stderr} {
		if sha256.Sum256(c.streams[stream]) != sha256.Sum256(o.streams[stream]) {
			t.Errorf("%v: read %d bytes, not the %d that were appended",
				stream, len(c.streams[stream]), len(o.streams[stream]))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name         string
		capBytes     int64
		segmentBytes int64
		appends      int
		maxAppend    int
		maxBytes     int
	}{
		{"lines", 1 << 20, 0, 3000, 120, 64 << 10},
		{"lines and tiny batches", 1 << 20, 0, 1000, 120, 7},
		{"single bytes", 1 << 20, 0, 5000, 1, 64 << 10},
		{"pipe reads", 64 << 20, 0, 200, 64 << 10, 64 << 10},
		{"pipe reads and odd batches", 64 << 20, 0, 200, 64 << 10, 10007},
		{"tiny segments", 1 << 20, 100, 500, 300, 1000},
		{"appends beyond a segment", 16 << 20, 0, 5, 3 << 20, 64 << 10},
		{"batches beyond a segment", 16 << 20, 0, 40, 200 << 10, 5 << 20},
		{"least cap", minBytes, 0, 10, 300, 1000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			s := testSpool(t, tt.capBytes, tt.segmentBytes)
			var want printed
			for range tt.appends {
				stream := stdout + hodeipb.Stream(rnd.IntN(2))
				data := agenttest.RandomBytes(rnd, 1+rnd.IntN(tt.maxAppend))
				want.add(stream, data)
				if err := s.Append(t.Context(), stream, readAt, data); err != nil {
					t.Fatal(err)
				}
			}
			s.Close()

			want.check(t, readAll(t, s.Reader(0), tt.maxBytes))
			forget(s)
			want.check(t, readAll(t, s.Reader(0), tt.maxBytes))
			out, err := s.StreamEnds()
			if int(out) != len(want.streams[stdout]) || int(err) != len(want.streams[stderr]) {
				t.Errorf("stream ends %d, %d", out, err)
			}
			if first, end := s.Extent(); first != 0 || int(end) != len(want.all) {
				t.Errorf("extent %d, %d", first, end)
			}
			for range 50 { // also by way of the index
				from := rnd.IntN(len(want.all) + 1)
				r, c := s.Reader(uint64(from)), &collector{next: uint64(from)}
				for range 3 {
					b, err := nextBatch(r, t.Context(), tt.maxBytes, 0)
					if err == io.EOF {
						break
					}
					if err == nil {
						err = c.take(b, tt.maxBytes)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if !bytes.Equal(c.all, want.all[from:c.next]) {
					t.Fatalf("from %d: read %d bytes that are not those", from, len(c.all))
				}
			}
		})
	}
}

// spellBatch writes a batch so that a table can hold it.
func spellBatch(b *hodeipb.Batch) string {
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

func TestReaderStart(t *testing.T) {
	tests := []struct {
		name     string
		offset   uint64
		maxBytes int
		want     []string
	}{
		{"first record", 0, 100, []string{"0 stdout@0:abcd stderr@0:EF stdout@4:ghi"}},
		{"middle of a record", 2, 100, []string{"2 stdout@2:cd stderr@0:EF stdout@4:ghi"}},
		{"last byte of a record", 5, 100, []string{"5 stderr@1:F stdout@4:ghi"}},
		{"start of a record", 6, 100, []string{"6 stdout@4:ghi"}},
		{"last byte", 8, 100, []string{"8 stdout@6:i"}},
		{"end", 9, 100, nil},
		{"beyond the end", 1000, 100, nil},
		{"last of all offsets", ^uint64(0), 100, nil},
		{"cut", 1, 4, []string{"1 stdout@1:bcd stderr@0:E", "5 stderr@1:F stdout@4:ghi"}},
		{"cut at a record's end", 0, 4, []string{"0 stdout@0:abcd", "4 stderr@0:EF stdout@4:gh", "8 stdout@6:i"}},
		{"cut at every byte", 7, 1, []string{"7 stdout@5:h", "8 stdout@6:i"}},
		{"no size", 7, 0, []string{"7 stdout@5:h", "8 stdout@6:i"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testSpool(t, 1<<20, 0)
			mustAppend(t, s, stdout, "abcd")
			mustAppend(t, s, stderr, "EF")
			mustAppend(t, s, stdout, "")
			mustAppend(t, s, stdout, "ghi")
			s.Close()
			r := s.Reader(tt.offset)
			var got []string
			for {
				b, err := nextBatch(r, t.Context(), tt.maxBytes, 0)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, spellBatch(b))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestReaderBeyondTheEndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testSpool(t, 1<<20, 0)
		mustAppend(t, s, stdout, "abc")
		got := make(chan string)
		go func() {
			b, err := nextBatch(s.Reader(5), t.Context(), 100, 0)
			if err != nil {
				t.Error(err)
			}
			got <- spellBatch(b)
		}()
		synctest.Wait()
		mustAppend(t, s, stdout, "de") // up to the offset, not yet beyond it
		synctest.Wait()
		select {
		case b := <-got:
			t.Fatalf("got %q before there was a byte at its offset", b)
		default:
		}
		mustAppend(t, s, stderr, "fgh")
		if b := <-got; b != "5 stderr@0:fgh" {
			t.Errorf("got %q", b)
		}
	})
}

// One reader waits for a byte, another for a full batch: each is woken for its own.
func TestReadersWaitForDifferentEnds(t *testing.T) {
	for _, order := range []string{"byte first", "batch first"} {
		t.Run(order, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testSpool(t, 1<<20, 0)
				mustAppend(t, s, stdout, "abc")
				got := make(chan string, 2)
				read := func(offset uint64, flush time.Duration) {
					b, err := nextBatch(s.Reader(offset), t.Context(), 6, flush)
					if err != nil {
						t.Error(err)
					}
					got <- spellBatch(b)
				}
				forByte := func() { read(3, 0) }
				forBatch := func() { read(0, time.Hour) }
				first, second := forByte, forBatch
				if order == "batch first" {
					first, second = forBatch, forByte
				}
				go first()
				synctest.Wait()
				go second()
				synctest.Wait()
				start := time.Now()
				for _, step := range []struct{ data, want string }{
					{"d", "3 stdout@3:d"},
					{"ef", "0 stdout@0:abcdef"},
				} {
					mustAppend(t, s, stdout, step.data)
					if b := <-got; b != step.want {
						t.Errorf("got %q, want %q", b, step.want)
					}
				}
				if late := time.Since(start); late > 0 {
					t.Errorf("%v late", late)
				}
			})
		})
	}
}

func TestMergesNeighbours(t *testing.T) {
	type one struct {
		stream hodeipb.Stream
		at     time.Duration
	}
	tests := []struct {
		name    string
		appends []one
		want    []uint32 // lengths of records
	}{
		{"same time", []one{{stdout, 0}, {stdout, 0}, {stdout, 0}}, []uint32{3}},
		{"20 ms", []one{{stdout, 0}, {stdout, 20 * time.Millisecond}}, []uint32{2}},
		{"more than 20 ms", []one{{stdout, 0}, {stdout, 20*time.Millisecond + 1}}, []uint32{1, 1}},
		{"20 ms from the first, not the last", []one{{stdout, 0}, {stdout, 15 * time.Millisecond}, {stdout, 30 * time.Millisecond}},
			[]uint32{2, 1}},
		{"clock set back a little", []one{{stdout, 0}, {stdout, -20 * time.Millisecond}}, []uint32{2}},
		{"clock set back", []one{{stdout, 0}, {stdout, -time.Hour}}, []uint32{1, 1}},
		{"other stream between", []one{{stdout, 0}, {stderr, 0}, {stdout, 0}}, []uint32{1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testSpool(t, 1<<20, 0)
			for _, a := range tt.appends {
				if err := s.Append(t.Context(), a.stream, readAt.Add(a.at), []byte("x")); err != nil {
					t.Fatal(err)
				}
			}
			b, err := nextBatch(s.Reader(0), t.Context(), 100, 0)
			if err != nil {
				t.Fatal(err)
			}
			var got []uint32
			for _, r := range b.Records {
				got = append(got, r.Length)
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("records of %v bytes, want %v", got, tt.want)
			}
			if got := b.Records[0].TimeUnixNano; got != readAt.UnixNano() {
				t.Errorf("time %d, want that of the first, %d", got, readAt.UnixNano())
			}
		})
	}
}

func TestBoundsRecordsOfABatch(t *testing.T) {
	s := testSpool(t, 1<<20, 0)
	for i := range 3000 {
		mustAppend(t, s, stdout+hodeipb.Stream(i%2), "x")
	}
	s.Close()
	r := s.Reader(0)
	for _, want := range []int{1024, 1024, 952} {
		b, err := nextBatch(r, t.Context(), 64<<10, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Records) != want || len(b.Data) != want {
			t.Fatalf("%d records, %d bytes; want %d", len(b.Records), len(b.Data), want)
		}
		if size := proto.Size(b) - len(b.Data); size > 24<<10 {
			t.Errorf("%d bytes besides the data", size)
		}
	}
}

// Two writers and readers of every pace: all see the same order, and each stream whole.
func TestConcurrent(t *testing.T) {
	const each = 4 << 20
	for _, tt := range []struct {
		name     string
		capBytes int64
	}{
		{"all of it held", 64 << 20},
		{"at the cap", 1 << 20}, // writers go at the pace of the slowest reader
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testSpool(t, tt.capBytes, 0)
			var streams [3][32]byte
			var writers, readers sync.WaitGroup
			for _, stream := range []hodeipb.Stream{stdout, stderr} {
				rnd := rand.New(rand.NewPCG(3, uint64(stream)))
				data := agenttest.RandomBytes(rnd, each)
				streams[stream] = sha256.Sum256(data)
				writers.Go(func() {
					for len(data) > 0 {
						n := min(1+rnd.IntN(20<<10), len(data))
						if err := s.Append(t.Context(), stream, time.Now(), data[:n]); err != nil {
							t.Error(err)
							return
						}
						data = data[n:]
					}
				})
			}

			var mu sync.Mutex
			var offsets [6]uint64 // reached by each reader
			var sums [len(offsets)][32]byte
			for i := range offsets {
				readers.Go(func() {
					rnd := rand.New(rand.NewPCG(4, uint64(i)))
					r := s.Reader(0)
					c := &collector{}
					for {
						// From 200 bytes to 200 KiB at a time: the slow ones fall behind.
						maxBytes := 1 + rnd.IntN([]int{2 << 10, 20 << 10, 200 << 10}[i%3])
						b, err := nextBatch(r, t.Context(), maxBytes, time.Duration(i/3)*time.Millisecond)
						if err == io.EOF {
							break
						}
						if err == nil {
							err = c.take(b, maxBytes)
						}
						if err != nil {
							t.Errorf("reader %d: %v", i, err)
							s.Close() // else the writers wait for it
							return
						}
						mu.Lock()
						offsets[i] = c.next
						least := offsets[0]
						for _, offset := range offsets {
							least = min(least, offset)
						}
						mu.Unlock()
						s.Stored(least)
					}
					sums[i] = sha256.Sum256(c.all)
					for _, stream := range []hodeipb.Stream{stdout, stderr} {
						if sha256.Sum256(c.streams[stream]) != streams[stream] {
							t.Errorf("reader %d: %v is not what was written", i, stream)
						}
					}
				})
			}
			writers.Wait()
			s.Close()
			readers.Wait()
			for i := range sums {
				if sums[i] != sums[0] {
					t.Errorf("readers 0 and %d saw different orders", i)
				}
			}
		})
	}
}

// A reader that is overtaken while it reads gets each byte right or in a gap.
func TestOvertakenReader(t *testing.T) {
	const total = 2 << 20
	// Segments so small that a batch has hundreds: some may go while it is being made.
	s := testSpool(t, 64<<10, 256)
	s.DropUnstored(true)
	want := agenttest.RandomBytes(rand.New(rand.NewPCG(5, 6)), total)
	var readers sync.WaitGroup
	for i := range 3 {
		readers.Go(func() {
			r := s.Reader(0)
			c := &collector{}
			for {
				maxBytes := []int{50, 5000, 50000}[i]
				at := len(c.all)
				b, err := nextBatch(r, t.Context(), maxBytes, 0)
				if err == io.EOF {
					break
				}
				if err == nil {
					err = c.take(b, maxBytes)
				}
				if err != nil {
					t.Error(err)
					return
				}
				got := c.all[at:]
				if from := c.next - uint64(len(got)); !bytes.Equal(got, want[from:c.next]) {
					t.Errorf("wrong bytes at %d", from)
					return
				}
			}
			if c.next != total {
				t.Errorf("reader %d ended at %d", i, c.next)
			}
		})
	}
	for rest := want; len(rest) > 0; {
		n := min(1000, len(rest))
		mustAppend(t, s, stdout, string(rest[:n]))
		rest = rest[n:]
	}
	s.Close()
	readers.Wait()
}

// The two moments at which a segment can go while a batch is being made.
func TestDroppedDuringABatch(t *testing.T) {
	t.Run("between two reads", func(t *testing.T) {
		s := testSpool(t, minBytes, 100)
		s.DropUnstored(true)
		mustAppend(t, s, stdout, strings.Repeat("x", 300))
		r := s.Reader(0)
		r.buf = make([]byte, 8<<10)
		if more, err := r.fillMore(1000); !more || err != nil || r.offset != 100-recordHeader {
			t.Fatalf("more %v, error %v, offset %d", more, err, r.offset)
		}
		mustAppend(t, s, stdout, strings.Repeat("y", 2*minBytes))
		if more, err := r.fillMore(1000); more || err != nil {
			t.Errorf("more %v, error %v", more, err)
		}
		first, _ := s.Extent()
		b, err := nextBatch(r, t.Context(), 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := spellBatch(b), fmt.Sprintf("79 lost %d stdout@%d:y", first-79, first); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("between looking it up and reading it", func(t *testing.T) {
		s := testSpool(t, minBytes, 0)
		mustAppend(t, s, stdout, "abc")
		forget(s)
		if err := removeSegments(s.segments); err != nil {
			t.Fatal(err)
		}
		r := s.Reader(0)
		if data := r.fill(100); data != nil || len(r.batch.Records) > 0 {
			t.Errorf("got %v", data)
		}
		s.segments = nil
	})
}

func diskBytes(t testing.TB, s *Spool) (total int64) {
	t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

func TestCap(t *testing.T) {
	const capBytes, segmentBytes = 16 << 10, 1 << 10
	line := bytes.Repeat([]byte("x"), 79)
	// fill appends lines until one has to wait.
	fill := func(t *testing.T, s *Spool) {
		for range 1000 {
			if err := tryAppend(t, s, stdout, line); errors.Is(err, context.Canceled) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
		t.Fatal("there is always room")
	}
	t.Run("nothing stored", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		fill(t, s)
		first, end := s.Extent()
		if first != 0 {
			t.Errorf("%d bytes dropped", first)
		}
		if used := diskBytes(t, s); used > capBytes || used < capBytes-2*recordHeader-int64(len(line)) {
			t.Errorf("%d bytes on disk, cap %d", used, capBytes)
		}
		if err := tryAppend(t, s, stdout, line); err == nil || err.Error() != "wait for room in the spool: context canceled" {
			t.Errorf("error %v", err)
		}
		if _, now := s.Extent(); now != end {
			t.Errorf("end moved from %d to %d", end, now)
		}
		s.Close()
		if c := readAll(t, s.Reader(0), 64<<10); c.next != end {
			t.Errorf("read up to %d of %d", c.next, end)
		}
	})
	t.Run("stored alone drops nothing", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		mustAppend(t, s, stdout, strings.Repeat("x", 3*segmentBytes))
		s.Stored(3 * segmentBytes)
		if first, _ := s.Extent(); first != 0 {
			t.Errorf("%d bytes dropped", first)
		}
	})
	t.Run("part stored", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		fill(t, s)
		_, before := s.Extent()
		s.Stored(before / 2)
		s.Stored(1) // acks of several coordinators come in any order
		fill(t, s)
		first, end := s.Extent()
		if first == 0 || first > before/2 {
			t.Errorf("first is %d with %d stored", first, before/2)
		}
		if before/2-first >= segmentBytes {
			t.Errorf("first is %d, a whole segment below %d", first, before/2)
		}
		if used := diskBytes(t, s); used > capBytes {
			t.Errorf("%d bytes on disk, cap %d", used, capBytes)
		}
		s.Close()
		for _, from := range []uint64{0, 1, first - 1, first, first + 1, end} {
			c := readAll(t, s.Reader(from), 1000)
			if want := first - min(from, first); c.lost != want {
				t.Errorf("from %d: lost %d, want %d", from, c.lost, want)
			}
			if want := end - max(from, first); uint64(len(c.all)) != want {
				t.Errorf("from %d: %d bytes, want %d", from, len(c.all), want)
			}
		}
	})
	t.Run("all stored", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		for range 1000 {
			if err := tryAppend(t, s, stderr, line); err != nil {
				t.Fatal(err)
			}
			_, end := s.Extent()
			s.Stored(end)
		}
		if used := diskBytes(t, s); used > capBytes {
			t.Errorf("%d bytes on disk, cap %d", used, capBytes)
		}
	})
	t.Run("all stored in the only segment", func(t *testing.T) {
		s := testSpool(t, minBytes, 0)
		for i := range 100 {
			if err := tryAppend(t, s, stderr, line); err != nil {
				t.Fatalf("append %d: %v", i, err)
			}
			_, end := s.Extent()
			s.Stored(end)
		}
	})
	t.Run("a wrong ack", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		mustAppend(t, s, stdout, "abc")
		s.Stored(1 << 60)
		fill(t, s)
		fill(t, s)
		if first, _ := s.Extent(); first > segmentBytes {
			t.Errorf("%d unstored bytes dropped", first)
		}
	})
	t.Run("drop", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		s.DropUnstored(true)
		for range 1000 {
			if err := tryAppend(t, s, stdout, line); err != nil {
				t.Fatal(err)
			}
		}
		if used := diskBytes(t, s); used > capBytes || used < capBytes-2*segmentBytes {
			t.Errorf("%d bytes on disk, cap %d", used, capBytes)
		}
		s.DropUnstored(false)
		fill(t, s)
	})
	t.Run("append beyond the cap", func(t *testing.T) {
		s := testSpool(t, capBytes, segmentBytes)
		err := tryAppend(t, s, stdout, make([]byte, 2*capBytes))
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v", err)
		}
		out, _ := s.StreamEnds()
		if _, end := s.Extent(); out != end || end == 0 || end > capBytes {
			t.Errorf("%d bytes stored, end %d", out, end)
		}
	})
}

func TestGapRecord(t *testing.T) {
	s := testSpool(t, minBytes, 100)
	mustAppend(t, s, stdout, strings.Repeat("a", 158)) // two segments
	mustAppend(t, s, stderr, "bc")
	s.Stored(158)
	if err := tryAppend(t, s, stdout, make([]byte, minBytes)); err == nil {
		t.Fatal("there is room for more than the cap")
	}
	tests := []struct {
		offset uint64
		want   string
	}{
		{0, "0 lost 158 stderr@0:bc"},
		{1, "1 lost 157 stderr@0:bc"},
		{157, "157 lost 1 stderr@0:bc"},
		{158, "158 stderr@0:bc"},
	}
	for _, tt := range tests {
		b, err := nextBatch(s.Reader(tt.offset), t.Context(), 2, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := spellBatch(b); got != tt.want {
			t.Errorf("from %d: got %q, want %q", tt.offset, got, tt.want)
		}
	}
}

func TestBlockedWriter(t *testing.T) {
	cause := errors.New("the job has ended")
	tests := []struct {
		name    string
		release func(s *Spool, cancel context.CancelCauseFunc)
		want    error
	}{
		{"stored", func(s *Spool, _ context.CancelCauseFunc) { s.Stored(4000) }, nil},
		{"drop", func(s *Spool, _ context.CancelCauseFunc) { s.DropUnstored(true) }, nil},
		{"context", func(_ *Spool, cancel context.CancelCauseFunc) { cancel(cause) }, cause},
		{"close", func(s *Spool, _ context.CancelCauseFunc) { s.Close() }, ErrClosed},
		{"remove", func(s *Spool, _ context.CancelCauseFunc) { s.Remove() }, ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testSpool(t, minBytes, 0)
				mustAppend(t, s, stdout, strings.Repeat("x", 4000))
				blocked, changed := s.Full()
				if blocked {
					t.Fatal("full before anybody waits")
				}
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				result := make(chan error, 2)
				for _, stream := range []hodeipb.Stream{stdout, stderr} {
					go func() { result <- s.Append(ctx, stream, readAt, make([]byte, 100)) }()
				}
				<-changed
				synctest.Wait()
				s.Stored(0) // wakes nobody in vain
				synctest.Wait()
				blocked, changed = s.Full()
				if !blocked || len(result) > 0 {
					t.Fatalf("full is %v, %d writers are done", blocked, len(result))
				}

				tt.release(s, cancel)
				for range 2 {
					if err := <-result; !errors.Is(err, tt.want) {
						t.Errorf("error %v, want %v", err, tt.want)
					}
				}
				<-changed
				if blocked, _ := s.Full(); blocked {
					t.Error("still full")
				}
			})
		})
	}
}

func TestFlush(t *testing.T) {
	const flush = 20 * time.Millisecond
	const gather = flush / 10
	type step struct {
		after time.Duration
		bytes int // zero: close
	}
	type batch struct {
		at    time.Duration
		bytes int
	}
	tests := []struct {
		name  string
		steps []step
		busy  time.Duration // of the reader between two batches
		want  []batch
	}{
		{"64 KiB at once", []step{{0, 64 << 10}}, 0, []batch{{0, 64 << 10}}},
		{"64 KiB in pieces", []step{{time.Second, 60 << 10}, {time.Millisecond, 4 << 10}}, 0,
			[]batch{{1001 * time.Millisecond, 64 << 10}}},
		{"soon after a pause, then 20 ms after the one before",
			[]step{{time.Hour, 1}, {12 * time.Millisecond, 2}, {12 * time.Millisecond, 3}, {time.Second, 4}}, 0,
			[]batch{{time.Hour + gather, 1}, {time.Hour + gather + flush, 2}, {time.Hour + gather + 2*flush, 3},
				{time.Hour + 1024*time.Millisecond + gather, 4}}},
		{"at close at once", []step{{0, 7}, {time.Millisecond, 0}}, 0, []batch{{time.Millisecond, 7}}},
		{"a rest", []step{{time.Second, 100 << 10}}, 0,
			[]batch{{time.Second, 64 << 10}, {time.Second + flush, 36 << 10}}},
		{"a rest that waited behind a slow reader", []step{{time.Second, 100 << 10}}, 30 * time.Millisecond,
			[]batch{{time.Second, 64 << 10}, {time.Second + 30*time.Millisecond, 36 << 10}}},
		{"a rest that waited for part of the time", []step{{time.Second, 100 << 10}}, 15 * time.Millisecond,
			[]batch{{time.Second, 64 << 10}, {time.Second + flush, 36 << 10}}},
		{"no rest", []step{{time.Second, 64 << 10}, {time.Second, 1}}, 15 * time.Millisecond,
			[]batch{{time.Second, 64 << 10}, {2*time.Second + gather, 1}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				s := testSpool(t, 1<<20, 0)
				var writer sync.WaitGroup
				writer.Go(func() {
					for _, step := range tt.steps {
						time.Sleep(step.after)
						if step.bytes == 0 {
							s.Close()
							return
						}
						if err := s.Append(t.Context(), stdout, time.Now(), make([]byte, step.bytes)); err != nil {
							t.Error(err)
						}
					}
				})
				r := s.Reader(0)
				for i, want := range tt.want {
					b, err := nextBatch(r, t.Context(), 64<<10, flush)
					if err != nil {
						t.Fatal(err)
					}
					if got := (batch{time.Since(start), len(b.Data)}); got != want {
						t.Errorf("batch %d: %d bytes after %v, want %d after %v", i, got.bytes, got.at, want.bytes, want.at)
					}
					time.Sleep(tt.busy)
				}
				writer.Wait()
			})
		})
	}
}

func TestNextEnds(t *testing.T) {
	cause := errors.New("the coordinator is gone")
	tests := []struct {
		name  string
		bytes int // there before
		end   func(s *Spool, cancel context.CancelCauseFunc)
		want  error
	}{
		{"context, nothing there", 0, func(_ *Spool, cancel context.CancelCauseFunc) { cancel(cause) }, cause},
		{"context, before the flush", 1, func(_ *Spool, cancel context.CancelCauseFunc) { cancel(cause) }, cause},
		{"close", 0, func(s *Spool, _ context.CancelCauseFunc) { s.Close() }, io.EOF},
		{"close, more there", 1, func(s *Spool, _ context.CancelCauseFunc) { s.Close() }, nil},
		{"remove", 0, func(s *Spool, _ context.CancelCauseFunc) { s.Remove() }, ErrClosed},
		{"remove, more there", 1, func(s *Spool, _ context.CancelCauseFunc) { s.Remove() }, ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testSpool(t, 1<<20, 0)
				mustAppend(t, s, stdout, strings.Repeat("x", tt.bytes))
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				r := s.Reader(0)
				result := make(chan error)
				go func() {
					_, err := nextBatch(r, ctx, 100, time.Hour)
					result <- err
				}()
				synctest.Wait()
				tt.end(s, cancel)
				if err := <-result; err != tt.want {
					t.Fatalf("error %v, want %v", err, tt.want)
				}
				if tt.want != nil {
					if _, err := nextBatch(r, ctx, 100, 0); err != tt.want {
						t.Errorf("then error %v, want %v", err, tt.want)
					}
				}
			})
		})
	}
}

func TestClosed(t *testing.T) {
	s := testSpool(t, 1<<20, 0)
	mustAppend(t, s, stdout, "abc")
	s.Close()
	s.Close()
	if err := s.Append(t.Context(), stdout, readAt, []byte("d")); err != ErrClosed {
		t.Errorf("append after close: %v", err)
	}
	r := s.Reader(0)
	for range 2 {
		if err := s.Remove(); err != nil {
			t.Error(err)
		}
	}
	if b := r.fill(100); b != nil || len(r.batch.Records) > 0 {
		t.Errorf("what is removed was given as %v", &r.batch) // a gap would say it was lost
	}
	if entries, err := os.ReadDir(s.dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestOpen(t *testing.T) {
	t.Run("empties the directory of segments", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "[a*b?")
		if _, err := Open(dir, 1<<20, nil); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"segment-00000000", "segment-00000007", "other"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(dir, 1<<20, nil)
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, s, stdout, "abc")
		if err := s.Remove(); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 || entries[0].Name() != "other" {
			t.Errorf("left: %v, %v", entries, err)
		}
	})
	t.Run("cap too small", func(t *testing.T) {
		if _, err := Open(t.TempDir(), minBytes-1, nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("not a directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file, 1<<20, nil); !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("segment size", func(t *testing.T) {
		for capBytes, want := range map[int64]int64{
			minBytes: minBytes,
			64 << 10: 64 << 10,
			1 << 20:  64 << 10,
			16 << 20: 1 << 20,
			1 << 30:  64 << 20,
			1 << 40:  64 << 20,
		} {
			s, err := Open(t.TempDir(), capBytes, nil)
			if err != nil {
				t.Fatal(err)
			}
			if s.segmentBytes != want {
				t.Errorf("cap %d: segments of %d, want %d", capBytes, s.segmentBytes, want)
			}
		}
	})
}

func TestNoSuchStream(t *testing.T) {
	s := testSpool(t, 1<<20, 0)
	for _, stream := range []hodeipb.Stream{-1, 0, 3, 257} {
		if err := s.Append(t.Context(), stream, readAt, []byte("x")); err == nil {
			t.Errorf("stream %d was taken", stream)
		}
	}
}

// The memory of a spool follows the bytes on disk, not the number of reads.
func TestMemory(t *testing.T) {
	appends := 1_000_000
	if testing.Short() {
		appends = 100_000
	}
	s := testSpool(t, 1<<30, 0)
	data := []byte("x")
	for range appends {
		if err := s.Append(t.Context(), stdout, readAt, data); err != nil {
			t.Fatal(err)
		}
	}
	entries := 0
	for _, seg := range s.segments {
		entries += len(seg.index)
	}
	least, most := int(s.used/(indexEvery+recordHeader+1)), int(s.used/indexEvery)+len(s.segments)
	if entries < least || entries > most {
		t.Errorf("%d index entries for %d bytes on disk, want %d to %d", entries, s.used, least, most)
	}
	if used := diskBytes(t, s); used != s.used || used != int64(appends*(recordHeader+1)) {
		t.Errorf("%d bytes on disk, %d counted", used, s.used)
	}
	s.Close()
	if c := readAll(t, s.Reader(0), 64<<10); len(c.all) != appends || c.records > appends/(64<<10)+1 {
		t.Errorf("%d bytes in %d records", len(c.all), c.records)
	}
}

func TestAllocations(t *testing.T) {
	s := testSpool(t, 1<<20, 0)
	r := s.Reader(0)
	data := make([]byte, 100)
	if allocs := testing.AllocsPerRun(20_000, func() {
		if err := s.Append(t.Context(), stdout, readAt, data); err != nil {
			t.Fatal(err)
		}
		b, batched, err := r.Next(t.Context(), len(data), 0)
		if err != nil {
			t.Fatal(err)
		}
		s.Stored(b.Offset + uint64(batched.Len()))
		batched.Free()
	}); allocs >= 2 { // the slice of buffers, and a new segment now and then
		t.Errorf("%v allocations for one append and one batch", allocs)
	}
}

func TestFullDisk(t *testing.T) {
	dir := agenttest.SmallDisk(t)
	// With this size the disk is full in the middle of a record, not between two segments.
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 52<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(filepath.Join(dir, "spool"), 1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}

	rnd := rand.New(rand.NewPCG(7, 8))
	var want printed
	// write appends until it fails and keeps count of what was stored.
	write := func() error {
		for i := range 1000 {
			stream := stdout + hodeipb.Stream(i%2)
			data := agenttest.RandomBytes(rnd, 3000)
			_, before := s.Extent()
			err := s.Append(t.Context(), stream, readAt, data)
			_, after := s.Extent()
			want.add(stream, data[:after-before])
			if err != nil {
				return err
			}
		}
		return nil
	}
	err = write()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	if !strings.HasPrefix(err.Error(), "append ") && !strings.HasPrefix(err.Error(), "add to spool: ") {
		t.Errorf("error %q does not say what was being done", err)
	}
	if used := diskBytes(t, s); used != s.used {
		t.Errorf("%d bytes on disk, %d counted: a torn record is left", used, s.used)
	}
	full := len(want.all)
	b, err := nextBatch(s.Reader(0), t.Context(), 1<<20, 0)
	if err != nil || !bytes.Equal(b.Data, want.all) {
		t.Errorf("read %d bytes of %d on a full disk: %v", len(b.GetData()), full, err)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := write(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	if more := len(want.all) - full; more < 40<<10 {
		t.Errorf("only %d more bytes with 52 KiB of room made", more)
	}
	s.Close()
	want.check(t, readAll(t, s.Reader(0), 10_000))
	if err := s.Remove(); err != nil {
		t.Error(err)
	}
}

func TestDamagedFile(t *testing.T) {
	s := testSpool(t, 1<<20, 0)
	mustAppend(t, s, stdout, "abc")
	mustAppend(t, s, stderr, "def")
	if _, err := s.segments[0].file.WriteAt([]byte{9}, recordHeader+3); err != nil {
		t.Fatal(err)
	}
	forget(s)
	r := s.Reader(0)
	b, err := nextBatch(r, t.Context(), 100, 0)
	if err != nil || spellBatch(b) != "0 stdout@0:abc" {
		t.Fatalf("got %v, %v before the damage", b, err)
	}
	var said []string
	s.damaged = func(err error) { said = append(said, err.Error()) }
	if b, err = nextBatch(r, t.Context(), 100, 0); err != nil || spellBatch(b) != "3 lost 3" {
		t.Errorf("got %v, %v for what is damaged", b, err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "3 bytes are lost") || !strings.Contains(said[0], "damaged record at byte 24") {
		t.Errorf("said %q", said)
	}
	mustAppend(t, s, stdout, "ghi") // and what comes afterwards is there
	if b, err = nextBatch(r, t.Context(), 100, 0); err != nil || spellBatch(b) != "6 stdout@3:ghi" {
		t.Errorf("got %v, %v behind it", b, err)
	}
}

// FuzzSpool compares a spool with a plain slice under any order of operations.
// Each is two bytes: which one and its argument.
func FuzzSpool(f *testing.F) {
	f.Add([]byte("\x00\x05\x01\x07\x03\x00\x03\xff"))
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 1000 {
			t.Skip("longer finds no more")
		}
		s := testSpool(t, minBytes, 300)
		rnd := rand.New(rand.NewPCG(9, 10))
		var want []byte
		var streams []hodeipb.Stream // of each byte of want
		var inStream []uint64        // offset of each byte of want
		var ends [3]uint64
		readers := []*Reader{s.Reader(0)}
		closed := false
		for ; len(ops) >= 2; ops = ops[2:] {
			arg := int(ops[1])
			switch op := ops[0] % 8; op {
			case 0, 1, 2: // append a little to one, a little to the other, much
				stream := stdout + hodeipb.Stream(op%2)
				if op == 2 {
					arg *= 17
				}
				data := agenttest.RandomBytes(rnd, arg)
				_, before := s.Extent()
				err := tryAppend(t, s, stream, data)
				_, after := s.Extent()
				data = data[:after-before]
				switch {
				case err == nil && len(data) != arg:
					t.Fatalf("%d of %d bytes stored without an error", len(data), arg)
				case err != nil && !errors.Is(err, context.Canceled) && !(closed && err == ErrClosed):
					t.Fatal(err)
				}
				for range data {
					streams = append(streams, stream)
					inStream = append(inStream, ends[stream])
					ends[stream]++
				}
				want = append(want, data...)
			case 3, 4: // a reader reads
				r := readers[arg%len(readers)]
				if r.offset >= uint64(len(want)) && !closed {
					continue // it would wait
				}
				maxBytes := 1 + arg*int(op-2)
				first, _ := s.Extent()
				at := r.offset
				b, err := nextBatch(r, t.Context(), maxBytes, 0)
				if at >= uint64(len(want)) {
					if err != io.EOF {
						t.Fatalf("error %v at the end", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				c := &collector{next: at}
				if err := c.take(b, maxBytes); err != nil {
					t.Fatal(err)
				}
				if lost := first - min(at, first); c.lost != lost {
					t.Fatalf("lost %d at %d, want %d", c.lost, at, lost)
				}
				at += c.lost
				if !bytes.Equal(c.all, want[at:c.next]) || c.next != r.offset {
					t.Fatalf("wrong bytes at %d", at)
				}
				for _, record := range b.Records {
					if record.Lost == 0 && (record.Stream != streams[at] || record.StreamOffset != inStream[at]) {
						t.Fatalf("record %v at %d, want %v@%d", record, at, streams[at], inStream[at])
					}
					at += uint64(record.Length)
				}
			case 5:
				s.Stored(uint64(len(want) * arg / 250))
			case 6: // another reader
				if len(readers) < 8 {
					readers = append(readers, s.Reader(uint64(len(want)*arg/200)))
				}
			case 7:
				s.DropUnstored(arg%2 == 1)
				if arg == 255 {
					s.Close()
					closed = true
				}
			}
			if used := diskBytes(t, s); used > s.capBytes || used != s.used {
				t.Fatalf("%d bytes on disk, %d counted, cap %d", used, s.used, s.capBytes)
			}
			if _, end := s.Extent(); end != uint64(len(want)) {
				t.Fatalf("end %d, want %d", end, len(want))
			}
		}
	})
}

// BenchmarkSpool prints, for each size of append, the physical limit (the same
// bytes through a bare file) beside the spool with a reader that keeps up.
func BenchmarkSpool(b *testing.B) {
	const held = 64 << 20
	for _, size := range []int{64 << 10, 100} {
		data := bytes.Repeat([]byte("x"), size)
		b.Run(fmt.Sprintf("bytes=%d/file", size), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "file"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			buf := make([]byte, 64<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var written, read int64
			for b.Loop() {
				if written+int64(size) > held {
					// A spool's disk space is new as well, not written over.
					if err := file.Truncate(0); err != nil {
						b.Fatal(err)
					}
					written, read = 0, 0
				}
				if _, err := file.WriteAt(data, written); err != nil {
					b.Fatal(err)
				}
				if written += int64(size); written-read >= int64(len(buf)) {
					if _, err := file.ReadAt(buf, read); err != nil {
						b.Fatal(err)
					}
					read += int64(len(buf))
				}
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/spool", size), func(b *testing.B) {
			s := testSpool(b, held, 0)
			r := s.Reader(0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var written, read uint64
			for b.Loop() {
				if err := s.Append(b.Context(), stdout, readAt, data); err != nil {
					b.Fatal(err)
				}
				if written += uint64(size); written-read >= 64<<10 {
					_, batched, err := r.Next(b.Context(), 64<<10, time.Second)
					if err != nil {
						b.Fatal(err)
					}
					read += uint64(batched.Len())
					batched.Free()
					s.Stored(read)
				}
			}
		})
		b.Run(fmt.Sprintf("bytes=%d/spool-concurrent", size), func(b *testing.B) {
			s := testSpool(b, held, 0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			var reader sync.WaitGroup
			reader.Go(func() {
				r := s.Reader(0)
				for {
					batch, batched, err := r.Next(b.Context(), 64<<10, 20*time.Millisecond)
					if err == io.EOF {
						return
					}
					if err != nil {
						b.Error(err)
						return
					}
					s.Stored(batch.Offset + uint64(batched.Len()))
					batched.Free()
				}
			})
			for b.Loop() {
				if err := s.Append(b.Context(), stdout, readAt, data); err != nil {
					b.Fatal(err)
				}
			}
			s.Close()
			reader.Wait()
		})
	}
}
