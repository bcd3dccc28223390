package logstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// writeForEver appends bytes that follow from their offsets, and says on stdout
// what it has stored, as a coordinator acknowledges.
func writeForEver(dir string) error {
	s, err := Open(dir, Limits{})
	if err != nil {
		return err
	}
	s.segmentBytes = 256 << 10
	l, err := s.Create(testKey, 0)
	if err != nil {
		return err
	}
	_, end := l.Extent()
	for n := uint64(1); ; n = n*7%40961 + 1 {
		b := &hodeipb.Batch{Offset: end, Records: []*hodeipb.Record{{Stream: stdout, StreamOffset: end, Length: uint32(n)}}}
		if err := l.Append(context.Background(), b, mem.BufferSlice{mem.SliceBuffer(pattern(end, n))}); err != nil {
			return err
		}
		end += n
		fmt.Println(end)
	}
}

// pattern gives the bytes at an offset: a prime's worth of them, over and over.
func pattern(offset, n uint64) []byte {
	b := make([]byte, 0, n+uint64(len(patternBytes)))
	b = append(b, patternBytes[offset%uint64(len(patternBytes)):]...)
	for uint64(len(b)) < n {
		b = append(b, patternBytes...)
	}
	return b[:n]
}

var patternBytes = func() []byte {
	b := make([]byte, 10007)
	for i := range b {
		b[i] = byte(i ^ i>>8)
	}
	return b
}()

func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 4 { // each goes on where the one before was killed
		writer := exec.CommandContext(t.Context(), os.Args[0])
		writer.Env = append(os.Environ(), "LOGSTORE_TEST_WRITER="+dir)
		writer.Stderr = os.Stderr
		pipe, err := writer.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		// Its output is taken to the end, so that it is killed in the middle of
		// writing to the log and not to the pipe.
		var acked atomic.Uint64
		reached, drained := make(chan struct{}), make(chan struct{})
		enough := 1 + rnd.IntN(100)
		go func() {
			defer close(drained)
			lines := bufio.NewScanner(pipe)
			for n := 1; lines.Scan(); n++ {
				end, err := strconv.ParseUint(lines.Text(), 10, 64)
				if err == nil { // else it was killed within the line
					acked.Store(max(end, acked.Load()))
				}
				if n == enough {
					close(reached)
				}
			}
		}()
		select {
		case <-reached:
		case <-drained:
			t.Fatal("the writer has ended")
		}
		s := testStore(t, dir, Limits{MaxBytes: 1}, 0) // removes nothing of what is in use
		if l, err := s.Create(testKey, 0); !errors.Is(err, ErrInUse) {
			t.Errorf("created %v beside the other process: %v", l, err)
		}
		sure := acked.Load()
		checkPattern(t, readTo(t, mustRead(t, s, testKey), sure), sure)
		if err := writer.Process.Kill(); err != nil {
			t.Error(err)
		}
		<-drained
		_ = writer.Wait() // it was killed

		found, err := s.Find(testKey.Namespace, testKey.Job)
		if err != nil || len(found) != 1 || found[0].End < acked.Load() {
			t.Fatalf("found %+v, %v", found, err)
		}
		checkPattern(t, mustCollect(t, mustRead(t, s, testKey), 0), found[0].End)
		l := mustCreate(t, s, testKey, 0)
		if _, end := l.Extent(); end != found[0].End {
			t.Errorf("it goes on at %d, found %d", end, found[0].End)
		}
		mustClose(t, l)
	}
}

// checkPattern is for what was read from the beginning, at least to want.
func checkPattern(t *testing.T, c *collected, want uint64) {
	t.Helper()
	if c.next < want || !bytes.Equal(c.all, pattern(0, c.next)) {
		t.Errorf("read %d bytes to %d, at least %d were stored", len(c.all), c.next, want)
	}
}

