package logstore

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What is no file is not waited for.
func TestDocumentFIFO(t *testing.T) {
	s, err := Open(t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Namespace: "ns", Job: "j", Attempt: "a", AttemptUID: "uid"}
	l, err := s.Create(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := unix.Mkfifo(filepath.Join(s.dir, "ns", "j", "uid", "usage"+documentSuffix), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := s.Document(key, "usage"); err == nil {
		t.Errorf("got %q", b)
	}
}
