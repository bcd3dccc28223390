package agent

import (
	"context"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/hodei-jobs/hodei/agent/handover"
	"github.com/hodei-jobs/hodei/agent/spool"
	"github.com/hodei-jobs/hodei/pkg/hodeipb"
)

// TestDrain: what the command has printed is taken whole, also where the command has made
// its pipe larger since the agent has it.
func TestDrain(t *testing.T) {
	const printed = 1 << 20 // /proc/sys/fs/pipe-max-size: the most without privileges; more than pipeBytes
	s, err := spool.Open(t.TempDir(), 2*printed, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	r, w, err := handover.MakePipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := openPipe(r, hodeipb.Stream_STDOUT)
	if err != nil {
		t.Fatal(err)
	}
	o := &output{agent: &agent{Config: Config{Log: slog.New(slog.DiscardHandler)}, spool: s}, pipes: []*pipe{p}}
	ctx, giveUp := context.WithCancelCause(t.Context())
	o.giveUp = giveUp
	defer o.close()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, printed); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, printed)); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if !o.drain(ctx, p) {
		t.Error("somebody would still hold the pipe")
	}
	if _, end := s.Extent(); end != printed {
		t.Errorf("%d bytes of %d are taken", end, printed)
	}
}