// readTo reads from the beginning of a log that goes on all the time.
func readTo(t *testing.T, l *Log, want uint64) *collected {
	t.Helper()
	c := &collected{}
	for r := l.Reader(0); c.next < want; {
		b, err := r.Next(t.Context())
		if err == nil {
			err = c.take(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// TestForeignDirectory holds that a log which its owner, such as root, shows nobody does not
// take the store from everybody.
func TestForeignDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	for depth, name := range []string{"ns", "ns/job", "ns/job/other"} {
		dir := t.TempDir()
		s := testStore(t, dir, Limits{}, 0)
		mustClose(t, mustCreate(t, s, keyOf("other"), 0))
		foreign := filepath.Join(dir, name)
		if err := os.Chmod(foreign, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(foreign, 0o700) })
		s = testStore(t, dir, Limits{MaxBytes: 1}, 0) // which wants it gone
		if depth == 2 {
			mustClose(t, mustCreate(t, s, testKey, 0))
			found, err := s.Find("ns", "job")
			if len(found) != 1 || !errors.Is(err, fs.ErrPermission) {
				t.Errorf("found %+v, %v", found, err)
			}
		}
	}
}

// threeFrames writes a log and gives its segment's path, its bytes, and where
// its frames begin and end.
func threeFrames(t testing.TB, dir string, exit bool) (name string, b []byte, bounds []int) {
	t.Helper()
	s := testStore(t, dir, Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	bounds = []int{0}
	add := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, int(l.segments[0].size))
	}
	add(f.try(t, out{stream: stdout, text: "first "}))
	add(f.try(t, out{stream: stdout, text: "second"}, out{stream: stderr, text: "!"}))
	if exit {
		add(l.SetExit(exitAt(f.end)))
	} else {
		add(f.try(t, out{stream: stdout, text: "third"}))
	}
	mustClose(t, l)
	name = l.segments0Name(t)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return name, b, bounds
}

// segments0Name gives the path of a closed log's only segment.
func (l *Log) segments0Name(t testing.TB) string {
	t.Helper()
	segments, err := listSegments(l.dir)
	if err != nil || len(segments) != 1 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	return segments[0].name + segmentSuffix
}

func TestTornTail(t *testing.T) {
	for _, exit := range []bool{false, true} {
		for _, tail := range []string{"", "\x00", strings.Repeat("\x00", 5000)} {
			t.Run(fmt.Sprintf("exit %v, then %d zeros", exit, len(tail)), func(t *testing.T) {
				dir := t.TempDir()
				name, whole, bounds := threeFrames(t, dir, exit)
				s := testStore(t, dir, Limits{}, 0)
				for cut := bounds[2]; cut < bounds[3]; cut++ {
					if tail != "" && cut > bounds[2] {
						break // a frame of which the end is zeros is a wrong checksum
					}
					if err := os.WriteFile(name, append(whole[:cut:cut], tail...), 0o600); err != nil {
						t.Fatal(err)
					}
					c := mustCollect(t, mustRead(t, s, testKey), 0)
					if string(c.all) != "first second!" {
						t.Fatalf("cut at %d: read %q", cut, c.all)
					}
					l := mustCreate(t, s, testKey, 0)
					if l.Exit() != nil {
						t.Fatalf("cut at %d: torn exit record counts", cut)
					}
					f := newFeed(l)
					f.ends[stdout] = 12
					f.add(t, out{stream: stdout, text: "3"})
					mustClose(t, l)
					if c := mustCollect(t, mustRead(t, s, testKey), 0); string(c.all) != "first second!3" {
						t.Fatalf("cut at %d: read %q after appending", cut, c.all)
					}
				}
			})
		}
	}
}

// TestFlippedBits flips a bit of every byte: what is damaged is a gap, which says where
// and why, and what is behind it is shown.
func TestFlippedBits(t *testing.T) {
	for _, exit := range []bool{false, true} {
		t.Run(fmt.Sprintf("exit %t", exit), func(t *testing.T) {
			dir := t.TempDir()
			name, whole, bounds := threeFrames(t, dir, exit)
			s := testStore(t, dir, Limits{}, 0)
			texts := []string{"first ", "second!", "third"}
			if exit {
				texts[2] = ""
			}
			for i := range whole {
				b := bytes.Clone(whole)
				b[i] ^= 1 << (i % 8)
				if err := os.WriteFile(name, b, 0o600); err != nil {
					t.Fatal(err)
				}
				frame := 0
				for i >= bounds[frame+1] {
					frame++
				}
				want := ""
				for n, text := range texts {
					switch {
					case n != frame:
						want += text
					case n < 2:
						want += strings.Repeat("\x00", len(text))
					}
				}
				// In the last frame's body it looks as if not all had reached the disk.
				torn := i >= bounds[2]+headerSize
				log := mustRead(t, s, testKey)
				c, err := collect(t, log, 0)
				if string(c.all) != want || (log.Exit() != nil) != (exit && frame < 2) {
					t.Fatalf("byte %d of frame %d: read %q, exit %v", i, frame, c.all, log.Exit())
				}
				damage, _ := errors.AsType[*DamageError](err)
				if frame < 2 {
					if err != nil || len(c.damages) != 1 {
						t.Fatalf("byte %d of frame %d: %v, %v", i, frame, c.damages, err)
					}
					damage = c.damages[0]
				}
				if torn != (damage == nil) {
					t.Fatalf("byte %d of frame %d: %v", i, frame, err)
				}
				if torn {
					damage, _ = errors.AsType[*DamageError](log.Damage())
				}
				if damage == nil || damage.File != name || damage.Pos != int64(bounds[frame]) || !strings.Contains(damage.Error(), name) {
					t.Errorf("byte %d of frame %d: %v", i, frame, damage)
				}
				l, err := s.Create(testKey, 0)
				if _, refused := errors.AsType[*DamageError](err); torn != (err == nil) || err != nil && !refused {
					t.Fatalf("byte %d of frame %d: create: %v", i, frame, err)
				}
				if err == nil {
					mustClose(t, l)
				}
			}
		})
	}
}

// TestDamageAmongFramesInOutput is about a job that prints what looks like frames: the
// segment of another log.
func TestDamageAmongFramesInOutput(t *testing.T) {
	_, inner, _ := threeFrames(t, t.TempDir(), true)
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	var bounds []int64
	for range 3 {
		bounds = append(bounds, l.segments[0].size)
		f.add(t, out{stream: stdout, text: string(inner)})
	}
	mustClose(t, l)
	name := l.segments0Name(t)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for i := bounds[1]; i < bounds[2]; i++ {
		b := bytes.Clone(whole)
		b[i] ^= 0x10
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := collect(t, mustRead(t, s, testKey), 0)
		want := slices.Concat(inner, make([]byte, len(inner)), inner)
		if err != nil || !bytes.Equal(c.all, want) {
			t.Fatalf("byte %d: %d bytes, %v, %v", i, len(c.all), c.damages, err)
		}
	}
}

// TestTwoDamages is about more than one, in one segment, whose index is sparse.
func TestTwoDamages(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 0)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	var bounds []int64
	const n, size = 600, 1000
	for i := range n {
		bounds = append(bounds, l.segments[0].size)
		f.add(t, out{stream: stdout, text: fmt.Sprintf("%0*d\n", size-1, i), time: testTime.Add(time.Duration(i) * time.Second)})
	}
	if err := l.SetExit(exitAt(f.end)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	name := l.segments0Name(t)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Clone(f.all)
	bad := map[int]bool{3: true, 4: true, 200: true, 202: true, n - 1: true}
	for i := range bad {
		b[bounds[i]+12] ^= 1 // an offset, in the header
		clear(want[i*size:][:size])
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	log := mustRead(t, s, testKey)
	for _, from := range []uint64{0, 3*size + 7, 5 * size, 201 * size, 202*size + 1, 203 * size} {
		c, err := collect(t, log, from)
		if err != nil || !bytes.Equal(c.all, want[from:]) {
			t.Errorf("from %d: %d bytes to %d, %v, %v", from, len(c.all), c.next, c.damages, err)
		}
	}
	if log.Exit() == nil {
		t.Error("no exit record")
	}
	tests := []struct {
		name string
		find func() (uint64, error)
		want uint64
	}{
		{"since what is damaged", func() (uint64, error) { return log.OffsetAtTime(testTime.Add(200 * time.Second)) }, 200 * size},
		{"since what follows damage", func() (uint64, error) { return log.OffsetAtTime(testTime.Add(203 * time.Second)) }, 202 * size},
		{"since what is behind that", func() (uint64, error) { return log.OffsetAtTime(testTime.Add(204 * time.Second)) }, 204 * size},
		{"since the end, which is damaged", func() (uint64, error) { return log.OffsetAtTime(testTime.Add(time.Hour)) }, (n - 1) * size},
		{"lines across damage", func() (uint64, error) { return log.OffsetOfLastLines(n-1-201, stdout, f.end) }, 200*size - size},
	}
	for _, tt := range tests {
		if got, err := tt.find(); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", tt.name, got, err, tt.want)
		}
	}
}

func TestDamageWithRightChecksums(t *testing.T) {
	batch := func(offset uint64, records ...record) []byte {
		h := header{kind: kindBatch, records: len(records), offset: offset}
		b := make([]byte, headerSize+len(records)*recordSize)
		for i, r := range records {
			r.put(b[headerSize+i*recordSize:])
			h.length += int(r.length)
		}
		b = slices.Concat(b, make([]byte, h.length))
		h.bodyCRC = crc32.Checksum(b[headerSize:], castagnoli)
		h.put(b)
		return b
	}
	exit := func(end uint64, body string) []byte {
		return append(putExit(make([]byte, headerSize), end, []byte(body)), body...)
	}
	three := batch(0, record{stream: stdout, length: 3})
	tests := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"another first offset", batch(1, record{stream: stdout, length: 3}), "frame at offset 1, expected 0"},
		{"hole", slices.Concat(three, batch(4, record{stream: stdout, length: 3})), "frame at offset 4, expected 3"},
		{"overlap", slices.Concat(three, batch(2, record{stream: stdout, length: 3})), "frame at offset 2, expected 3"},
		{"unknown stream", batch(0, record{stream: 3, length: 3}), "neither output nor a gap"},
		{"empty record", batch(0, record{stream: stdout}), "neither output nor a gap"},
		{"beyond all offsets", batch(0, record{at: 1 << 63}, record{at: 1 << 63}), "beyond all offsets"},
		{"behind the exit record", slices.Concat(exit(0, ""), three), "behind the exit record"},
		{"no protobuf", exit(0, "\xff"), "can't be read"},
		{"no frame", append(make([]byte, 100), 1), "no frame begins here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			name, _, _ := threeFrames(t, dir, false)
			if err := os.WriteFile(name, tt.bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			s := testStore(t, dir, Limits{}, 0)
			_, err := s.Create(testKey, 0)
			var damage *DamageError
			if !errors.As(err, &damage) || !strings.Contains(damage.Reason, tt.want) {
				t.Errorf("create: %v", err)
			}
		})
	}
}

