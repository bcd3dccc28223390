// Package faults proves that a job's output arrives byte for byte, with the real
// agent and launcher as processes and the real coordinator, over mTLS and through
// a network that fails.
//
// HODEI_TEST_SEED repeats the faults of a run that has failed, as far as the
// machine's timing allows. HODEI_TEST_LONG=1 takes the issue's full sizes.
package faults

import (
	"crypto/tls"
	"flag"
	"fmt"
	"hash/maphash"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hodei-jobs/hodei/certs"
)

var testID = certs.ID{Namespace: "jobs", Job: "make-k3x9z"}

// What all tests share, made by TestMain.
var (
	bin       string // directory of hodei-worker and of the agent's certificates
	serverTLS *tls.Config
	long      = os.Getenv("HODEI_TEST_LONG") == "1"
)

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
	// Without the race detector, whatever the tests have: the bounds of memory are
	// those of the program that is shipped.
	build := exec.Command("go", "build", "-o", bin, "../../cmd/hodei-worker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, out)
	}
	authority, err := certs.NewAuthority(0)
	if err != nil {
		return 0, err
	}
	c, err := authority.IssueJob(testID)
	if err != nil {
		return 0, err
	}
	for name, content := range map[string][]byte{"ca.crt": c.CA, "client.crt": c.ClientCert, "client.key": c.ClientKey} {
		if err := os.WriteFile(filepath.Join(bin, name), content, 0o600); err != nil {
			return 0, err
		}
	}
	if serverTLS, err = c.ServerConfig(); err != nil {
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
