// Package faults proves that a job's output arrives byte for byte, with the real
// agent and launcher as processes and the real coordinator, over mTLS and through
// a network that fails.
//
// HODEI_TEST_SEED repeats the faults of a run that has failed, as far as the
// machine's timing allows. HODEI_TEST_LONG=1 takes the full sizes.
package faults

import (
	"flag"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/hodei-jobs/hodei/certs"
	"github.com/hodei-jobs/hodei/test/program"
)

// What all tests share, made by TestMain.
var (
	bin       string // directory for hodei-worker
	authority *certs.Authority
	long      = os.Getenv("HODEI_TEST_LONG") == "1"
)

// buildWorker makes hodei-worker, once.
var buildWorker = sync.OnceValue(func() error { return program.Build(bin, "hodei-worker") })

// hodeiWorker is hodei-worker with arguments.
func hodeiWorker(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if err := buildWorker(); err != nil {
		t.Fatal(err)
	}
	return exec.Command(filepath.Join(bin, "hodei-worker"), args...)
}

func TestMain(m *testing.M) {
	if text := os.Getenv(jobVariable); text != "" {
		os.Exit(runJob(text))
	}
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func setUp(m *testing.M) (int, error) {
	// The tests wait for timers more than they compute.
	if err := flag.Set("test.parallel", "8"); err != nil {
		return 0, err
	}
	var err error
	if bin, err = os.MkdirTemp("", "hodei-faults-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(bin)
	if authority, err = certs.NewAuthority(0); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// newSeed is HODEI_TEST_SEED, or one that no run had before. A test that fails
// tells it.
func newSeed(t testing.TB) uint64 {
	t.Helper()
	seed := maphash.Bytes(maphash.MakeSeed(), nil)
	if text := os.Getenv("HODEI_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HODEI_TEST_SEED=%d", seed)
	return seed
}