// TestDamagedOlderSegment holds that what can't be read of a segment is a gap, for its
// writer and for others.
func TestDamagedOlderSegment(t *testing.T) {
	const batch = 1000 + headerSize + recordSize
	tests := []struct {
		name   string
		damage func(name string) error
		left   int // batches of three
		why    string
	}{
		{"short", func(name string) error { return os.Truncate(name, batch+5) }, 1, "at byte 1049"},
		{"cut in a frame", func(name string) error { return os.Truncate(name, 2*batch+500) }, 2, "at byte 2098"},
		{"ends at a frame", func(name string) error { return os.Truncate(name, batch) }, 1, "at byte 1049"},
		{"empty", func(name string) error { return os.Truncate(name, 0) }, 0, "at byte 0"},
		{"zeros", func(name string) error { return os.WriteFile(name, make([]byte, 3*batch), 0o600) }, 0, "no frame begins here"},
		{"gone", os.Remove, 0, ""},
		{"a directory", func(name string) error { return errors.Join(os.Remove(name), os.Mkdir(name, 0o700)) }, 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t, t.TempDir(), Limits{}, 3*batch+100)
			l := mustCreate(t, s, testKey, 0)
			f := newFeed(l)
			for i := range 12 {
				f.add(t, out{stream: stdout, text: strings.Repeat(string(rune('a'+i)), 999) + "\n"})
			}
			second := l.segments[1]
			if second.end-second.first != 3000 || len(l.segments) != 4 {
				t.Fatalf("segments of another size: %d to %d", second.first, second.end)
			}
			if err := l.SetExit(exitAt(f.end)); err != nil {
				t.Fatal(err)
			}
			l.mu.Lock()
			err := second.close() // else its bytes are still there
			l.mu.Unlock()
			if err := errors.Join(err, tt.damage(second.name+segmentSuffix)); err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(f.all)
			clear(want[3000+1000*tt.left : 6000])
			for name, log := range map[string]*Log{"writer": l, "reader": mustRead(t, s, testKey)} {
				c, err := collect(t, log, 0)
				if err != nil || !bytes.Equal(c.all, want) || len(c.damages) != 1 || !strings.Contains(c.damages[0].Error(), tt.why) {
					t.Errorf("%s: read to %d: %v, %v", name, c.next, c.damages, err)
				}
				for lines, want := range map[int]uint64{6: 6000, 6 + tt.left + 1: 2000} {
					if at, err := log.OffsetOfLastLines(lines, stdout, f.end); err != nil || at != want {
						t.Errorf("%s: the last %d lines begin at %d, %v; want %d", name, lines, at, err, want)
					}
				}
			}
		})
	}
}

