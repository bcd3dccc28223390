// Package rogue attacks coordinators with an agent that has a job's certificate and
// keeps to no rule, built on the project's own packages: what hodei run and hodei server
// then hold in memory, on disk and in their messages is bounded, and they go on.
package rogue

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/grpc/mem"

	"github.com/hodei-jobs/hodei/pkg/hodeipb"
	"github.com/hodei-jobs/hodei/test/program"
)

// bin is the directory of hodei, once that is built, and of this test binary as its
// hodei-worker.
var bin string

// build makes hodei, once.
var build = sync.OnceValue(func() error { return program.Build(bin, "hodei") })

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "agent" || os.Args[1] == "launch") {
		os.Exit(runAsWorker(os.Args[1:]))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if bin, err = os.MkdirTemp("", "hodei-rogue-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	if err := os.Symlink(self, filepath.Join(bin, "hodei-worker")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// raw is a message that is encoded already, or is none.
type raw []byte

// codec sends raw messages as they are.
type codec struct{ hodeipb.Codec }

func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(raw); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return c.Codec.Marshal(v)
}
