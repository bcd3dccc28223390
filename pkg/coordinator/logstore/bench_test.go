package logstore

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// benchBytes are written before either side throws away what it has, so that no
// disk's speed is measured.
const benchBytes = 1 << 30

// BenchmarkAppend stores batches as agents send them, beside plain writes of the
// same bytes to a file: at multiples of their size, where whole pages are filled
// at once, and as far apart as frames are, where each page is written to twice.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7)
		}
		batch, parts := benchBatch(data)
		for name, stride := range map[string]int{"plain": size, "plain-unaligned": size + headerSize + len(batch.Records)*recordSize} {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) { benchPlain(b, data, int64(stride)) })
		}
		b.Run(fmt.Sprintf("store/%dKiB", size>>10), func(b *testing.B) {
			s := testStore(b, b.TempDir(), Limits{MaxBytes: benchBytes}, 0)
			l := mustCreate(b, s, testKey, 0)
			batch.Offset = 0
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := l.Append(b.Context(), batch, parts); err != nil {
					b.Fatal(err)
				}
				batch.Offset += uint64(size)
			}
		})
	}
}

func benchPlain(b *testing.B, data []byte, stride int64) {
	file, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for pos := int64(0); b.Loop(); pos += stride {
		if pos > benchBytes {
			pos = 0
			if err := file.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := file.WriteAt(data, pos); err != nil {
			b.Fatal(err)
		}
	}
}

// benchBatch is a batch of four records in buffers of 16 KiB, the size of an
// HTTP/2 frame.
func benchBatch(data []byte) (*hodeipb.Batch, mem.BufferSlice) {
	batch := &hodeipb.Batch{}
	var parts mem.BufferSlice
	for range 4 {
		batch.Records = append(batch.Records,
			&hodeipb.Record{Stream: stdout, Length: uint32(len(data) / 4), TimeUnixNano: testTime.UnixNano()})
	}
	for len(data) > 0 {
		n := min(len(data), 16<<10)
		parts = append(parts, mem.SliceBuffer(data[:n]))
		data = data[n:]
	}
	return batch, parts
}

// BenchmarkReader reads what BenchmarkAppend stores, beside plain reads of the
// same file.
func BenchmarkReader(b *testing.B) {
	const size, batches = 64 << 10, 1000
	s := testStore(b, b.TempDir(), Limits{}, 1<<30)
	l := mustCreate(b, s, testKey, 0)
	batch, parts := benchBatch(make([]byte, size))
	for range batches {
		if err := l.Append(b.Context(), batch, parts); err != nil {
			b.Fatal(err)
		}
		batch.Offset += size
	}
	b.Run("plain", func(b *testing.B) {
		file := l.segments[0].file
		buf := make([]byte, size)
		b.SetBytes(size)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := file.ReadAt(buf, int64(i%batches)*size); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		b.SetBytes(size)
		b.ReportAllocs()
		r := l.Reader(0)
		for i := 1; b.Loop(); i++ {
			if _, err := r.Next(b.Context()); err != nil {
				b.Fatal(err)
			}
			if i%batches == 0 {
				r.offset, r.seg = 0, nil
			}
		}
	})
}
