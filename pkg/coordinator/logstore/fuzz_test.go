package logstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"testing"
)

// FuzzSegment reads arbitrary bytes as a segment and its index: what is given
// is a prefix of what right checksums vouch for, in bounded memory, and the log
// goes on behind it.
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
		want := vouched(segment)
		l := mustRead(t, s, testKey)
		got := readPrefix(t, l, want)
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
			got = append(got, "more"...)
			want = append(want, "more"...)
		}
		if after := readPrefix(t, mustRead(t, s, testKey), want); !bytes.Equal(after, got) {
			t.Errorf("read %q before, %q after", got, after)
		}
	})
}

func tolerate(t *testing.T, err error) {
	t.Helper()
	var damage *DamageError
	if !errors.As(err, &damage) {
		t.Error(err)
	}
}

// readPrefix gives all the data of a log, which want begins with.
func readPrefix(t *testing.T, l *Log, want []byte) []byte {
	t.Helper()
	var got []byte
	r := l.Reader(0)
	for {
		b, err := r.Next(t.Context())
		if err != nil {
			if err != io.EOF {
				tolerate(t, err)
			}
			break
		}
		got = append(got, b.Data...)
	}
	if !bytes.HasPrefix(want, got) {
		t.Errorf("read %q, of which right checksums vouch for %q", got, want)
	}
	if cap(r.scan.buf) > maxFrameSize {
		t.Errorf("buffer of %d bytes", cap(r.scan.buf))
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

// vouched gives the data of the frames from the beginning whose checksums are
// right, found with nothing of the code under test.
func vouched(b []byte) (data []byte) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for len(b) >= 28 {
		rows := 21 * int(binary.LittleEndian.Uint16(b[6:]))
		size := 28 + rows + int(binary.LittleEndian.Uint32(b[8:]))
		if size > len(b) || crc32.Checksum(b[:24], table) != binary.LittleEndian.Uint32(b[24:]) ||
			crc32.Checksum(b[28:size], table) != binary.LittleEndian.Uint32(b[20:]) {
			break
		}
		if b[4] == kindBatch {
			data = append(data, b[28+rows:size]...)
		}
		b = b[size:]
	}
	return data
}