// TestUnreadable is about what others may not even open.
func TestUnreadable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	tests := []struct {
		name string
		file func(l *Log) string
		want string // what is left to be read
		err  bool   // the end is said to be damaged
	}{
		{"index", func(l *Log) string { return l.segments[0].name + indexSuffix }, "first second!third", false},
		{"segment", func(l *Log) string { return l.segments[0].name + segmentSuffix }, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			threeFrames(t, dir, false)
			s := testStore(t, dir, Limits{}, 0)
			log := mustRead(t, s, testKey)
			if err := os.Chmod(tt.file(log), 0); err != nil {
				t.Fatal(err)
			}
			c, err := collect(t, mustRead(t, s, testKey), 0)
			if string(c.all) != tt.want || errors.Is(err, fs.ErrPermission) != tt.err {
				t.Errorf("read %q, %v", c.all, err)
			}
		})
	}
}

// TestHoleBehindOlderSegment is about a loss of power that has taken the end of a
// segment, and not the one behind it.
func TestHoleBehindOlderSegment(t *testing.T) {
	const batchBytes, perSegment = 1000, 300 // 300 KB: an index of three entries
	const frame = headerSize + recordSize + batchBytes
	tests := []struct {
		name    string
		segment int
		damage  func(name string) error // of a file, without its suffix
		batches uint64                  // that are left; of all where nothing is lost
	}{
		{"nothing", 1, func(string) error { return nil }, 4 * perSegment},
		{"last frame torn", 1, func(name string) error { return os.Truncate(name+segmentSuffix, perSegment*frame-1) }, 2*perSegment - 1},
		{"ends at a frame", 1, func(name string) error { return os.Truncate(name+segmentSuffix, 250*frame) }, perSegment + 250},
		{"ends before the last entries of its index", 1, func(name string) error { return os.Truncate(name+segmentSuffix, 10*frame) },
			perSegment + 10},
		{"no index", 1, func(name string) error {
			return errors.Join(os.Remove(name+indexSuffix), os.Truncate(name+segmentSuffix, 250*frame))
		}, perSegment + 250},
		{"an index of zeros", 1, func(name string) error {
			return errors.Join(os.WriteFile(name+indexSuffix, make([]byte, 3*indexEntrySize), 0o600),
				os.Truncate(name+segmentSuffix, 250*frame))
		}, perSegment + 250},
		{"an index cut short", 1, func(name string) error {
			return errors.Join(os.Truncate(name+indexSuffix, indexEntrySize+1), os.Truncate(name+segmentSuffix, 250*frame))
		}, perSegment + 250},
		{"zeros at its end", 1, func(name string) error {
			return errors.Join(os.Truncate(name+segmentSuffix, 250*frame), os.Truncate(name+segmentSuffix, perSegment*frame))
		}, perSegment + 250},
		{"empty", 2, func(name string) error { return os.Truncate(name+segmentSuffix, 0) }, 2 * perSegment},
		{"the first empty", 0, func(name string) error { return os.Truncate(name+segmentSuffix, 0) }, 0},
		{"gone", 1, func(name string) error { return os.Remove(name + segmentSuffix) }, perSegment},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := testStore(t, t.TempDir(), Limits{}, perSegment*frame)
			l := mustCreate(t, s, testKey, 0)
			f := newFeed(l)
			for i := range 4 * perSegment {
				f.add(t, out{stream: stdout, text: fmt.Sprintf("%0*d", batchBytes, i)})
			}
			if err := l.SetExit(exitAt(f.end)); err != nil {
				t.Fatal(err)
			}
			name := l.segments[tt.segment].name
			mustClose(t, l)
			if err := tt.damage(name); err != nil {
				t.Fatal(err)
			}
			all := *f
			l = mustCreate(t, s, testKey, 0)
			first, end := l.Extent()
			lost := end < all.end
			if first != 0 || end != tt.batches*batchBytes || (l.Exit() == nil) != lost {
				t.Fatalf("extent %d, %d, exit record %v; want %d", first, end, l.Exit(), tt.batches*batchBytes)
			}
			if lost { // the agent sends it again
				f := newFeed(l)
				f.ends[stdout] = end
				for i := tt.batches; i < 4*perSegment; i++ {
					f.add(t, out{stream: stdout, text: fmt.Sprintf("%0*d", batchBytes, i)})
				}
				if err := l.SetExit(exitAt(f.end)); err != nil {
					t.Error(err)
				}
			}
			all.check(t, mustCollect(t, l, 0), 0)
			mustClose(t, l)
			all.check(t, mustCollect(t, mustRead(t, s, testKey), 0), 0)
			mustClose(t, mustCreate(t, s, testKey, 0)) // nothing is left to be mended
		})
	}
}

