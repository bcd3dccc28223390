package logstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"sort"
	"time"
)

const (
	// indexEvery is the least distance of two entries: a search walks at most so
	// many bytes, a fraction of a millisecond, and 10 GiB of log have 80,000
	// entries, 2 MB of memory when all are looked at.
	indexEvery = 128 << 10

	// An entry on disk: offset 8, position 8, latest time before 8, CRC-32C of these 4.
	indexEntrySize = 8 + 8 + 8 + 4
)

// indexEntry says that the frame at offset begins at pos of its segment. The
// clock of an agent may step back, so a time in the index is the latest of all
// records of the segment before the frame: nothing before is at or after a time
// above it.
type indexEntry struct {
	offset  uint64
	pos     int64
	maxTime int64 // nanoseconds since the Unix epoch; math.MinInt64: no record before
}

func (e indexEntry) put(b []byte) {
	binary.LittleEndian.PutUint64(b, e.offset)
	binary.LittleEndian.PutUint64(b[8:], uint64(e.pos))
	binary.LittleEndian.PutUint64(b[16:], uint64(e.maxTime))
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
}

func parseEntry(b []byte) (indexEntry, bool) {
	e := indexEntry{
		offset:  binary.LittleEndian.Uint64(b),
		pos:     int64(binary.LittleEndian.Uint64(b[8:])),
		maxTime: int64(binary.LittleEndian.Uint64(b[16:])),
	}
	return e, binary.LittleEndian.Uint32(b[24:]) == crc32.Checksum(b[:24], castagnoli)
}

// addEntry appends e where the index is due one.
func addEntry(index []indexEntry, e indexEntry) []indexEntry {
	if due(index, e.pos) {
		return append(index, e)
	}
	return index
}

func due(index []indexEntry, pos int64) bool {
	return len(index) == 0 || pos-index[len(index)-1].pos >= indexEvery
}

// readIndex gives the entries of the index file up to the first that does not
// fit its segment: what follows has to be found in the segment itself. A
// missing index is an empty one, as is one that can't be read.
func readIndex(name string, segment *os.File, first uint64, size int64) ([]indexEntry, error) {
	var index []indexEntry
	for b := readEntries(name, size); len(b) >= indexEntrySize; b = b[indexEntrySize:] {
		e, ok := parseEntry(b)
		if !ok || !e.follows(index, first) {
			break
		}
		found, err := e.begins(segment, size)
		if err != nil {
			return nil, err
		}
		if !found {
			break
		}
		index = append(index, e)
	}
	return index, nil
}

// lastEntry gives an index of one entry, the last that leads to a frame of its
// segment; of none where there is no such entry.
func lastEntry(name string, segment *os.File, first uint64, size int64) ([]indexEntry, error) {
	b := readEntries(name, size)
	for n := len(b) / indexEntrySize; n > 0; n-- {
		e, ok := parseEntry(b[(n-1)*indexEntrySize:])
		if !ok || e.pos < 0 || e.offset < first {
			continue
		}
		found, err := e.begins(segment, size)
		if err != nil {
			return nil, err
		}
		if found {
			return []indexEntry{e}, nil
		}
	}
	return nil, nil
}

// readEntries reads as much of an index file as a segment of size bytes can have. What
// can't be read of it is found in the segment.
func readEntries(name string, size int64) []byte {
	file, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer file.Close()
	b, _ := io.ReadAll(io.LimitReader(file, (size/indexEvery+1)*indexEntrySize))
	return b
}

// follows tells whether e can be the next entry.
func (e indexEntry) follows(index []indexEntry, first uint64) bool {
	if len(index) == 0 {
		return e.offset == first && e.pos == 0
	}
	last := index[len(index)-1]
	return e.offset > last.offset && e.pos > last.pos && due(index, e.pos) && e.maxTime >= last.maxTime
}

// begins looks whether the batch is where e says.
func (e indexEntry) begins(segment *os.File, size int64) (bool, error) {
	if e.pos > size-headerSize {
		return false, nil
	}
	var b [headerSize]byte
	if _, err := segment.ReadAt(b[:], e.pos); err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	h, ok := parseHeader(b[:])
	return ok && h.kind == kindBatch && h.offset == e.offset, nil
}

// writeIndex replaces the index file and leaves it open for the entries to come.
func writeIndex(name string, index []indexEntry) (*os.File, error) {
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	b := make([]byte, len(index)*indexEntrySize)
	for i, e := range index {
		e.put(b[i*indexEntrySize:])
	}
	if _, err := file.WriteAt(b, 0); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// byOffset gives the last entry at or before offset.
func byOffset(index []indexEntry, offset uint64) (indexEntry, bool) {
	i := sort.Search(len(index), func(i int) bool { return index[i].offset > offset }) - 1
	if i < 0 {
		return indexEntry{}, false
	}
	return index[i], true
}

// byTime gives the last entry before which no record is at or after t.
func byTime(index []indexEntry, t time.Time) (indexEntry, bool) {
	i, _ := slices.BinarySearchFunc(index, t, func(e indexEntry, t time.Time) int {
		if time.Unix(0, e.maxTime).Before(t) {
			return -1
		}
		return 1
	})
	if i == 0 {
		return indexEntry{}, false
	}
	return index[i-1], true
}
