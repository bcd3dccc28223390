package agent

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/agent/agenttest"
	"github.com/hodei-jobs/hodei/agent/spool"
)

// path is one on which output passes at two rates, in bytes/s: as it is, and
// compressed; ratio is what compression leaves of it.
type path struct {
	plain, compressed float64
	ratio             float64
	idle              bool // the job prints less than passes
}

// pass lets output pass for d, a batch of 64 KiB at a time, with an ack each
// 10 ms, and returns for how much of the time it went compressed.
func (p path) pass(c *chooser, now time.Time, d time.Duration) (time.Time, float64) {
	end := c.from // as much as was sent
	var acked time.Time
	var compressed time.Duration
	for until := now.Add(d); now.Before(until); {
		rate, wire := p.plain, spool.BatchBytes
		if c.zstd {
			rate, wire = p.compressed, int(p.ratio*spool.BatchBytes)
		}
		took := time.Duration(spool.BatchBytes / rate * float64(time.Second))
		now = now.Add(took)
		if c.zstd {
			compressed += took
		}
		end += spool.BatchBytes
		c.sent(end, spool.BatchBytes, wire, p.idle, now)
		if now.Sub(acked) >= 10*time.Millisecond {
			c.acked(end, end, now)
			acked = now
		}
	}
	return now, compressed.Seconds() / d.Seconds()
}

func TestChooser(t *testing.T) {
	tests := []struct {
		name        string
		path        path
		least, most float64 // of a minute compressed
	}{
		{"tunnel, text", path{plain: 80e6, compressed: 300e6, ratio: 0.1}, 0.9, 1},
		{"loopback, text", path{plain: 1000e6, compressed: 350e6, ratio: 0.1}, 0, 0.05},
		{"tunnel, random", path{plain: 80e6, compressed: 78e6, ratio: 1}, 0, 0.05},
		{"not worth it", path{plain: 80e6, compressed: 90e6, ratio: 0.5}, 0, 0.05},
		{"mobile phone", path{plain: 0.5e6, compressed: 4e6, ratio: 0.12}, 0.8, 1},
		{"idle", path{plain: 80e6, compressed: 300e6, ratio: 0.1, idle: true}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c chooser
			if _, part := tt.path.pass(&c, time.Unix(1, 0), time.Minute); part < tt.least || part > tt.most {
				t.Errorf("compressed for %.2f of the time, want %.2f to %.2f", part, tt.least, tt.most)
			}
		})
	}
}

// TestChooserChanges lets the path or the output change under way.
func TestChooserChanges(t *testing.T) {
	tunnel := path{plain: 80e6, compressed: 300e6, ratio: 0.1}
	random := path{plain: 80e6, compressed: 78e6, ratio: 1}
	loopback := path{plain: 1000e6, compressed: 350e6, ratio: 0.1}
	var c chooser
	now, _ := tunnel.pass(&c, time.Unix(1, 0), 5*time.Second)
	if !c.zstd {
		t.Fatal("not compressed through the tunnel")
	}
	for _, step := range []struct {
		name string
		path path
		want bool
	}{{"random", random, false}, {"text again", tunnel, true}, {"a fast path", loopback, false}, {"a slow one", tunnel, true}} {
		if now, _ = step.path.pass(&c, now, 40*time.Second); c.trial {
			now, _ = step.path.pass(&c, now, time.Second)
		}
		if c.zstd != step.want {
			t.Errorf("%s: compressed: %v", step.name, c.zstd)
		}
	}
}

func TestCompress(t *testing.T) {
	c := newCompressor()
	text := []byte(strings.Repeat("a line like others\n", spool.BatchBytes/19))
	tests := []struct {
		name string
		data mem.BufferSlice
		want bool
	}{
		{"text", mem.BufferSlice{mem.SliceBuffer(text)}, true},
		{"in two chunks", mem.BufferSlice{mem.SliceBuffer(text[:100]), mem.SliceBuffer(text[100:])}, true},
		{"little", mem.BufferSlice{mem.SliceBuffer(text[:minCompressed-1])}, false},
		{"random", mem.BufferSlice{mem.SliceBuffer(agenttest.RandomBytes(rand.New(rand.NewPCG(1, 2)), spool.BatchBytes))}, false},
	}
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.data.Materialize()
			data, ok := c.compress(tt.data)
			defer data.Free()
			if ok != tt.want {
				t.Fatalf("compressed: %v", ok)
			}
			got := data.Materialize()
			if ok {
				if len(got) >= len(want) {
					t.Errorf("%d bytes became %d", len(want), len(got))
				}
				if got, err = decoder.DecodeAll(got, nil); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%d other bytes came back for %d", len(got), len(want))
			}
		})
	}
}
