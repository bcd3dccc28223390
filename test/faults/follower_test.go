package faults

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/hodei-jobs/hodei/pkg/coordinator"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/test/program"
)

const patience = program.Patience

const (
	stdout = hodeipb.Stream_STDOUT
	stderr = hodeipb.Stream_STDERR
)

// moment is a point in a follower's work.
type moment int32

const (
	outputArrived moment = iota + 1
	outputStored         // and not acknowledged
	exitArrived
	exitStored
)

func (m moment) String() string {
	return []string{"any time", "output arrived", "output stored", "exit record arrived", "exit record stored"}[m]
}

// follower stores checksums in place of output.
type follower struct {
	// at, where set, is called at each moment with the bytes of output that it is
	// about. It may wait, for output until ctx ends, and by an error end the
	// attachment.
	at func(ctx context.Context, m moment, bytes int) error

	mu       sync.Mutex
	buf      [32 << 10]byte
	attached []uint64 // the offset at each attachment
	blocked  bool     // the last state's
	held     bool     // the last state's phase
	end      uint64
	streams  [3][]*run
	gap      [3]bool // since the stream's last run
	gaps     int
	lost     uint64
	zstd     int   // batches that came compressed
	broken   error // the first promise that was not kept
	exit     *hodeipb.ExitRecord
	changed  chan struct{}
}

func newFollower() *follower { return &follower{changed: make(chan struct{})} }

func (f *follower) update(change func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.changed)
	f.changed = make(chan struct{})
	err := change()
	if f.broken == nil {
		f.broken = err
	}
	return err
}

func (f *follower) Attached(*hodeipb.Hello) (resume coordinator.Resume, err error) {
	err = f.update(func() error {
		resume.Offset = f.end
		f.attached = append(f.attached, f.end)
		return nil
	})
	return resume, err
}

func (f *follower) Metrics(string, *hodeipb.Metrics) {}

func (f *follower) State(_ string, s *hodeipb.State) {
	_ = f.update(func() error {
		f.blocked, f.held = s.BlockedOnOutput, s.Phase == hodeipb.Phase_HELD
		return nil
	})
}

func (f *follower) Output(ctx context.Context, _ string, b *hodeipb.Batch, data mem.BufferSlice) error {
	if err := f.come(ctx, outputArrived, data.Len()); err != nil {
		return err
	}
	if err := f.update(func() error { return f.store(b, data) }); err != nil {
		return err
	}
	return f.come(ctx, outputStored, data.Len())
}

func (f *follower) come(ctx context.Context, m moment, bytes int) error {
	if f.at == nil {
		return nil
	}
	return f.at(ctx, m, bytes)
}

func (f *follower) store(b *hodeipb.Batch, data mem.BufferSlice) error {
	switch {
	case f.exit != nil:
		return fmt.Errorf("batch at offset %d, after the exit record at %d", b.Offset, f.exit.End)
	case b.Offset != f.end:
		return fmt.Errorf("batch at offset %d, stored are %d", b.Offset, f.end)
	}
	if b.Encoding == hodeipb.Encoding_ZSTD {
		f.zstd++
	}
	r := data.Reader()
	defer r.Close()
	for _, record := range b.Records {
		f.end += record.Lost + uint64(record.Length)
		if record.Lost > 0 {
			f.lost += record.Lost
			f.gaps++
			f.gap = [3]bool{true, true, true}
			continue
		}
		w, err := f.run(record)
		if err != nil {
			return err
		}
		if _, err := io.CopyBuffer(w, io.LimitReader(r, int64(record.Length)), f.buf[:]); err != nil {
			return err
		}
	}
	return nil
}

// run is the one that the record continues, or a new one behind a gap.
func (f *follower) run(record *hodeipb.Record) (*run, error) {
	runs := f.streams[record.Stream]
	end := uint64(0)
	if len(runs) > 0 {
		end = runs[len(runs)-1].end
	}
	gap := f.gap[record.Stream]
	if record.StreamOffset < end || record.StreamOffset > end && !gap {
		return nil, fmt.Errorf("record at %d of %s, stored are %d", record.StreamOffset, record.Stream, end)
	}
	f.gap[record.Stream] = false
	if record.StreamOffset == end && len(runs) > 0 { // a gap in the other stream alone
		return runs[len(runs)-1], nil
	}
	next := newRun(record.StreamOffset)
	f.streams[record.Stream] = append(runs, next)
	return next, nil
}

func (f *follower) Exited(_ string, r *hodeipb.ExitRecord) error {
	if err := f.come(context.Background(), exitArrived, 0); err != nil {
		return err
	}
	err := f.update(func() error {
		if f.exit != nil && !proto.Equal(f.exit, r) {
			return fmt.Errorf("another exit record: %v, before: %v", r, f.exit)
		}
		if f.exit == nil {
			f.exit = r
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.come(context.Background(), exitStored, 0)
}

// until waits for what done, which is called with the lock held, asks for.
func (f *follower) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		f.mu.Lock()
		ok, broken, end, changed := done(), f.broken, f.end, f.changed
		f.mu.Unlock()
		if broken != nil {
			t.Fatal(broken)
		}
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("waited for: %s; %d bytes are stored", what, end)
		}
	}
}

