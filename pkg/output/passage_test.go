package output

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/pkg/output/outputtest"
)

func TestPassage(t *testing.T) {
	log := outputtest.NewLog(t, "x", 4)
	outputtest.Store(t, log, outputtest.Batch(4, "out:ab", "err:cd", "out:ef"))
	outputtest.Store(t, log, outputtest.Batch(10, 5, "out:gh"))
	for _, test := range []struct {
		from, to uint64
		stream   hodeipb.Stream
		want     string
		gaps     string
	}{
		{0, math.MaxUint64, 0, "abcdefgh", "0+4 10+5"},
		{4, math.MaxUint64, 0, "abcdefgh", "10+5"},
		{5, 9, 0, "bcde", ""},
		{5, 10, hodeipb.Stream_STDOUT, "bef", ""},
		{4, 17, hodeipb.Stream_STDERR, "cd", "10+5"},
		{17, math.MaxUint64, 0, "", ""},
		{4, 4, 0, "", ""},
	} {
		t.Run(fmt.Sprint(test.from, test.to, test.stream), func(t *testing.T) {
			p := NewPassage("x", log, test.from)
			p.To = test.to
			p.End()
			kept := &keptSink{}
			var s Sink = kept
			if test.stream != 0 {
				s = oneStream{s, test.stream}
			}
			if err := p.Show(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if got := kept.String(); got != test.want || strings.Join(kept.gaps, " ") != test.gaps || kept.flushed != 1 {
				t.Errorf("got %q, gaps %q, flushed %d times; want %q and %q", got, kept.gaps, kept.flushed, test.want, test.gaps)
			}
		})
	}
	p := NewPassage("x", log, 4)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	if err := p.Show(ctx, &keptSink{}); !errors.Is(err, errLeft) {
		t.Errorf("got %v", err)
	}
}

// keptSink keeps what it is shown.
type keptSink struct {
	bytes.Buffer          // of both streams
	gaps         []string // each as offset+bytes
	flushed      int      // how often
}

func (s *keptSink) Record(_ string, _ uint64, _ *hodeipb.Record, data []byte) error {
	s.Write(data)
	return nil
}

func (s *keptSink) Gap(g Gap) error {
	s.gaps = append(s.gaps, fmt.Sprintf("%d+%d", g.Offset, g.Bytes))
	return nil
}

func (s *keptSink) Flush() error {
	s.flushed++
	return nil
}
