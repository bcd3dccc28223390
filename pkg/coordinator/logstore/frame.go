package logstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// A frame is a header, the table of its records, and the data, all little
// endian:
//
//	header  magic 4, kind 1, zero 1, records 2, length of the data 4,
//	        offset of the first record 8, CRC-32C of table and data 4,
//	        CRC-32C of the header before this field 4
//	table   per record: stream 1, length 4, time 8,
//	        offset within the stream 8, or of a gap (stream 0) the bytes lost
//
// The header has a checksum of its own, so that its lengths can be believed
// before the rest is read: a frame that goes beyond the file's end was torn in
// the writing, and a flipped bit can't look like one. The data of an exit frame
// is the protobuf of the ExitRecord, its offset the end of the output.
const (
	headerSize = 4 + 1 + 1 + 2 + 4 + 8 + 4 + 4
	recordSize = 1 + 4 + 8 + 8

	kindBatch = 1
	kindExit  = 2

	// maxFrameSize bounds a reader's memory, whatever is on disk: a batch at the
	// limits of the protocol.
	maxFrameSize = headerSize + hodeipb.MaxBatchRecords*recordSize + hodeipb.MaxBatchBytes
)

// magic begins every frame; its last byte is the version of the layout.
var magic = [4]byte{'H', 'L', 'F', 1}

var castagnoli = crc32.MakeTable(crc32.Castagnoli) // amd64 and arm64 have instructions for it

// header of a frame.
type header struct {
	kind    byte
	records int
	length  int
	offset  uint64
	bodyCRC uint32
}

func (h *header) size() int { return headerSize + h.records*recordSize + h.length }

func (h *header) put(b []byte) {
	copy(b, magic[:])
	b[4], b[5] = h.kind, 0
	binary.LittleEndian.PutUint16(b[6:], uint16(h.records))
	binary.LittleEndian.PutUint32(b[8:], uint32(h.length))
	binary.LittleEndian.PutUint64(b[12:], h.offset)
	binary.LittleEndian.PutUint32(b[20:], h.bodyCRC)
	binary.LittleEndian.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
}

// parseHeader gives the header that b starts with, false if that is none that
// we would have written.
func parseHeader(b []byte) (header, bool) {
	h := header{
		kind:    b[4],
		records: int(binary.LittleEndian.Uint16(b[6:])),
		length:  int(binary.LittleEndian.Uint32(b[8:])),
		offset:  binary.LittleEndian.Uint64(b[12:]),
		bodyCRC: binary.LittleEndian.Uint32(b[20:]),
	}
	ok := [4]byte(b) == magic && b[5] == 0 &&
		binary.LittleEndian.Uint32(b[24:]) == crc32.Checksum(b[:24], castagnoli) &&
		h.length <= hodeipb.MaxBatchBytes
	switch h.kind {
	case kindBatch:
		ok = ok && h.records > 0 && h.records <= hodeipb.MaxBatchRecords
	case kindExit:
		ok = ok && h.records == 0
	default:
		ok = false
	}
	return h, ok
}

// record is one row of a frame's table.
type record struct {
	stream hodeipb.Stream // STREAM_UNSPECIFIED: a gap
	length uint32
	time   int64
	at     uint64 // offset within the stream; of a gap, the bytes lost
}

// advance is how far the record moves the offset.
func (r record) advance() uint64 {
	if r.stream == hodeipb.Stream_STREAM_UNSPECIFIED {
		return r.at
	}
	return uint64(r.length)
}

func (r record) put(b []byte) {
	b[0] = byte(r.stream)
	binary.LittleEndian.PutUint32(b[1:], r.length)
	binary.LittleEndian.PutUint64(b[5:], uint64(r.time))
	binary.LittleEndian.PutUint64(b[13:], r.at)
}

func parseRecord(b []byte) record {
	return record{
		stream: hodeipb.Stream(b[0]),
		length: binary.LittleEndian.Uint32(b[1:]),
		time:   int64(binary.LittleEndian.Uint64(b[5:])),
		at:     binary.LittleEndian.Uint64(b[13:]),
	}
}

// valid tells whether the record is output or a gap, and not both.
func (r record) valid() bool {
	switch r.stream {
	case hodeipb.Stream_STREAM_UNSPECIFIED:
		return r.length == 0 && r.at > 0
	case hodeipb.Stream_STDOUT, hodeipb.Stream_STDERR:
		return r.length > 0
	}
	return false
}

