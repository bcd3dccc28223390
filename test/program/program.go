// Package program is for tests that run hodei's programs as processes: [Build] makes them,
// and [Until] waits for what they bring about.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// Patience bounds what a test waits for; only a failing one comes near.
const Patience = 2 * time.Minute

// Build puts programs of cmd, each by its name, into a directory. They are as those that
// are shipped, without the race detector, whatever the tests have: so that bounds of memory
// are theirs, and `make build` and the tests find what the other has compiled.
//
// It takes a minute where nothing is compiled yet: call it from the tests that run a
// program, not from TestMain, which comes also where no test matches -run.
func Build(dir string, names ...string) error {
	args := []string{"build", "-trimpath", "-ldflags", "-s -w", "-o", dir + string(os.PathSeparator)}
	for _, name := range names {
		args = append(args, "github.com/hodei-jobs/hodei/cmd/"+name)
	}
	build := exec.Command("go", args...)
	build.Env = append(build.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
}

// Until looks every 20 ms whether there is what, which another process brings about. The
// test fails when it does not come within [Patience].
func Until(t *testing.T, what string, there func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(Patience); !there(); {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatalf("no %s within %s", what, Patience)
		}
	}
}
