package agent

import (
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

const (
	// A rate is measured over so much time and output: shorter than 100 ms it
	// would be that of buffers on the way, and one ack comes every 10 ms.
	trialTime  = 100 * time.Millisecond
	trialBytes = 256 << 10
	// gain is by how much compressed output has to pass faster to be worth its
	// CPU, and the error of both measurements.
	gain = 1.2
	// The other way is tried again after so long, at first because the measurement
	// may have met a bad moment, later because the path or the output may have
	// changed: each trial that changes nothing doubles the wait.
	firstWait, lastWait = time.Second, 16 * time.Second
	// poorRatio is what random data and archives come to. A trial of them ends at
	// once.
	poorRatio = 0.9
	// minCompressed is the least worth it: smaller batches are those of an idle job.
	minCompressed = 4 << 10
)

// chooser decides whether one attachment's batches are compressed, by what passes
// faster: it compares the rates at which the coordinator acknowledges output, as
// it is and compressed. It measures while there is always more to send than the
// path carries; a job that prints less has no use for compression.
//
// It is told the time and has no clock of its own.
type chooser struct {
	zstd  bool    // how batches go now
	trial bool    // only to see what that brings
	rate  float64 // bytes/s of what is not on trial, when last measured
	tried time.Time
	wait  time.Duration // from tried to the next trial

	// The measurement under way: it begins with the first ack at or above from,
	// which came at began and said at.
	from, at uint64
	began    time.Time

	raw, wire int // bytes compressed since the ratio was last looked at, before and after
}

// sent tells of a batch that ends at end; idle: nothing more was there to send.
func (c *chooser) sent(end uint64, raw, wire int, idle bool, now time.Time) {
	if idle {
		c.measure(end)
	}
	if !c.zstd {
		return
	}
	if c.raw, c.wire = c.raw+raw, c.wire+wire; c.raw < trialBytes {
		return
	}
	if float64(c.wire) > poorRatio*float64(c.raw) {
		c.settle(false, now)
		c.measure(end)
	}
	c.raw, c.wire = 0, 0
}

// settle ends a trial.
func (c *chooser) settle(zstd bool, now time.Time) {
	switch changed := c.trial == (zstd == c.zstd); {
	case zstd: // what a path that has become faster would bring is not much
		c.wait = lastWait
	case changed:
		c.wait = firstWait
	default:
		c.wait = min(max(2*c.wait, firstWait), lastWait)
	}
	c.zstd, c.trial, c.tried = zstd, false, now
}

// measure begins a measurement with the output at from.
func (c *chooser) measure(from uint64) { c.from, c.began = from, time.Time{} }

// acked tells that everything below offset is stored, and how far has been sent.
func (c *chooser) acked(offset, end uint64, now time.Time) {
	if offset < c.from {
		return
	}
	if c.began.IsZero() {
		c.began, c.at = now, offset
		return
	}
	took, passed := now.Sub(c.began), offset-c.at
	if took < trialTime || passed < trialBytes {
		return
	}
	rate := float64(passed) / took.Seconds()
	switch {
	case c.trial:
		compressed, plain := rate, c.rate
		if !c.zstd {
			compressed, plain = plain, compressed
		}
		c.settle(compressed > gain*plain, now)
	case now.Sub(c.tried) >= c.wait:
		c.zstd, c.trial, c.rate = !c.zstd, true, rate
	default: // nothing to decide
		c.began, c.at = now, offset
		return
	}
	c.raw, c.wire = 0, 0
	c.measure(end)
}

// compressor makes the compressed form of batches, of one at a time. It may be
// called from any goroutine.
type compressor struct{ zstd *zstd.Encoder }

// compressed is where it puts them.
var compressed = hodeipb.NewPool(spool.BatchBytes)

func newCompressor() *compressor {
	// The fastest level makes a tenth of a log, and the path is waiting. A window of
	// a batch and one goroutine bound its memory.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(spool.BatchBytes), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // only options that are wrong
	}
	return &compressor{zstd: e}
}

// compress replaces data by their compressed form if that is shorter, and tells
// whether it is.
func (c *compressor) compress(data mem.BufferSlice) (mem.BufferSlice, bool) {
	n := data.Len()
	if n < minCompressed {
		return data, false
	}
	whole := data[0].ReadOnlyData()
	if len(data) > 1 { // at the end of a chunk
		whole = data.Materialize()
	}
	handle := compressed.Get(spool.BatchBytes)
	out := c.zstd.EncodeAll(whole, (*handle)[:0])
	if len(out) >= n || cap(out) != cap(*handle) { // longer than a batch: it is a buffer of its own
		compressed.Put(handle)
		return data, false
	}
	data.Free()
	*handle = out
	return mem.BufferSlice{mem.NewBuffer(handle, compressed)}, true
}
