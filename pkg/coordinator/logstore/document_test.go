package logstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDocument(t *testing.T) {
	s, err := Open(t.TempDir(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Namespace: "ns", Job: "j", Attempt: "a", AttemptUID: "uid"}
	l, err := s.Create(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(key, "usage"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before there is one: %v, want %v", err, fs.ErrNotExist)
	}
	for _, text := range []string{"first and longer", "second", ""} {
		if err := l.SetDocument("usage", []byte(text)); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Document(key, "usage"); err != nil || string(b) != text {
			t.Errorf("%q, %v, want %q", b, err, text)
		}
	}
	for _, name := range []string{"", ".", "a/b", "../x", strings.Repeat("x", 300)} {
		if err := l.SetDocument(name, nil); err == nil {
			t.Errorf("SetDocument(%q) is no error", name)
		}
		if _, err := s.Document(key, name); err == nil {
			t.Errorf("Document(%q) is no error", name)
		}
	}
	if err := l.SetDocument("usage", make([]byte, MaxDocumentBytes+1)); err == nil {
		t.Error("a document that is too large is no error")
	}
	path := filepath.Join(s.dir, "ns", "j", "uid", "usage"+documentSuffix)
	if err := os.WriteFile(path, make([]byte, MaxDocumentBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Document(key, "usage"); err == nil {
		t.Error("reading one that is too large is no error")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.SetDocument("usage", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want %v", err, ErrClosed)
	}
	// A second writer finds the output as it was.
	l, err = s.Create(key, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, err := s.Read(key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetDocument("usage", nil); !errors.Is(err, errReadOnly) {
		t.Errorf("read only: %v, want %v", err, errReadOnly)
	}
}