// TestDamageAtTheEndOfOlderSegment holds that what is stored behind a flipped bit
// is not thrown away.
func TestDamageAtTheEndOfOlderSegment(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 4<<10)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	for range 12 {
		f.add(t, out{stream: stdout, text: strings.Repeat("x", 1000)})
	}
	name := l.segments[1].name + segmentSuffix
	mustClose(t, l)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[headerSize+100] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Create(testKey, 0)
	var damage *DamageError
	if !errors.As(err, &damage) || damage.File != name {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadDir(l.dir); err != nil || len(after) != len(before) {
		t.Errorf("%d files, %d before, %v", len(after), len(before), err)
	}
}

func TestIndexIsNotTrusted(t *testing.T) {
	tests := []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"whole", func(b []byte) []byte { return b }},
		{"empty", func([]byte) []byte { return nil }},
		{"torn", func(b []byte) []byte { return b[:len(b)-5] }},
		{"half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"too long", func(b []byte) []byte { return append(b, b...) }},
		{"garbage", func(b []byte) []byte { return bytes.Repeat([]byte("garbage"), len(b)) }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"flipped bit", func(b []byte) []byte { b[2*indexEntrySize+9] ^= 4; return b }},
		{"another log's", func(b []byte) []byte {
			for i := 1; i < len(b)/indexEntrySize; i++ {
				e, _ := parseEntry(b[i*indexEntrySize:])
				e.offset += 7
				e.put(b[i*indexEntrySize:])
			}
			return b
		}},
		{"positions beyond the file", func(b []byte) []byte {
			indexEntry{offset: 1, pos: 1 << 62}.put(b[indexEntrySize:])
			return b
		}},
		{"negative positions", func(b []byte) []byte {
			indexEntry{offset: 1, pos: -1 << 63}.put(b[indexEntrySize:])
			return b
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(7, 8))
			s := testStore(t, t.TempDir(), Limits{}, 0)
			l := mustCreate(t, s, testKey, 0)
			f := newFeed(l)
			for range 20 {
				f.random(t, rnd, 64<<10)
			}
			mustClose(t, l)
			name := strings.TrimSuffix(l.segments0Name(t), segmentSuffix) + indexSuffix
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := bytes.Clone(b)
			if err := os.WriteFile(name, tt.change(b), 0o600); err != nil {
				t.Fatal(err)
			}
			log := mustRead(t, s, testKey)
			for range 30 {
				from := rnd.Uint64N(f.end + 1)
				f.check(t, mustCollect(t, log, from), from)
			}
			if n := len(log.segments[0].index); n != len(want)/indexEntrySize {
				t.Errorf("index of %d entries, want %d", n, len(want)/indexEntrySize)
			}
			mustClose(t, mustCreate(t, s, testKey, 0))
			if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, want) {
				t.Errorf("the index was not made anew: %d bytes, want %d, %v", len(b), len(want), err)
			}
		})
	}
}

// TestEndlessSegment is a file that would take days to be looked through.
func TestEndlessSegment(t *testing.T) {
	dir := t.TempDir()
	name, _, _ := threeFrames(t, dir, false)
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Fatal(err)
	}
	s := testStore(t, dir, Limits{MaxBytes: 1 << 50}, 0)
	_, readErr := s.Read(testKey)
	_, createErr := s.Create(testKey, 0)
	for _, err := range []error{readErr, createErr} {
		var damage *DamageError
		if !errors.As(err, &damage) || damage.File != name {
			t.Errorf("got %v", err)
		}
	}
}

func TestMissingIndexOfOlderSegment(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 9))
	s := testStore(t, t.TempDir(), Limits{}, 300<<10)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	for range 40 {
		f.random(t, rnd, 64<<10)
	}
	mustClose(t, l)
	names, err := filepath.Glob(filepath.Join(l.dir, "*"+indexSuffix))
	if err != nil || len(names) < 3 {
		t.Fatalf("%d segments, %v", len(names), err)
	}
	for _, name := range names {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	log := mustRead(t, s, testKey)
	for range 30 {
		from := rnd.Uint64N(f.end + 1)
		f.check(t, mustCollect(t, log, from), from)
	}
}
