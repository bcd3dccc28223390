package local

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// jobDir makes an empty directory where those of jobs are.
func jobDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(parentDir(), dirPrefix+rand.Text())
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// A name is taken while its job's process holds the lock, and no longer.
func TestClaim(t *testing.T) {
	claim := func(name string) (*Run, error) {
		r := &Run{name: name, dir: jobDir(t)}
		t.Cleanup(r.Close)
		return r, r.claim()
	}
	first, err := claim("claim-a")
	if err != nil {
		t.Fatal(err)
	}
	if pid := Running("claim-a"); pid != os.Getpid() {
		t.Errorf("got process %d, want %d", pid, os.Getpid())
	}
	second, err := claim("claim-a")
	if err == nil || !strings.Contains(err.Error(), `a job "claim-a" runs on this machine`) {
		t.Errorf("a second one of its name: got %v", err)
	} else if f := failure("start", err); f != err {
		t.Errorf("it is told as %v", f)
	}
	if _, err := claim("claim-b"); err != nil {
		t.Errorf("another name: got %v", err)
	}
	second.Close()
	first.Close()
	if pid := Running("claim-a"); pid != 0 {
		t.Errorf("after its end: got process %d", pid)
	}
}

// The files of a process that was killed take no name.
func TestRunningKilled(t *testing.T) {
	dir := jobDir(t)
	for file, text := range map[string]string{nameFile: "claim-killed", pidFile: "1", lockFile: ""} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if pid := Running("claim-killed"); pid != 0 {
		t.Errorf("got process %d", pid)
	}
}
