package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// FuzzSegment reads arbitrary bytes as a segment and its index: what is given is what
// right checksums vouch for, at the offsets that they do, in bounded memory; what stands
// before the first damage is given whole; and the log goes on behind it.
func FuzzSegment(f *testing.F) {
	for _, exit := range []bool{false, true} {
		name, whole, bounds := threeFrames(f, f.TempDir(), exit)
		index, err := os.ReadFile(name[:len(name)-len(segmentSuffix)] + indexSuffix)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(whole, index, false)
		f.Add(whole[:bounds[2]+headerSize+2], index[:3], false)
		f.Add(append(bytes.Clone(whole[:bounds[1]]), whole[bounds[2]:]...), []byte{}, true)
	}
	f.Fuzz(func(t *testing.T, segment, index []byte, sealed bool) {
		if sealed { // else few inputs get beyond the checksums
			segment = bytes.Clone(segment)
			seal(segment)
		}
		s := testStore(t, t.TempDir(), Limits{}, 0)
		dir, err := s.path(testKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		name := segmentName(dir, 0)
		for suffix, b := range map[string][]byte{segmentSuffix: segment, indexSuffix: index} {
			if err := os.WriteFile(name+suffix, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		l := mustRead(t, s, testKey)
		got := readVouched(t, l, segment)
		_, end := l.Extent()
		if _, err := l.OffsetOfLastLines(2, stdout, end); err != nil {
			tolerate(t, err)
		}
		if _, err := l.OffsetAtTime(testTime); err != nil {
			tolerate(t, err)
		}

		w, err := s.Create(testKey, 0)
		if err != nil {
			tolerate(t, err)
			return
		}
		defer mustClose(t, w)
		if w.Exit() == nil && w.end < 1<<63 {
			c := newFeed(w)
			c.add(t, out{stream: stdout, text: "more"})
			if segment, err = os.ReadFile(name + segmentSuffix); err != nil {
				t.Fatal(err)
			}
			got = append(got, given{w.end - 4, "more"})
		}
		if after := readVouched(t, mustRead(t, s, testKey), segment); !slices.Equal(after, got) {
			t.Errorf("read %v before, %v after", got, after)
		}
	})
}

// TestRandomDamage does so to what was a log, many times: bits are flipped, and stretches
// of bytes removed, doubled, cleared and put elsewhere.
func TestRandomDamage(t *testing.T) {
	dir := t.TempDir()
	s := testStore(t, dir, Limits{}, 0)
	rnd := rand.New(rand.NewPCG(11, 12))
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	for range 40 {
		f.random(t, rnd, 200)
	}
	if err := l.SetExit(exitAt(f.end)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, l)
	name := l.segments0Name(t)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 {
		b := bytes.Clone(whole)
		for range 1 + rnd.IntN(4) {
			at := rnd.IntN(len(b))
			stretch := b[at:][:rnd.IntN(min(len(b)-at, 2000))+1]
			switch rnd.IntN(5) {
			case 0:
				b[at] ^= 1 << rnd.IntN(8)
			case 1:
				b = slices.Delete(b, at, at+len(stretch))
			case 2:
				b = slices.Insert(b, at, bytes.Clone(stretch)...)
			case 3:
				clear(stretch)
			case 4:
				copy(b[rnd.IntN(len(b)):], bytes.Clone(stretch))
			}
			if len(b) == 0 {
				break
			}
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := mustRead(t, s, testKey)
		readVouched(t, r, b)
		mustClose(t, r)
		if t.Failed() {
			t.Fatalf("of %q", b)
		}
	}
}

func tolerate(t *testing.T, err error) {
	t.Helper()
	var damage *DamageError
	if !errors.As(err, &damage) {
		t.Error(err)
	}
}

// given is output at its offset.
type given struct {
	offset uint64
	text   string
}

// readVouched gives all the output of a log, which is of frames of its segment whose
// checksums are right: from the first on, all up to where one is not.
func readVouched(t *testing.T, l *Log, segment []byte) []given {
	t.Helper()
	var got []given
	at := uint64(0)
	for r := l.Reader(0); ; {
		b, err := r.Next(t.Context())
		if err != nil {
			if err != io.EOF {
				tolerate(t, err)
			}
			if cap(r.scan.buf) > maxFrameSize {
				t.Errorf("buffer of %d bytes", cap(r.scan.buf))
			}
			break
		}
		if b.Offset != at {
			t.Fatalf("batch at %d behind output up to %d", b.Offset, at)
		}
		if r.Damage() != nil && (len(b.Data) > 0 || len(b.Records) != 1) {
			t.Errorf("damage is no gap: %v", b)
		}
		data := b.Data
		for _, rec := range b.Records {
			if rec.Length > 0 {
				got = append(got, given{at, string(data[:rec.Length])})
			}
			data = data[rec.Length:]
			at += uint64(rec.Length) + rec.Lost
		}
	}
	prefix, anywhere := vouched(segment)
	if n := len(prefix); n > len(got) || !slices.Equal(got[:n], prefix) {
		t.Errorf("read %v, which does not begin with %v", got, prefix)
	}
	for _, g := range got {
		if !anywhere[g] {
			t.Errorf("read %q at offset %d, for which no checksum vouches", g.text, g.offset)
		}
	}
	return got
}

// seal makes the checksums of frames right.
func seal(b []byte) {
	for len(b) >= headerSize {
		copy(b, magic[:])
		b[5], b[10], b[11] = 0, 0, 0 // lengths that fit in
		h, _ := parseHeader(b)
		size := min(h.size(), len(b))
		h.bodyCRC = crc32.Checksum(b[headerSize:size], castagnoli)
		h.put(b)
		b = b[size:]
	}
}

// vouched gives the output of the frames that follow each other from the beginning, and
// of all that stand anywhere, whose checksums are right: found with nothing of the code
// under test.
func vouched(b []byte) (prefix []given, anywhere map[given]bool) {
	table := crc32.MakeTable(crc32.Castagnoli)
	anywhere = map[given]bool{}
	next, end := 0, uint64(0)
	for pos := 0; len(b)-pos >= 28; pos++ {
		f := b[pos:]
		rows := 21 * int(binary.LittleEndian.Uint16(f[6:]))
		size := 28 + rows + int(binary.LittleEndian.Uint32(f[8:]))
		if size > len(f) || crc32.Checksum(f[:24], table) != binary.LittleEndian.Uint32(f[24:]) ||
			crc32.Checksum(f[28:size], table) != binary.LittleEndian.Uint32(f[20:]) {
			continue
		}
		at, data := binary.LittleEndian.Uint64(f[12:]), f[28+rows:size]
		follows := pos == next && at == end && f[4] == kindBatch
		var of []given
		for row := f[28:][:rows]; len(row) > 0; row = row[21:] {
			n := binary.LittleEndian.Uint32(row[1:])
			if row[0] == 0 {
				at += binary.LittleEndian.Uint64(row[13:])
				continue
			}
			if int(n) > len(data) {
				of = nil
				break
			}
			of = append(of, given{at, string(data[:n])})
			data, at = data[n:], at+uint64(n)
		}
		for _, g := range of {
			anywhere[g] = true
		}
		if follows && valid(f[:size]) {
			prefix, next, end = append(prefix, of...), pos+size, at
		}
	}
	return prefix, anywhere
}

// valid tells that a frame of right checksums is one that a log would have written.
func valid(b []byte) bool {
	h, ok := parseHeader(b)
	f := frame{header: h, table: b[headerSize:][:h.records*recordSize]}
	return ok && f.check() == nil
}
