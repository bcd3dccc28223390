package logstore

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
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

// Output is stored while a document waits for its disk, here a FIFO that nobody reads,
// and Close waits for it.
func TestAppendBesideDocument(t *testing.T) {
	s, err := Open(t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Namespace: "ns", Job: "j", Attempt: "a", AttemptUID: "uid"}
	l := mustCreate(t, s, key, 0)
	path := filepath.Join(s.dir, "ns", "j", "uid", "usage"+documentSuffix+".new")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	stored := make(chan error, 1)
	go func() { stored <- l.SetDocument("usage", bytes.Repeat([]byte("x"), 1<<20)) }() // more than a FIFO holds
	fifo, err := os.Open(path)                                                         // returns once it is written to
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	newFeed(l).add(t, out{stream: stdout, text: "text"})
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	<-l.closing
	if _, err := io.Copy(io.Discard, fifo); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err == nil { // a FIFO can't be synced, and the log is closed
		t.Error("storing the document is no error")
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, name := range []string{path, filepath.Join(s.dir, "ns", "j", "uid", "usage"+documentSuffix)} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
}
