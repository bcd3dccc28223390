package logstore

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

func TestOffsetAtTime(t *testing.T) {
	at := func(seconds int) time.Time { return testTime.Add(time.Duration(seconds) * time.Second) }
	s := testStore(t, t.TempDir(), Limits{}, 150) // two batches each
	l := mustCreate(t, s, testKey, 100)
	if got, err := l.OffsetAtTime(at(0)); got != 100 || err != nil {
		t.Errorf("of an empty log: %d, %v", got, err)
	}
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "a", time: at(0)}, out{stream: stderr, text: "b", time: at(2)})
	f.add(t, out{stream: stdout, text: "c", time: at(2)})
	f.add(t, out{stream: stdout, text: "d", time: at(1)}) // the clock was set back
	f.add(t, out{stream: stdout, text: "e", time: at(4)}, out{lost: 5, time: at(5)})
	f.add(t, out{stream: stdout, text: "f", time: at(7)})
	tests := []struct {
		name string
		time time.Time
		want uint64
	}{
		{"no time", time.Time{}, 100},
		{"far future", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 111},
		{"before all", at(-1), 100},
		{"the first", at(0), 100},
		{"just behind", at(0).Add(1), 101},
		{"between", at(1), 101},
		{"twice the same", at(2), 101},
		{"not the one after the clock was set back", at(3), 104},
		{"a gap", at(5), 105},
		{"behind a gap", at(6), 110},
		{"the last", at(7), 110},
		{"behind all", at(8), 111},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, l := range map[string]*Log{"writer": l, "reader": mustRead(t, s, testKey)} {
				if got, err := l.OffsetAtTime(tt.time); got != tt.want || err != nil {
					t.Errorf("%s: got %d, want %d, %v", name, got, tt.want, err)
				}
			}
		})
	}
}

// TestOffsetAtTimeByIndex compares with the plain search in a log of many entries.
func TestOffsetAtTimeByIndex(t *testing.T) {
	rnd := rand.New(rand.NewPCG(9, 10))
	s := testStore(t, t.TempDir(), Limits{}, 1<<20)
	l := mustCreate(t, s, testKey, 0)
	f := newFeed(l)
	now := testTime
	for range 100 {
		now = now.Add(time.Duration(rnd.IntN(1000)-200) * time.Millisecond)
		f.add(t, out{stream: stdout, text: strings.Repeat("x", 20_000), time: now},
			out{stream: stderr, text: "y", time: now.Add(time.Millisecond)})
	}
	read := mustRead(t, s, testKey)
	for range 200 {
		at := f.times[rnd.IntN(len(f.times))].time.Add(time.Duration(rnd.IntN(3) - 1))
		want := f.end
		for _, stamp := range f.times {
			if !stamp.time.Before(at) {
				want = stamp.offset
				break
			}
		}
		for name, l := range map[string]*Log{"writer": l, "reader": read} {
			if got, err := l.OffsetAtTime(at); got != want || err != nil {
				t.Fatalf("%s: got %d, want %d, %v", name, got, want, err)
			}
		}
	}
}

func TestOffsetOfLastLines(t *testing.T) {
	s := testStore(t, t.TempDir(), Limits{}, 150)
	l := mustCreate(t, s, testKey, 100)
	if got, err := l.OffsetOfLastLines(3, 0, 1000); got != 100 || err != nil {
		t.Errorf("of an empty log: %d, %v", got, err)
	}
	f := newFeed(l)
	f.add(t, out{stream: stdout, text: "ab\nc"}, out{stream: stderr, text: "E\nF\n"})
	f.add(t, out{stream: stdout, text: "d\n"}, out{lost: 10})
	f.add(t, out{stream: stdout, text: "\nlast"})
	tests := []struct {
		name   string
		n      int
		stream hodeipb.Stream
		end    uint64
		want   uint64
	}{
		{"none", 0, 0, 125, 125},
		{"less than none", -1, 0, 125, 125},
		{"no newline at the end", 1, 0, 125, 121},
		{"an empty line", 2, stdout, 125, 120},
		{"behind the other stream", 3, stdout, 125, 103},
		{"all of a stream", 4, stdout, 125, 100},
		{"more than all", 100, stdout, 125, 100},
		{"newline at the end", 1, stderr, 125, 106},
		{"two", 2, stderr, 125, 100},
		{"both", 4, 0, 125, 106},
		{"before the end", 1, stdout, 110, 103},
		{"within a record", 1, stdout, 102, 100},
		{"behind a newline", 1, stdout, 103, 100},
		{"in a gap", 1, stdout, 115, 103},
		{"beyond the end", 1, stdout, 9999, 121},
		{"at the first", 1, 0, 100, 100},
		{"below the first", 1, 0, 5, 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, l := range map[string]*Log{"writer": l, "reader": mustRead(t, s, testKey)} {
				if got, err := l.OffsetOfLastLines(tt.n, tt.stream, tt.end); got != tt.want || err != nil {
					t.Errorf("%s: got %d, want %d, %v", name, got, tt.want, err)
				}
			}
		})
	}
}

// lastLines is the plain way.
func (f *feed) lastLines(n int, stream hodeipb.Stream, end uint64) uint64 {
	if n <= 0 {
		return end
	}
	before := 0 // bytes of the stream
	for _, p := range f.pieces[stream] {
		if p.offset < end {
			before += min(p.length, int(end-p.offset))
		}
	}
	text := f.streams[stream][:before]
	lines := bytes.SplitAfter(text, []byte{'\n'})
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	if n >= len(lines) {
		return 0
	}
	start := len(text) - len(bytes.Join(lines[len(lines)-n:], nil))
	for _, p := range f.pieces[stream] {
		if start < p.length {
			return p.offset + uint64(start)
		}
		start -= p.length
	}
	return end
}

func TestOffsetOfLastLinesOfRandomOutput(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		s := testStore(t, t.TempDir(), Limits{}, 500<<10)
		l := mustCreate(t, s, testKey, 0)
		f := newFeed(l)
		for f.end < 800_000 {
			if rnd.IntN(10) == 0 {
				f.add(t, out{lost: 1 + rnd.Uint64N(100)})
			}
			f.random(t, rnd, []int{10, 1000, 60_000}[rnd.IntN(3)])
		}
		lines := bytes.Count(f.streams[0], []byte{'\n'})
		read := mustRead(t, s, testKey)
		for range 40 {
			n := []int{rnd.IntN(10), rnd.IntN(lines + 10)}[rnd.IntN(2)]
			stream := hodeipb.Stream(rnd.IntN(3))
			end := []uint64{f.end, rnd.Uint64N(f.end)}[rnd.IntN(2)]
			want := f.lastLines(n, stream, end)
			for name, l := range map[string]*Log{"writer": l, "reader": read} {
				if got, err := l.OffsetOfLastLines(n, stream, end); got != want || err != nil {
					t.Fatalf("seed %d, %s: last %d lines of %v before %d: got %d, want %d, %v", seed, name, n, stream, end, got, want, err)
				}
			}
		}
	}
}
