package logstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

func TestRoundTrip(t *testing.T) {
	tests := []struct {
		name         string
		segmentBytes int64
		appends, max int
	}{
		{"lines", 0, 2000, 120},
		{"single bytes", 0, 2000, 1},
		{"pipe reads", 0, 60, 64 << 10},
		{"many segments", 10 << 10, 200, 3 << 10},
		{"batches beyond a segment", 1 << 10, 50, 5 << 10},
		{"largest batches", 0, 4, hodeipb.MaxBatchBytes},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(1, 2))
			dir := t.TempDir()
			s := testStore(t, dir, Limits{}, tt.segmentBytes)
			l := mustCreate(t, s, testKey, 0)
			f := newFeed(l)
			for i := range tt.appends {
				if i == tt.appends/2 { // it goes on where it stands
					mustClose(t, l)
					f.log = mustCreate(t, s, testKey, 12345)
					l = f.log
				}
				f.random(t, rnd, tt.max)
			}
			other := testStore(t, dir, Limits{}, tt.segmentBytes)
			open := mustRead(t, other, testKey) // while it is written
			f.check(t, mustCollect(t, open, 0), 0)
			if err := l.SetExit(exitAt(f.end)); err != nil {
				t.Fatal(err)
			}
			for name, log := range map[string]*Log{"writer": l, "open": open, "anew": mustRead(t, other, testKey)} {
				for range 20 {
					from := rnd.Uint64N(f.end + 1)
					f.check(t, mustCollect(t, log, from), from)
				}
				if first, end := log.Extent(); first != 0 || end != f.end {
					t.Errorf("%s: extent %d, %d", name, first, end)
				}
				if !proto.Equal(log.Exit(), exitAt(f.end)) {
					t.Errorf("%s: exit record %v", name, log.Exit())
				}
			}
		})
	}
}

func TestReaderStart(t *testing.T) {
	tests := []struct {
		name   string
		offset uint64
		want   []string
	}{
		{"below the first", 90, []string{"90 lost 10", "100 stdout@0:abcd stderr@0:EF", "106 lost 50 stdout@4:gh"}},
		{"first record", 100, []string{"100 stdout@0:abcd stderr@0:EF", "106 lost 50 stdout@4:gh"}},
		{"middle of a record", 102, []string{"102 stdout@2:cd stderr@0:EF", "106 lost 50 stdout@4:gh"}},
		{"start of a record", 104, []string{"104 stderr@0:EF", "106 lost 50 stdout@4:gh"}},
		{"last byte of a batch", 105, []string{"105 stderr@1:F", "106 lost 50 stdout@4:gh"}},
		{"a batch", 106, []string{"106 lost 50 stdout@4:gh"}},
		{"middle of a gap", 130, []string{"130 lost 26 stdout@4:gh"}},
		{"end of a gap", 156, []string{"156 stdout@4:gh"}},
		{"last byte", 157, []string{"157 stdout@5:h"}},
		{"end", 158, nil},
		{"beyond the end", 1000, nil},
		{"last of all offsets", math.MaxUint64, nil},
	}
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 100)
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "abcd"}, out{stream: stderr, text: "EF"})
	f.add(t, out{lost: 50}, out{stream: stdout, text: "gh"})
	if err := l.SetExit(exitAt(158)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for r := l.Reader(tt.offset); ; {
				b, err := r.Next(t.Context())
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, spell(b))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	abc := mem.BufferSlice{mem.SliceBuffer("abc")}
	record := func(r *hodeipb.Record) *hodeipb.Batch {
		return &hodeipb.Batch{Offset: 3, Records: []*hodeipb.Record{r}}
	}
	good := &hodeipb.Record{Stream: stdout, Length: 3}
	many := &hodeipb.Batch{Offset: 3}
	for range hodeipb.MaxBatchRecords + 1 {
		many.Records = append(many.Records, &hodeipb.Record{Stream: stdout, Length: 1})
	}
	encoded := record(good)
	encoded.Encoding = hodeipb.Encoding_ZSTD
	twice := record(good)
	twice.Data = []byte("abc")
	tests := []struct {
		name  string
		batch *hodeipb.Batch
		data  mem.BufferSlice
		want  string
	}{
		{"overlap", &hodeipb.Batch{Offset: 2, Records: []*hodeipb.Record{good}}, abc, "output at offset 2, expected 3"},
		{"hole", &hodeipb.Batch{Offset: 4, Records: []*hodeipb.Record{good}}, abc, "output at offset 4, expected 3"},
		{"no records", &hodeipb.Batch{Offset: 3}, nil, "batch without records"},
		{"too many records", many, abc, "batch of 1025 records"},
		{"too much data", record(good), mem.BufferSlice{mem.SliceBuffer(make([]byte, hodeipb.MaxBatchBytes+1))}, "batch of 1048577 bytes"},
		{"encoded", encoded, abc, "encoding ZSTD"},
		{"data twice", twice, abc, "data of its own"},
		{"less data", record(good), abc[:0], "0 bytes of data with records of 3"},
		{"more data", record(good), append(abc[:1:1], abc...), "6 bytes of data with records of 3"},
		{"no stream", record(&hodeipb.Record{Length: 3}), abc, "neither output nor a gap"},
		{"unknown stream", record(&hodeipb.Record{Stream: 257, Length: 3}), abc, "neither output nor a gap"},
		{"gap with a stream", record(&hodeipb.Record{Stream: stdout, Lost: 3}), nil, "neither output nor a gap"},
		{"gap with bytes", record(&hodeipb.Record{Lost: 3, Length: 3}), abc, "neither output nor a gap"},
		{"empty record", record(&hodeipb.Record{Stream: stdout}), nil, "neither output nor a gap"},
		{"beyond all offsets", record(&hodeipb.Record{Lost: math.MaxUint64 - 2}), nil, "beyond all offsets"},
	}
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "xyz"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := l.Append(t.Context(), tt.batch, tt.data)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			var offset *OffsetError
			if got := errors.As(err, &offset); got != strings.Contains(tt.want, "expected 3") {
				t.Errorf("%#v", err)
			}
		})
	}
	f.add(t, out{stream: stderr, text: "more"})
	mustClose(t, l)
	f.check(t, mustCollect(t, mustRead(t, s, testKey), 0), 0)
}