// frame is a frame that was read and whose checksums are right. Its slices are
// the scanner's.
type frame struct {
	header
	pos   int64 // in its file
	table []byte
	data  []byte
	end   uint64 // offset behind the last record
}

func (f *frame) record(i int) record { return parseRecord(f.table[i*recordSize:]) }

// check finds what checksums can't: rows that do not add up.
func (f *frame) check() error {
	f.end = f.offset
	data := 0
	for i := range f.records {
		r := f.record(i)
		if !r.valid() {
			return fmt.Errorf("record %d is neither output nor a gap", i)
		}
		if f.end+r.advance() < f.end {
			return fmt.Errorf("record %d ends beyond all offsets", i)
		}
		f.end += r.advance()
		data += int(r.length) // at most 1024 times 4 GiB
	}
	if f.kind == kindBatch && data != f.length {
		return fmt.Errorf("%d bytes of data with records of %d", f.length, data)
	}
	return nil
}

// putBatch writes header and table of the batch into b, which has room for
// them, and gives the offset behind the batch.
func putBatch(b []byte, batch *hodeipb.Batch, data mem.BufferSlice) (end uint64, err error) {
	f := frame{
		header: header{kind: kindBatch, records: len(batch.Records), length: data.Len(), offset: batch.Offset},
		table:  b[headerSize:],
	}
	for i, r := range batch.Records {
		row := record{stream: r.Stream, length: r.Length, time: r.TimeUnixNano, at: r.StreamOffset}
		if r.Lost > 0 {
			row.at = r.Lost
		}
		gap := r.Stream == hodeipb.Stream_STREAM_UNSPECIFIED
		if gap != (r.Lost > 0) || !row.valid() { // also what a byte can't hold
			return 0, fmt.Errorf("record %d is neither output nor a gap", i)
		}
		row.put(f.table[i*recordSize:])
	}
	if err := f.check(); err != nil {
		return 0, err
	}
	f.bodyCRC = crc32.Checksum(f.table, castagnoli)
	for _, part := range data {
		f.bodyCRC = crc32.Update(f.bodyCRC, castagnoli, part.ReadOnlyData())
	}
	f.put(b)
	return f.end, nil
}

// putExit makes the header of an exit frame in b.
func putExit(b []byte, end uint64, body []byte) []byte {
	h := header{kind: kindExit, length: len(body), offset: end, bodyCRC: crc32.Checksum(body, castagnoli)}
	h.put(b)
	return b
}

// checkSize refuses what has no room in a frame.
func checkSize(batch *hodeipb.Batch, data mem.BufferSlice) error {
	switch n := len(batch.Records); {
	case n == 0:
		return errors.New("batch without records")
	case n > hodeipb.MaxBatchRecords:
		return fmt.Errorf("batch of %d records, more than %d", n, hodeipb.MaxBatchRecords)
	case data.Len() > hodeipb.MaxBatchBytes:
		return fmt.Errorf("batch of %d bytes, more than %d", data.Len(), hodeipb.MaxBatchBytes)
	case batch.Encoding != hodeipb.Encoding_IDENTITY:
		return fmt.Errorf("batch in encoding %s: only decoded data is stored", batch.Encoding)
	case len(batch.Data) > 0:
		return errors.New("batch with data of its own besides the buffers")
	}
	return nil
}

// DamageError is bytes on disk that are not what was written, or can't be read.
type DamageError struct {
	// File is the path of what is damaged, Pos where in it the damage begins; below zero:
	// somewhere.
	File string
	Pos  int64
	// Reason says what is wrong there; empty: Err does.
	Reason string
	// Err is why it can't be read; nil: it can, and is wrong.
	Err error

	// torn: this may be the end of a frame whose writer was killed.
	torn bool
}

func (e *DamageError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%q can't be read: %v", e.File, e.Err)
	}
	if e.Pos < 0 {
		return fmt.Sprintf("%q is damaged: %s", e.File, e.Reason)
	}
	return fmt.Sprintf("%q is damaged at byte %d: %s", e.File, e.Pos, e.Reason)
}

// Unwrap returns why it can't be read.
func (e *DamageError) Unwrap() error { return e.Err }

// asDamage returns an error about a file as damage of it.
func asDamage(file string, err error) *DamageError {
	if d, ok := errors.AsType[*DamageError](err); ok {
		return d
	}
	if path, ok := errors.AsType[*fs.PathError](err); ok && path.Path == file {
		err = path.Err // the file is named already
	}
	return &DamageError{File: file, Err: err}
}
