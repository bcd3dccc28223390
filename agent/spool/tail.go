package spool

import (
	"sort"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// chunkBytes is what pipes are read into, one read behind the other: all that a
	// full pipe holds. Batches end where a chunk does, so a small one would make
	// small messages; each reader that is behind may keep one in memory.
	chunkBytes = 256 << 10
	// tailChunks is how many are kept: 1 MiB, a millisecond of what a job can print.
	// Who is further behind has the file, in the page cache.
	tailChunks = 4
	// minSpace is the least that a read from a pipe is offered of a chunk, unless
	// it asks for less: what is left is given up.
	minSpace = 4 << 10
)

// chunks is where the output is read into. A chunk goes back when neither the
// tail nor a batch on its way to a coordinator has it any more.
var chunks = hodeipb.NewPool(chunkBytes)

// tail is the newest output in memory, as it was read from the pipes: whoever is
// not behind gets it from here without another copy. The spool's writer alone
// fills it; all fields are guarded by the spool's mutex, except for the bytes
// behind the last chunk's n, which are the writer's.
type tail struct {
	chunks []*chunk // oldest first; the last one is filled
}

// chunk is a run of output without a hole in it.
type chunk struct {
	buf     mem.Buffer
	data    []byte // of buf, all of it
	n       int    // bytes of it that are output
	first   uint64 // offset of its first byte
	records []chunkRecord
}

// chunkRecord is output of one stream, read at about one time.
type chunkRecord struct {
	end          uint64 // offset behind it
	stream       hodeipb.Stream
	streamOffset uint64 // of its first byte
	length       uint32
	time         int64 // Unix, in nanoseconds
}

// space is where the next bytes can be read to: want, or fewer, but some. end is
// the offset that the next byte will have.
func (t *tail) space(want int, end uint64) []byte {
	var last *chunk
	if len(t.chunks) > 0 {
		last = t.chunks[len(t.chunks)-1]
	}
	if last == nil || len(last.data)-last.n < min(want, minSpace) || len(last.records) == maxBatchRecords {
		if len(t.chunks) == tailChunks {
			t.chunks[0].buf.Free()
			t.chunks = append(t.chunks[:0], t.chunks[1:]...)
		}
		data := chunks.Get(chunkBytes)
		last = &chunk{buf: mem.NewBuffer(data, chunks), data: *data, first: end}
		t.chunks = append(t.chunks, last)
	}
	return last.data[last.n:min(last.n+want, len(last.data))]
}

// grow takes in the first n bytes of the last space.
func (t *tail) grow(stream hodeipb.Stream, streamOffset uint64, at time.Time, n int) {
	c := t.chunks[len(t.chunks)-1]
	c.n += n
	now := at.UnixNano()
	if k := len(c.records); k > 0 {
		if r := &c.records[k-1]; r.stream == stream && time.Duration(now-r.time).Abs() <= mergeWithin {
			r.end += uint64(n)
			r.length += uint32(n)
			return
		}
	}
	c.records = append(c.records, chunkRecord{
		end: c.first + uint64(c.n), stream: stream, streamOffset: streamOffset, length: uint32(n), time: now,
	})
}

// at is the index of the chunk that has the byte at offset; -1: none has.
func (t *tail) at(offset uint64) int {
	i := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].first > offset }) - 1
	if i < 0 || offset >= t.chunks[i].first+uint64(t.chunks[i].n) {
		return -1
	}
	return i
}

// free lets go of everything.
func (t *tail) free() {
	for _, c := range t.chunks {
		c.buf.Free()
	}
	t.chunks = nil
}