func TestExit(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 100)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	for range 5 { // segments of one batch
		f.add(t, out{stream: stdout, text: strings.Repeat("x", 100)})
	}
	var offset *OffsetError
	if err := l.SetExit(exitAt(499)); !errors.As(err, &offset) || offset.Want != 500 {
		t.Errorf("record of another end: %v", err)
	}
	if err := l.SetExit(&hodeipb.ExitRecord{End: 500, Message: strings.Repeat("x", hodeipb.MaxBatchBytes)}); err == nil {
		t.Error("an endless message was stored")
	}
	for range 2 {
		if err := l.SetExit(exitAt(500)); err != nil {
			t.Fatal(err)
		}
		mustClose(t, l)
		l = mustCreate(t, s, testKey, 0)
	}
	if err := l.SetExit(&hodeipb.ExitRecord{Code: 4, End: 500}); !errors.Is(err, errEnded) {
		t.Errorf("another record: %v", err)
	}
	f.log = l
	if err := f.try(t, out{stream: stdout, text: "x"}); !errors.Is(err, errEnded) {
		t.Errorf("append behind the exit record: %v", err)
	}
	f.check(t, mustCollect(t, l, 0), 0)
	r := mustRead(t, s, testKey)
	if err := r.SetExit(exitAt(500)); !errors.Is(err, errReadOnly) {
		t.Errorf("exit record into a log opened with Read: %v", err)
	}
}

func TestExitThatCantBeSynced(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "abc"})
	if err := os.Remove(filepath.Join(l.dir, metaName)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // once failed, always failed
		if err := l.SetExit(exitAt(3)); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("got %v", err)
		}
	}
	if err := f.try(t, out{stream: stdout, text: "x"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("append: %v", err)
	}
	mustClose(t, l)
	f.log = mustCreate(t, s, testKey, 0)
	f.add(t, out{stream: stdout, text: "def"})
	if err := f.log.SetExit(exitAt(6)); err != nil {
		t.Error(err)
	}
	f.check(t, mustCollect(t, f.log, 0), 0)
}

func TestReadersFollow(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 4<<10)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	rnd := rand.New(rand.NewPCG(3, 4))
	got := make([]*collected, 4)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i] = mustCollect(t, l, 0) })
	}
	for range 300 {
		f.random(t, rnd, 500)
	}
	if err := l.SetExit(exitAt(f.end)); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	for _, c := range got {
		f.check(t, c, 0)
	}
}

func TestReaderWaits(t *testing.T) {
	errCause := errors.New("cause")
	tests := []struct {
		name string
		end  func(l *Log, f *feed, cancel context.CancelCauseFunc) error
		want error
		read uint64
	}{
		{"context", func(_ *Log, _ *feed, cancel context.CancelCauseFunc) error { cancel(errCause); return nil }, errCause, 0},
		{"close", func(l *Log, _ *feed, _ context.CancelCauseFunc) error { return l.Close() }, ErrClosed, 0},
		{"exit", func(l *Log, _ *feed, _ context.CancelCauseFunc) error { return l.SetExit(exitAt(3)) }, io.EOF, 0},
		{"append", func(_ *Log, f *feed, _ context.CancelCauseFunc) error {
			return f.try(t, out{stream: stdout, text: "123456"})
		}, nil, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := testStore(t, t.TempDir(), Limits{}, 0)
				l := mustCreate(t, s, testKey, 0)
				f := newFeed(l)
				f.add(t, out{stream: stdout, text: "abc"})
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				done := make(chan error)
				r := l.Reader(5) // beyond the end
				var read uint64
				go func() {
					b, err := r.Next(ctx)
					if err == nil {
						read = b.Offset
					}
					done <- err
				}()
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("did not wait: %v", err)
				default:
				}
				if err := tt.end(l, f, cancel); err != nil {
					t.Fatal(err)
				}
				if err := <-done; !errors.Is(err, tt.want) || read != tt.read {
					t.Errorf("got %v at %d", err, read)
				}
			})
		})
	}
}

func TestClosed(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "abc"})
	read := mustRead(t, s, testKey)
	for range 2 {
		mustClose(t, l)
		mustClose(t, read)
	}
	if err := f.try(t, out{stream: stdout, text: "abc"}); !errors.Is(err, ErrClosed) {
		t.Errorf("append: %v", err)
	}
	if err := l.SetExit(exitAt(3)); !errors.Is(err, ErrClosed) {
		t.Errorf("exit record: %v", err)
	}
	for _, l := range []*Log{l, read} {
		if _, err := collect(t, l, 0); !errors.Is(err, ErrClosed) {
			t.Errorf("read: %v", err)
		}
	}
	if _, err := read.OffsetAtTime(testTime); !errors.Is(err, ErrClosed) {
		t.Errorf("look-up: %v", err)
	}
}
