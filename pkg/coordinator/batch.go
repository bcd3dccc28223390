package coordinator

import (
	"context"
	"fmt"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/wire"
)

// Refused counts the batches that did not continue where the stored output ends.
// The attachment that sends one is ended; the next one goes on at the right place.
type Refused struct {
	// Overlaps began below it, Holes above.
	Overlaps, Holes uint64
}

// tellRefused returns what has been refused up to now.
func (s *service) tellRefused() Refused {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// output hands one batch to the Follower.
func (s *service) output(ctx context.Context, e *hodeipb.Envelope, a *attempt, hello *hodeipb.Hello) error {
	batch := e.Message.GetBatch()
	size, data, err := batchSize(batch) // as it has been checked
	if err != nil {
		return err
	}
	if batch.Offset != a.stored {
		s.mu.Lock()
		if batch.Offset < a.stored {
			s.refused.Overlaps++
		} else {
			s.refused.Holes++
		}
		s.mu.Unlock()
		return status.Errorf(codes.FailedPrecondition, "batch at offset %d, expected %d", batch.Offset, a.stored)
	}
	if a.stored > wire.MaxOffset || a.stored+size > wire.MaxOffset {
		return status.Errorf(codes.InvalidArgument, "batch of %d bytes at offset %d ends beyond all offsets", size, a.stored)
	}
	if batch.Encoding == hodeipb.Encoding_ZSTD {
		if err := s.decode(e, data); err != nil {
			return status.Errorf(codes.InvalidArgument, "batch at offset %d: %v", batch.Offset, err)
		}
	}
	if n := e.Data.Len(); n != data {
		return status.Errorf(codes.InvalidArgument, "batch of %d bytes with records of %d", n, data)
	}
	if err := a.follower.Output(ctx, hello.Attempt, batch, e.Data); err != nil {
		return status.Errorf(codes.ResourceExhausted, "store output: %v", err)
	}
	a.stored += size
	return nil
}

// decode replaces the data by what they are the compressed form of: n bytes.
func (s *service) decode(e *hodeipb.Envelope, n int) error {
	pool := mem.DefaultBufferPool()
	compressed := e.Data.MaterializeToBuffer(pool)
	defer compressed.Free()
	plain := pool.Get(n)
	out, err := s.decoder.DecodeAll(compressed.ReadOnlyData(), (*plain)[:0])
	if err == nil && len(out) != n {
		err = fmt.Errorf("%d bytes, its records have %d", len(out), n)
	}
	if err != nil {
		pool.Put(plain)
		return err
	}
	e.Free()
	e.Data = mem.BufferSlice{mem.NewBuffer(plain, pool)}
	return nil
}

// newDecoder makes what decodes the batches of all attachments. It writes no
// further than the buffer that it is given, whatever a batch says of itself.
func newDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(hodeipb.MaxBatchBytes))
	if err != nil {
		panic(err) // only options that are wrong
	}
	return d
}

// batchSize is how far a batch moves the offset, and how many bytes of data are
// in it. It refuses a batch whose records make no sense.
func batchSize(b *hodeipb.Batch) (size uint64, data int, err error) {
	if b.Encoding != hodeipb.Encoding_IDENTITY && b.Encoding != hodeipb.Encoding_ZSTD {
		return 0, 0, status.Errorf(codes.InvalidArgument, "batch in encoding %s, which was not offered", b.Encoding)
	}
	if len(b.Records) == 0 || len(b.Records) > hodeipb.MaxBatchRecords {
		return 0, 0, status.Errorf(codes.InvalidArgument, "batch with %d records", len(b.Records))
	}
	for _, r := range b.Records {
		gap := r.Lost > 0
		known := r.Stream == hodeipb.Stream_STDOUT || r.Stream == hodeipb.Stream_STDERR
		if gap && (r.Length > 0 || r.Stream != hodeipb.Stream_STREAM_UNSPECIFIED) || !gap && (!known || r.Length == 0) {
			return 0, 0, status.Error(codes.InvalidArgument, "batch with a record that is neither output nor a gap")
		}
		if r.Lost > wire.MaxOffset || size > wire.MaxOffset {
			return 0, 0, status.Error(codes.InvalidArgument, "batch with a gap beyond all offsets")
		}
		size += uint64(r.Length) + r.Lost // one of the two is zero
		if data += int(r.Length); data > hodeipb.MaxBatchBytes {
			return 0, 0, status.Errorf(codes.InvalidArgument, "batch of more than %d bytes", hodeipb.MaxBatchBytes)
		}
	}
	return size, data, nil
}