// untilStored waits for so many bytes of output.
func (f *follower) untilStored(t testing.TB, n uint64) {
	t.Helper()
	f.until(t, fmt.Sprintf("%d bytes", n), func() bool { return f.end >= n })
}

// exited waits for the exit record.
func (f *follower) exited(t testing.TB) *hodeipb.ExitRecord {
	t.Helper()
	f.until(t, "the exit record", func() bool { return f.exit != nil })
	return f.exit
}

// whole compares all that is stored with what the job has printed, and wants
// every byte of it.
func (f *follower) whole(t testing.TB, p pattern, merged bool) {
	t.Helper()
	ends := f.exact(t, p, merged)
	if f.exit.StdoutEnd != ends[stdout] || f.exit.StderrEnd != ends[stderr] || f.exit.End != ends[stdout]+ends[stderr] || f.exit.Lost > 0 {
		t.Errorf("%v: exit record %v, printed were %d and %d bytes", p, f.exit, ends[stdout], ends[stderr])
	}
	if f.gaps > 0 {
		t.Errorf("%v: %d gaps of %d bytes together", p, f.gaps, f.lost)
	}
}

// exact compares what is stored with the same places of what the job has printed,
// wants everything else declared lost, and tells how much was printed.
func (f *follower) exact(t testing.TB, p pattern, merged bool) (ends [3]uint64) {
	t.Helper()
	var replays [3]replay
	for _, s := range []hodeipb.Stream{stdout, stderr} {
		for _, got := range f.streams[s] {
			replays[s].want = append(replays[s].want, newRun(got.begin))
			replays[s].limits = append(replays[s].limits, got.end)
		}
	}
	out, err := &replays[stdout], &replays[stderr]
	if merged {
		err = out
	}
	if err := p.write(out, err, p.counted()); err != nil {
		t.Fatal(err)
	}
	skipped := f.exit.End - f.end
	for _, s := range []hodeipb.Stream{stdout, stderr} {
		at := uint64(0)
		for i, got := range f.streams[s] {
			skipped += got.begin - at
			at = got.end
			if differs := got.compare(replays[s].want[i]); differs != nil {
				t.Errorf("%v: %s: %v", p, s, differs)
			}
		}
		skipped += []uint64{0, f.exit.StdoutEnd, f.exit.StderrEnd}[s] - at
		ends[s] = replays[s].at
	}
	if f.end != f.exit.End || skipped != f.lost {
		t.Errorf("%v: %d bytes are not there, %d were declared lost; stored up to %d of %d", p, skipped, f.lost, f.end, f.exit.End)
	}
	return ends
}

// markBytes is how closely a difference is located.
const markBytes = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// run is a piece of one stream without a gap: its sum, and a mark of all before
// each multiple of markBytes, so that a difference can be located.
type run struct {
	begin, end uint64
	sum        hash.Hash
	crc        uint32
	marks      []uint32
}

func newRun(begin uint64) *run { return &run{begin: begin, end: begin, sum: sha256.New()} }

// Write adds p at the end.
func (r *run) Write(p []byte) (int, error) {
	r.sum.Write(p)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), int(markBytes-(r.end-r.begin)%markBytes))
		r.crc = crc32.Update(r.crc, castagnoli, rest[:n])
		r.end += uint64(n)
		rest = rest[n:]
		if (r.end-r.begin)%markBytes == 0 {
			r.marks = append(r.marks, r.crc)
		}
	}
	return len(p), nil
}

// compare tells where r differs from what it should be.
func (r *run) compare(want *run) error {
	if r.end != want.end {
		return fmt.Errorf("%d bytes from %d on, want %d", r.end-r.begin, r.begin, want.end-want.begin)
	}
	if bytes.Equal(r.sum.Sum(nil), want.sum.Sum(nil)) {
		return nil
	}
	same := 0
	for same < len(r.marks) && r.marks[same] == want.marks[same] {
		same++
	}
	return fmt.Errorf("the first difference is within %d bytes from %d on", markBytes, r.begin+uint64(same)*markBytes)
}

// replay takes a whole stream and gives each run its part, up to its limit.
type replay struct {
	at     uint64
	want   []*run
	limits []uint64
}

func (r *replay) Write(p []byte) (int, error) {
	end := r.at + uint64(len(p))
	for i, w := range r.want {
		from, to := max(w.begin, r.at), min(r.limits[i], end)
		if from < to {
			w.Write(p[from-r.at : to-r.at])
		}
	}
	r.at = end
	return len(p), nil
}
